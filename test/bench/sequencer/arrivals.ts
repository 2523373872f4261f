/** A subscriber as a process of its own, for `live.ts`: how long after its commit each event is there. */
import { ThroughlineClient } from "../../../client/client.ts";
import { answer } from "../child.ts";

export interface ArrivalsOrder {
  readonly address: string;
  readonly topic: string;
  /** From this order value on. */
  readonly from: number;
  /** So many events, of which the first are not measured: a subscriber that begins catches up. */
  readonly events: number;
  readonly skip: number;
}

export interface Arrivals {
  readonly tookMs: readonly number[];
  /** The longest time without an event. */
  readonly silentMs: number;
  readonly lastSequence: number;
}

answer(arrivals);

/** Rejects where the sequence is not dense: that is the client's own check (P8). */
async function arrivals({ address, topic, from, events, skip }: ArrivalsOrder): Promise<Arrivals> {
  const client = new ThroughlineClient([address]);
  const tookMs: number[] = [];
  let silentMs = 0;
  let lastMs: number | undefined;
  let lastSequence = from - 1;
  let count = 0;
  const start = { $case: "sequence", value: BigInt(from) } as const;
  for await (const delivery of client.subscribe({ topic, start })) {
    const nowMs = Date.now();
    if (count > skip) silentMs = Math.max(silentMs, nowMs - (lastMs ?? nowMs));
    lastMs = nowMs;
    for (const { commitTimeMs, sequence } of delivery.events) {
      if (Number(sequence) <= lastSequence) throw new Error(`event ${sequence} came twice`);
      lastSequence = Number(sequence);
      if (count++ >= skip) tookMs.push(nowMs - Number(commitTimeMs));
    }
    if (count >= events) break;
  }
  client.close();
  return { tookMs, silentMs, lastSequence };
}
