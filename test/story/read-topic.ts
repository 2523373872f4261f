/** A topic without transactions as kafkajs, which shares no code with our reader, reads it. */
import { Kafka, logLevel } from "kafkajs";
import type { Seen } from "../../local/demo-audit.ts";
import { topicEnds } from "../kafka/topic-ends.ts";

/** The whole topic by partition and offset. */
export async function readTopic(brokers: readonly string[], topic: string): Promise<Seen[]> {
  const kafka = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING });
  const ends = await topicEnds(kafka, topic);
  let left = ends.reduce((sum, { high, low }) => sum + Number(high) - Number(low), 0);
  const seen: Seen[] = [];
  const groupId = `${topic}-read-${process.pid}-${Date.now()}`;
  const consumer = kafka.consumer({ groupId });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await new Promise<void>((resolve) => {
    if (left === 0) resolve();
    void consumer.run({
      eachMessage: async ({ partition, message }) => {
        const value = message.value?.toString() ?? "";
        seen.push({ partition, offset: Number(message.offset), value });
        if (--left === 0) resolve();
      },
    });
  });
  await consumer.disconnect();
  const admin = kafka.admin();
  await admin.connect();
  await admin.deleteGroups([groupId]);
  await admin.disconnect();
  return seen;
}
