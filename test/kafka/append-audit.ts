/** What tests of appends need: records, and the log as kafkajs reads it back and compares it with what was said. */
import type { IHeaders, Kafka } from "kafkajs";
import type { AppendOutcome, NewRecord, TopicInfo } from "../../kafka/log.ts";
import { topicEnds } from "./topic-ends.ts";

export function record(value: string, more: Partial<NewRecord> = {}): NewRecord {
  return { key: null, value: Buffer.from(value), headers: [], timeMs: Date.now(), ...more };
}

let read = 0;

interface Seen {
  readonly partition: number;
  readonly offset: number;
  readonly key: Buffer | null;
  readonly value: string;
  readonly headers: IHeaders | undefined;
}

/** The whole topic as kafkajs sees it. */
export async function readBack(witness: Kafka, topic: TopicInfo): Promise<Seen[]> {
  const ends = await topicEnds(witness, topic.name);
  const waiting = new Set(ends.filter(({ high }) => high !== "0").map((end) => end.partition));
  const high = new Map(ends.map((end) => [end.partition, Number(end.high)]));
  const seen: Seen[] = [];
  if (waiting.size === 0) return seen;
  const consumer = witness.consumer({
    groupId: `${topic.name}-audit-${++read}`,
    maxWaitTimeInMs: 100,
  });
  await consumer.connect();
  await consumer.subscribe({ topic: topic.name, fromBeginning: true });
  await new Promise<void>((resolve, reject) => {
    const run = consumer.run({
      eachMessage: async ({ partition, message: { offset, key, value, headers } }) => {
        seen.push({
          partition,
          offset: Number(offset),
          key,
          value: String(value),
          headers,
        });
        if (Number(offset) + 1 >= (high.get(partition) ?? 0)) waiting.delete(partition);
        if (waiting.size === 0) resolve();
      },
    });
    run.catch(reject);
  });
  await consumer.disconnect();
  return seen;
}

/** Every acknowledged event is where it was said to be, nothing is there twice, order is kept. */
export function audit(seen: readonly Seen[], outcomes: ReadonlyMap<string, AppendOutcome>) {
  const at = new Map(seen.map(({ partition, offset, value }) => [`${partition}@${offset}`, value]));
  let lost = 0;
  for (const [value, outcome] of outcomes) {
    if (outcome.kind !== "appended") continue;
    if (at.get(`${outcome.partition}@${outcome.offset}`) !== value) lost++;
  }
  const repeated = seen.length - new Set(seen.map(({ value }) => value)).size;
  const last = new Map<number, number>();
  let disordered = 0;
  for (const { partition, value } of [...seen].sort((a, b) => a.offset - b.offset)) {
    const number = Number(value.split(":")[1]);
    if (number <= (last.get(partition) ?? -1)) disordered++;
    last.set(partition, number);
  }
  const kinds = new Set([...outcomes.values()].map(({ kind }) => kind));
  return { lost, repeated, disordered, kinds: [...kinds] };
}
