/**
 * Where a Topic with ordering Commit has the event of an order value. Order values and offsets rise
 * together, so it is found by halving; records without one (somebody else's) are passed over.
 */
import type { Log, PartitionReader, TopicInfo } from "../kafka/log.ts";
import { forEachHeader, type RecordCursor, scan } from "../kafka/scan.ts";
import { Failure } from "./failure.ts";

/** Kafka gives one whole batch at least. */
const FETCH_BYTES = 64 << 10;
const FETCH_WAIT_MS = 500;

export type FoundSequence =
  | { readonly kind: "at"; readonly offset: number }
  /** Retention passed it; the log begins here. */
  | { readonly kind: "before-earliest"; readonly earliest: number }
  /** It is none that was given, nor the next to come. */
  | { readonly kind: "past-end"; readonly earliest: number };

interface Numbered {
  readonly offset: number;
  readonly sequence: number;
}

/** @param start and end offsets of the committed log. @throws Failure when Kafka cannot be asked. */
export async function findSequence(
  log: Log,
  topic: TopicInfo,
  wanted: number,
  { start, end }: { readonly start: number; readonly end: number },
): Promise<FoundSequence> {
  const reader = log.openReader(topic, 0);
  try {
    const first = await firstFrom(reader, topic, start, end);
    if (!first) {
      // Nothing is in it. Before the first event of all, that one may be waited for.
      if (start === 0 && wanted === 1) return { kind: "at", offset: end };
      return { kind: start === 0 ? "past-end" : "before-earliest", earliest: start };
    }
    if (first.sequence > wanted) return { kind: "before-earliest", earliest: start };
    // Events before `low` have smaller order values; the first one from `high` on has not, or there is none.
    let low = start;
    let high = end;
    let before: Numbered | undefined;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const found = await firstFrom(reader, topic, middle, high);
      if (found && found.sequence < wanted) {
        before = found;
        low = found.offset + 1;
      } else high = middle;
    }
    const at = await firstFrom(reader, topic, low, end);
    if (at || before?.sequence === wanted - 1) return { kind: "at", offset: low };
    return { kind: "past-end", earliest: start };
  } finally {
    reader.close();
  }
}

/** The first numbered event from one offset up to another. */
async function firstFrom(
  reader: PartitionReader,
  topic: TopicInfo,
  from: number,
  to: number,
): Promise<Numbered | undefined> {
  for (let position = { offset: from, epoch: -1 }; position.offset < to; ) {
    const fetched = await reader.fetch(position, FETCH_BYTES, FETCH_WAIT_MS);
    if (fetched.kind === "loss") {
      if (fetched.loss.kind === "before-earliest") {
        position = { offset: fetched.loss.earliest, epoch: -1 };
        continue;
      }
      throw new Failure(
        "KAFKA_UNAVAILABLE",
        `Topic "${topic.name}" changed while it was searched.`,
      );
    }
    if (fetched.kind === "corrupt") throw new Failure("LOG_CORRUPT", fetched.reason);
    if (fetched.kind === "unauthorised") throw new Failure("KAFKA_REFUSED", fetched.reason);
    if (fetched.kind !== "fetched") throw new Failure("KAFKA_UNAVAILABLE", fetched.reason);
    let found: Numbered | undefined;
    const { aborted } = fetched;
    const end = scan(fetched.records, { from: position.offset, aborted }, (record) => {
      if (found || record.offset >= to) return;
      const sequence = sequenceOf(record);
      if (sequence !== undefined) found = { offset: record.offset, sequence };
    });
    if (found) return found;
    if (end.kind === "corrupt") throw new Failure("LOG_CORRUPT", end.reason);
    position = { offset: end.next, epoch: end.epoch };
  }
  return undefined;
}

function sequenceOf(record: RecordCursor): number | undefined {
  let sequence: number | undefined;
  forEachHeader(record, (keyStart, keyLength, valueStart, valueLength) => {
    if (valueLength !== 8 || keyLength !== 11) return;
    if (record.buf.toString("latin1", keyStart, keyStart + keyLength) !== "tl-sequence") return;
    sequence = Number(record.buf.readBigInt64BE(valueStart));
  });
  return sequence;
}
