/** How far the partitions of a topic go, as kafkajs sees it. */
import { type Kafka, KafkaJSProtocolError, type SeekEntry } from "kafkajs";

export type End = SeekEntry & { readonly high: string; readonly low: string };

/** A broker that has just been given a partition says for a moment that it does not lead it: it is asked again. */
export async function topicEnds(witness: Kafka, topic: string): Promise<End[]> {
  for (;;) {
    const admin = witness.admin();
    await admin.connect();
    try {
      return await admin.fetchTopicOffsets(topic);
    } catch (error) {
      if (!(error instanceof KafkaJSProtocolError && error.retriable)) throw error;
    } finally {
      await admin.disconnect();
    }
  }
}
