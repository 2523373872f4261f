/**
 * Latency at a steady rate, from a process that does nothing else: every event carries the time it was
 * sent at, and its sender is also its receiver, so one clock tells.
 */
import { ThroughlineClient } from "../../client/client.ts";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log, Position, TopicInfo } from "../../kafka/log.ts";
import { recordsOf } from "../../kafka/records.ts";
import { answer } from "./child.ts";

export interface LatencyOrder {
  /** Received through this server, or else by a bare fetch. */
  readonly address?: string;
  /** Published through it too, or else by a bare produce. */
  readonly publish?: boolean;
  readonly brokers: readonly string[];
  /** Its name in Throughline. */
  readonly topic: string;
  readonly info: TopicInfo;
  readonly perSecond: number;
  readonly seconds: number;
}

export interface LatencyReport {
  readonly samplesMs: readonly number[];
}

const TICK_MS = 5;
const WARM_UP_MS = 2000;
const PAYLOAD_BYTES = 100;
const EVENT = { key: undefined, headers: [], type: "", timeMs: undefined };
const RECORD = { key: null, headers: [] };

answer(measure);

async function measure(order: LatencyOrder): Promise<LatencyReport> {
  const samplesMs: number[] = [];
  const started = performance.now();
  const arrived = (payload: Buffer | undefined | null): void => {
    const now = performance.now();
    if (payload && now - started > WARM_UP_MS) samplesMs.push(now - payload.readDoubleBE(0));
  };
  const log = openKafkaLog({ brokers: order.brokers, clientId: "bare" });
  const client = new ThroughlineClient(order.address ? [order.address] : []);
  const stop = order.address
    ? await subscribe(client, order.topic, arrived)
    : await fetch(log, order.info, arrived);
  const send: (payload: Buffer) => Promise<unknown> = order.publish
    ? (payload) => client.publish(order.topic, [{ ...EVENT, payload }])
    : (value) => log.append(order.info, 0, { ...RECORD, value, timeMs: Date.now() });
  const until = started + WARM_UP_MS + order.seconds * 1000;
  let due = performance.now();
  let last: Promise<unknown> | undefined;
  while (performance.now() < until) {
    for (; due <= performance.now(); due += 1000 / order.perSecond) {
      const payload = Buffer.alloc(PAYLOAD_BYTES);
      payload.writeDoubleBE(performance.now(), 0);
      last = send(payload);
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(TICK_MS, 1000 / order.perSecond)));
  }
  await last;
  await stop();
  client.close();
  await log.close();
  return { samplesMs };
}

type Stop = () => Promise<void>;

async function subscribe(
  client: ThroughlineClient,
  topic: string,
  arrived: (payload: Buffer | undefined) => void,
): Promise<Stop> {
  const abort = new AbortController();
  let opened = (): void => {};
  const open = new Promise<void>((resolve) => {
    opened = resolve;
  });
  const reading = (async () => {
    const { signal } = abort;
    for await (const { events } of client.subscribe({ topic, signal, onNotice: opened })) {
      for (const { payload } of events) arrived(payload);
    }
  })();
  await open;
  return async () => {
    abort.abort();
    await reading;
  };
}

async function fetch(
  log: Log,
  info: TopicInfo,
  arrived: (payload: Buffer | null) => void,
): Promise<Stop> {
  const end = await log.offset(info, 0, "latest");
  if (end.kind !== "offset") throw new Error(end.kind);
  const reader = log.openReader(info, 0);
  let open = true;
  const reading = (async () => {
    let at: Position = { offset: end.offset, epoch: end.epoch };
    while (open) {
      const fetched = await reader.fetch(at, 1 << 20, 100);
      if (fetched.kind !== "fetched") continue;
      const { records, next, epoch } = recordsOf(fetched, at.offset);
      for (const { value } of records) arrived(value);
      if (next > at.offset) at = { offset: next, epoch };
    }
  })();
  return async () => {
    open = false;
    await reading;
  };
}
