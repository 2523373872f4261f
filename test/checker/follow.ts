/** kafkajs, which shares no code with our reader, follows a topic from its start: committed events only. */
import type { Consumer, Kafka, KafkaMessage } from "kafkajs";

/** Resolves when it has begun; the consumer goes on over broker losses, and may tell an event again then. */
export async function follow(
  kafka: Kafka,
  { topic, groupId }: { readonly topic: string; readonly groupId: string },
  take: (partition: number, messages: readonly KafkaMessage[]) => void,
): Promise<Consumer> {
  const consumer = kafka.consumer({
    ...{ groupId, readUncommitted: false, metadataMaxAge: 1000 },
    ...{ maxWaitTimeInMs: 100, sessionTimeout: 30_000 },
    retry: { retries: 1000, maxRetryTime: 2000, restartOnFailure: async () => true },
  });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    eachBatch: async ({ batch, heartbeat }) => {
      take(batch.partition, batch.messages);
      await heartbeat();
    },
  });
  return consumer;
}
