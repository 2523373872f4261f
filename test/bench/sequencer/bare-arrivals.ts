/**
 * A reader of committed records as a process of its own, for what another relay writes: how long after its insert, of
 * which the payload has the time, each is there.
 */
import { openKafkaLog } from "../../../kafka/kafka-log.ts";
import type { Position, TopicInfo } from "../../../kafka/log.ts";
import { recordsOf } from "../../../kafka/records.ts";
import { answer } from "../child.ts";

export interface BareOrder {
  readonly brokers: readonly string[];
  readonly topic: TopicInfo;
  /** From this offset on. */
  readonly from: number;
  /** So many records, of which the first are not measured. */
  readonly events: number;
  readonly skip: number;
}

export interface BareArrivals {
  readonly tookMs: readonly number[];
}

const STUCK_MS = 60_000;

answer(arrivals);

async function arrivals({ brokers, topic, from, events, skip }: BareOrder): Promise<BareArrivals> {
  const log = openKafkaLog({ brokers, clientId: "bare" });
  const reader = log.openReader(topic, 0);
  const tookMs: number[] = [];
  let count = 0;
  let heardMs = Date.now();
  for (let at: Position = { offset: from, epoch: -1 }; count < events; ) {
    const fetched = await reader.fetch(at, 1 << 20, 500);
    if (fetched.kind !== "fetched") throw new Error(fetched.kind);
    const nowMs = Date.now();
    const { records, next, epoch } = recordsOf(fetched, at.offset);
    if (records.length > 0) heardMs = nowMs;
    else if (nowMs - heardMs > STUCK_MS) throw new Error(`it has stopped at ${count} of ${events}`);
    for (const { value } of records)
      if (count++ >= skip) tookMs.push(nowMs - Number(value?.readBigInt64BE()));
    at = { offset: next, epoch: epoch >= 0 ? epoch : at.epoch };
  }
  reader.close();
  await log.close();
  return { tookMs };
}
