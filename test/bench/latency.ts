/**
 * Latency at a steady rate, from a process that does nothing else: every event carries the time it was
 * sent at, and its sender is also its receiver, so one clock tells.
 */

import { ThroughlineClient } from "../../client/client.ts";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Position, TopicInfo } from "../../kafka/log.ts";
import { recordsOf } from "../../kafka/records.ts";
import { answer } from "./child.ts";

export interface LatencyOrder {
  /** Through this server, or else by a bare produce and fetch. */
  readonly address?: string;
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

answer(measure);

async function measure(order: LatencyOrder): Promise<LatencyReport> {
  const samplesMs: number[] = [];
  const started = performance.now();
  const arrived = (payload: Buffer | undefined | null): void => {
    const now = performance.now();
    if (payload && now - started > WARM_UP_MS) samplesMs.push(now - payload.readDoubleBE(0));
  };
  const way = order.address ? await throughServer(order, arrived) : await bare(order, arrived);
  const until = started + WARM_UP_MS + order.seconds * 1000;
  let due = performance.now();
  while (performance.now() < until) {
    for (; due <= performance.now(); due += 1000 / order.perSecond) {
      const payload = Buffer.alloc(PAYLOAD_BYTES);
      payload.writeDoubleBE(performance.now(), 0);
      way.send(payload);
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(TICK_MS, 1000 / order.perSecond)));
  }
  await way.close();
  return { samplesMs };
}

interface Way {
  send(payload: Buffer): void;
  close(): Promise<void>;
}

async function throughServer(
  { address, topic }: LatencyOrder,
  arrived: (payload: Buffer | undefined) => void,
): Promise<Way> {
  const client = new ThroughlineClient([address as string]);
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
  return {
    send: (payload) => {
      const event = { key: undefined, payload, headers: [], type: "", timeMs: undefined };
      void client.publish(topic, [event]);
    },
    close: async () => {
      abort.abort();
      await reading;
      client.close();
    },
  };
}

/** The same appender and its linger, the same reader, no server between. */
async function bare(
  { brokers, info }: LatencyOrder,
  arrived: (payload: Buffer | null) => void,
): Promise<Way> {
  const log = openKafkaLog({ brokers, clientId: "bare" });
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
  return {
    send: (value) =>
      void log.append(info, 0, { key: null, value, headers: [], timeMs: Date.now() }),
    close: async () => {
      open = false;
      await reading;
      await log.close();
    },
  };
}
