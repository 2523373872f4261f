/**
 * What lies at the end of a Commit topic in Kafka: only this Outbox's sequencer may write there. Whoever
 * else does would make numbers repeat, or hide between them (P8).
 */
import type { Log, TopicInfo } from "../kafka/log.ts";
import { forEachHeader, scan } from "../kafka/scan.ts";

const FETCH_BYTES = 2 << 20;
const FETCH_WAIT_MS = 500;

export interface TailRecord {
  readonly offset: number;
  /** Undefined: it was written by something that is no sequencer. */
  readonly sequence: number | undefined;
}

export interface Tail {
  /** The last committed event; undefined when there is none (yet, or any more). */
  readonly last: TailRecord | undefined;
  /** One past the end of what was looked at. */
  readonly end: number;
}

/** @throws when Kafka cannot be asked. */
export async function tailOf(log: Log, topic: TopicInfo): Promise<Tail> {
  const [start, end] = [await offset(log, topic, "earliest"), await offset(log, topic, "latest")];
  // Markers of transactions, and what was aborted, lie between events.
  for (let back = 2; end > start; back *= 8) {
    const from = Math.max(start, end - back);
    const last = (await committed(log, topic, from, end)).at(-1);
    if (last || from === start) return { last, end };
  }
  return { last: undefined, end };
}

/** Committed events from one offset up to another. @throws when Kafka cannot be asked. */
export async function committed(
  log: Log,
  topic: TopicInfo,
  from: number,
  to: number,
): Promise<TailRecord[]> {
  const found: TailRecord[] = [];
  const reader = log.openReader(topic, 0);
  try {
    for (let position = { offset: from, epoch: -1 }; position.offset < to; ) {
      const fetched = await reader.fetch(position, FETCH_BYTES, FETCH_WAIT_MS);
      if (fetched.kind === "loss") {
        if (fetched.loss.kind !== "before-earliest")
          throw new Error(`Kafka topic ${topic.name}: ${fetched.loss.kind}`);
        position = { offset: fetched.loss.earliest, epoch: -1 };
        continue;
      }
      if (fetched.kind !== "fetched") throw new Error(fetched.reason);
      const { aborted } = fetched;
      const end = scan(fetched.records, { from: position.offset, aborted }, (record) => {
        if (record.offset >= to) return;
        let sequence: number | undefined;
        forEachHeader(record, (keyStart, keyLength, valueStart, valueLength) => {
          const name = record.buf.toString("latin1", keyStart, keyStart + keyLength);
          if (name === "tl-sequence" && valueLength === 8)
            sequence = Number(record.buf.readBigInt64BE(valueStart));
        });
        found.push({ offset: record.offset, sequence });
      });
      if (end.kind === "corrupt") throw new Error(`Kafka topic ${topic.name}: ${end.reason}`);
      position = { offset: end.next, epoch: end.epoch };
    }
  } finally {
    reader.close();
  }
  return found;
}

async function offset(log: Log, topic: TopicInfo, at: "earliest" | "latest"): Promise<number> {
  const found = await log.offset(topic, 0, at);
  if (found.kind === "offset") return found.offset;
  throw new Error(found.kind === "gone" ? `Kafka topic ${topic.name} is gone` : found.reason);
}
