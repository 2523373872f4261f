/** What kafkajs, which shares no code with ours, sees of a topic that has transactions, and of a group. */
import type { Admin, Kafka, KafkaJSError } from "kafkajs";
import type { Log, TopicInfo } from "../../kafka/log.ts";
import type { Seen } from "../../local/demo-audit.ts";
import { Waits } from "../story/waits.ts";

/** Value of the record at the end. */
export const END = "the end";

/**
 * Every committed record by partition, in order. Markers of transactions take offsets too, so that a reader
 * cannot count: one more record at the end of each partition says where it ends.
 */
export async function readCommitted(log: Log, kafka: Kafka, topic: TopicInfo): Promise<Seen[]> {
  for (let partition = 0; partition < topic.partitions; partition++) {
    const record = { key: null, value: Buffer.from(END), headers: [], timeMs: Date.now() };
    const outcome = await log.append(topic, partition, record);
    if (outcome.kind !== "appended") throw new Error(JSON.stringify(outcome));
  }
  const groupId = `${topic.name}-witness`;
  const consumer = kafka.consumer({ groupId, readUncommitted: false });
  await consumer.connect();
  await consumer.subscribe({ topic: topic.name, fromBeginning: true });
  const seen: Seen[] = [];
  const open = new Set(Array.from({ length: topic.partitions }, (_, partition) => partition));
  const waits = new Waits();
  let failure: Error | undefined;
  const fail = (error: Error): void => {
    failure = error;
    waits.changed();
  };
  consumer.on(consumer.events.CRASH, ({ payload: { error, restart } }) => {
    if (!restart) fail(error);
  });
  const running = consumer.run({
    eachMessage: async ({ partition, message }) => {
      const value = String(message.value);
      if (value !== END) seen.push({ partition, offset: Number(message.offset), value });
      else if (open.delete(partition)) waits.changed();
    },
  });
  running.catch(fail);
  await waits.until(
    () => open.size === 0,
    () => failure,
  );
  await consumer.disconnect();
  return seen;
}

/**
 * What a group committed, by partition; empty when nothing is. Asked by the topic, kafkajs first wants a leader of
 * each of its partitions, and fails while a broker that led one is away: the group alone is asked for. A coordinator
 * that is not there yet wants to be asked again, which kafkajs leaves to its caller.
 */
export async function committedOffsets(
  admin: Admin,
  groupId: string,
  topic: string,
): Promise<number[]> {
  for (;;) {
    try {
      const all = await admin.fetchOffsets({ groupId });
      const found = all.find((one) => one.topic === topic);
      const sorted = (found?.partitions ?? []).toSorted((a, b) => a.partition - b.partition);
      return sorted.map(({ offset }) => Number(offset)).filter((offset) => offset >= 0);
    } catch (error) {
      if (!(error as KafkaJSError).retriable) throw error;
    }
  }
}
