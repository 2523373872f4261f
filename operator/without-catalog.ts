/**
 * In the reconciler's place while this operator leads and cannot take the catalog over, Kafka being away or the
 * catalog another's: each Topic says why, deletions wait, and nothing is done.
 */
import { Refused } from "./kafka-outcome.ts";
import type { Owner, Reconciler, TopicStatus, Why } from "./reconcile.ts";
import { kafkaTopicOf } from "./topic-spec.ts";
import type { TopicResource } from "./validate.ts";

export class WithoutCatalog implements Pick<Reconciler, "apply" | "delete"> {
  #why: Why;

  constructor(error: Error) {
    this.#why = whyOf(error);
  }

  /** The last attempt's. */
  failedAgain(error: Error): void {
    this.#why = whyOf(error);
  }

  async apply(topic: TopicResource, { recorded }: Owner): Promise<TopicStatus> {
    return {
      ...{ ready: false, ...this.#why, kafkaTopic: kafkaTopicOf(topic) },
      ...{ topicId: recorded?.topicId ?? "", adopted: recorded?.adopted ?? false },
      ...{ partitions: 0, replicas: 0 },
    };
  }

  async delete(): Promise<Why> {
    return this.#why;
  }
}

function whyOf(error: Error): Why {
  const isAway = error instanceof Refused && error.reason === "KafkaUnavailable";
  return { reason: isAway ? error.reason : "CatalogUnavailable", message: error.message };
}
