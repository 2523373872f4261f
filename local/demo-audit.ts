/**
 * The demo's judge: what each client wrote down, against the Kafka log as kafkajs reads it. Nothing here
 * uses Throughline's own reader.
 */
import { Kafka, logLevel, Partitioners } from "kafkajs";

/** One event as a client or the log has it. */
export interface Seen {
  readonly partition: number;
  readonly offset: number;
  readonly value: string;
  /** It may have been delivered before, as the server said. */
  readonly marked?: boolean;
}

export interface Verdict {
  received: number;
  missing: number;
  repeated: number;
  outOfOrder: number;
  /** Same position, other content. */
  different: number;
  /** The first event that is missing, by partition and offset. */
  firstMissing: string | undefined;
  /** The first that came again. */
  firstRepeated: string | undefined;
}

const END = "the end of the audit";

/**
 * The whole topic by partition and offset, as a reader of committed events sees it. Markers of transactions
 * take offsets too, so that a reader cannot count: one more record in each partition says where it ends.
 */
export async function readTopic(brokers: readonly string[], topic: string): Promise<Seen[]> {
  const kafka = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  const partitions = await admin.fetchTopicOffsets(topic);
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
  await producer.connect();
  const messages = partitions.map(({ partition }) => ({ partition, value: END }));
  await producer.send({ topic, messages });
  await producer.disconnect();
  const seen: Seen[] = [];
  const groupId = `demo-audit-${process.pid}-${Date.now()}`;
  const consumer = kafka.consumer({ groupId, readUncommitted: false });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  let left = partitions.length;
  await new Promise<void>((resolve) => {
    void consumer.run({
      eachMessage: async ({ partition, message }) => {
        const value = message.value?.toString() ?? "";
        if (value !== END) seen.push({ partition, offset: Number(message.offset), value });
        else if (--left === 0) resolve();
      },
    });
  });
  await consumer.disconnect();
  await admin.deleteGroups([groupId]);
  await admin.disconnect();
  return seen;
}

/** Compares one client's record, in the order it received, with the log. */
export function judge(log: readonly Seen[], client: readonly Seen[]): Verdict {
  const wanted = new Map(log.map((event) => [placeOf(event), event.value]));
  const had = new Set<string>();
  const last = new Map<number, number>();
  const verdict: Verdict = {
    ...{ received: client.length, missing: 0, repeated: 0, outOfOrder: 0, different: 0 },
    ...{ firstMissing: undefined, firstRepeated: undefined },
  };
  for (const event of client) {
    const { partition, offset, value } = event;
    const key = placeOf(event);
    if (had.has(key)) {
      verdict.repeated++;
      verdict.firstRepeated ??= key;
    }
    had.add(key);
    if (wanted.get(key) !== value) verdict.different++;
    if (offset < (last.get(partition) ?? -1)) verdict.outOfOrder++;
    last.set(partition, offset);
  }
  for (const key of wanted.keys()) {
    if (had.has(key)) continue;
    verdict.missing++;
    verdict.firstMissing ??= key;
  }
  return verdict;
}

/** What the members of a shared session have together. The first of each kind is by partition and offset. */
export function judgeTogether(
  log: readonly Seen[],
  members: readonly (readonly Seen[])[],
): {
  readonly missing: number;
  readonly repeatedUnmarked: number;
  readonly firstMissing: string | undefined;
  readonly firstRepeated: string | undefined;
} {
  const had = new Set<string>();
  const unmarked = new Set<string>();
  const again: string[] = [];
  for (const event of members.flat()) {
    const key = placeOf(event);
    had.add(key);
    if (event.marked) continue;
    if (unmarked.has(key)) again.push(key);
    unmarked.add(key);
  }
  const missing = log.map(placeOf).filter((key) => !had.has(key));
  return {
    ...{ missing: missing.length, repeatedUnmarked: again.length },
    ...{ firstMissing: missing[0], firstRepeated: again[0] },
  };
}

function placeOf({ partition, offset }: Seen): string {
  return `${partition}/${offset}`;
}
