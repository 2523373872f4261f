/** A Topic as an API server has it, and its status. */
import type { TopicResource } from "../validate.ts";
import type { Condition, KubeResource, ResourceApi } from "./resource-api.ts";

/** `status` of a Topic, as the CRD has it. */
export interface KubeStatus {
  readonly observedGeneration?: number;
  readonly kafkaTopic?: string;
  readonly topicId?: string;
  readonly adopted?: boolean;
  readonly partitions?: number;
  readonly replicas?: number;
  readonly conditions?: readonly Condition[];
}

export interface KubeTopic extends TopicResource, KubeResource {
  readonly metadata: KubeResource["metadata"];
  readonly spec: TopicResource["spec"];
  readonly status?: KubeStatus;
}

export type TopicApi = ResourceApi<KubeTopic>;
