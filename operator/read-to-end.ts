/** Reads the one partition of a small topic on to its end as it is now: the catalogs, the sequencers' reports. */
import type { KeyedRecord, Log, Position, TopicInfo } from "../kafka/log.ts";
import { recordsOf } from "../kafka/records.ts";
import { failed } from "./kafka-outcome.ts";

const FETCH_BYTES = 1 << 20;
const FETCH_WAIT_MS = 500;

/** Its Kafka topic is not there any more, or another. */
export class TopicGone extends Error {}

/**
 * @param moved told after each fetch, whose records were taken, where to read on.
 * @throws TopicGone, or when Kafka cannot be asked, or a record cannot be read.
 */
export async function readToEnd(
  log: Log,
  topic: TopicInfo,
  from: Position,
  { take, moved }: { take(record: KeyedRecord): unknown; moved(to: Position): void },
): Promise<void> {
  const end = await log.offset(topic, 0, "latest");
  if (end.kind === "gone") throw new TopicGone(`${topic.name} is gone`);
  if (end.kind !== "offset") throw failed(end);
  if (from.offset >= end.offset) return;
  let position = from;
  const reader = log.openReader(topic, 0);
  try {
    while (position.offset < end.offset) {
      const fetched = await reader.fetch(position, FETCH_BYTES, FETCH_WAIT_MS);
      if (fetched.kind === "loss") {
        if (fetched.loss.kind !== "before-earliest")
          throw new Error(`${topic.name}: ${fetched.loss.kind}`);
        position = { offset: fetched.loss.earliest, epoch: -1 };
        continue;
      }
      if (fetched.kind !== "fetched") throw failed(fetched);
      const { records, next, epoch, damage } = recordsOf(fetched, position.offset);
      if (damage) throw new Error(`${topic.name}: ${damage}`);
      for (const record of records) take(record);
      position = { offset: next, epoch: epoch >= 0 ? epoch : position.epoch };
      moved(position);
    }
  } finally {
    reader.close();
  }
}
