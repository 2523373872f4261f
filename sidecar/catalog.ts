/**
 * What a server knows of its deployment's Topics: the catalog topic, read whole at start and followed.
 * Neither operator nor API server need be up for it (DESIGN: servers and operator meet in data).
 */
import type { TopicId } from "../kafka/log.ts";

export interface CatalogTopic {
  /** `<namespace>/<name>`. */
  readonly name: string;
  readonly namespace: string;
  readonly kafkaTopic: string;
  readonly topicId: TopicId;
  readonly partitions: number;
  readonly ordering: "Key" | "Total" | "Commit";
  readonly state: "Ready" | "DataLost" | "Retained";
  readonly maxEventBytes: number;
  /** Other namespaces that may publish, subscribe. */
  readonly publishNamespaces: readonly string[];
  readonly subscribeNamespaces: readonly string[];
}

export interface Catalog {
  get(name: string): CatalogTopic | undefined;
  list(): readonly CatalogTopic[];
  /** Calls back with the name of each Topic that was added, changed or removed; returns the stop. */
  onChange(listener: (name: string) => void): () => void;
}
