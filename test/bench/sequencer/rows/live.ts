/** How soon a committed event is with a subscriber, at a steady rate, and where the time goes. */
import { join } from "node:path";
import type { Shop } from "../../../sequencer/bed.ts";
import { ordered } from "../../child.ts";
import { type Figure, quantile } from "../../figures.ts";
import type { Arrivals, ArrivalsOrder } from "../arrivals.ts";
import type { BareArrivals, BareOrder } from "../bare-arrivals.ts";
import type { Bench, Row } from "../bench.ts";
import { debezium } from "../debezium.ts";
import { type Load, rowsOf, slotMade, written } from "../outbox.ts";
import { Sequencer, server } from "../programs.ts";

const TOPIC = "live-events";
const EACH = { topic: TOPIC, bytes: 200 };
/** Compiles the code of all: a broker that has just started takes half a minute, and twice the CPU time until then. */
const WARM: Load = { ...EACH, perSecond: 2000, seconds: 30 };
const SLOW: Load = { ...EACH, perSecond: 500, seconds: 10 };
const STEADY: Load = { ...EACH, perSecond: 2000, seconds: 15 };
const FAST: Load = { ...EACH, perSecond: 10_000, seconds: 10 };
/** Parts of a run that are looked at one by one. */
const PARTS = 3;
const STEPS = ["stamp", "produce", "commit"] as const;

interface Measured {
  readonly load: Load;
  readonly tookMs: readonly number[];
  /** Rows a second that the writers reached. */
  readonly writtenPerSecond: number;
  readonly cores: number;
  readonly batchesPerSecond: number;
  /** Of a batch, in each step. */
  readonly stepMs: readonly number[];
}

export const live: Row = async (bench) => {
  const { bed, launch, withDebezium } = bench;
  const shop = await bed.shop("live", [TOPIC]);
  const running = new Sequencer(launch, bed, shop);
  await slotMade(shop);
  const door = server(launch, bed);
  const { listen } = JSON.parse(await door.said('"serving"')) as { listen: string };
  let from = 1;
  const measure = async (load: Load): Promise<Measured> => {
    const events = rowsOf(load);
    const order = { address: listen, topic: TOPIC, from, events, skip: load.perSecond };
    from += events;
    const before = await running.figures();
    const [sinceMs, cpu] = [performance.now(), running.cpuSeconds()];
    const [{ tookMs }, writtenPerSecond] = await Promise.all([
      ordered<ArrivalsOrder, Arrivals>("sequencer/arrivals.ts", order),
      written(shop, load),
    ]);
    const seconds = (performance.now() - sinceMs) / 1000;
    const cores = (running.cpuSeconds() - cpu) / seconds;
    const after = await running.figures();
    const more = (name: string): number => after(name) - before(name);
    const batches = more("throughline_sequencer_batches_total");
    const stepMs = STEPS.map((step) => {
      const spent = more(`throughline_sequencer_step_seconds_total{step="${step}"}`);
      return (spent / batches) * 1000;
    });
    return { load, tookMs, writtenPerSecond, cores, batchesPerSecond: batches / seconds, stepMs };
  };
  await measure(WARM);
  const [slow, steady, fast] = [await measure(SLOW), await measure(STEADY), await measure(FAST)];
  const peakRssMb = running.peakRssMb();
  await door.end("SIGTERM");
  await running.end("SIGTERM");
  const peer = withDebezium ? await debeziumTookMs(bench, shop) : undefined;
  return [
    ...figures(slow),
    ...figures(steady, { p50: 10, p99: 50, cores: 0.25 }, peer),
    ...figures(fast),
    { what: "RSS, peak", unit: "MB", ours: [peakRssMb], goal: { atMost: 200 } },
  ];
};

function figures(
  { load, tookMs, writtenPerSecond, cores, batchesPerSecond, stepMs }: Measured,
  goals?: { readonly p50: number; readonly p99: number; readonly cores: number },
  peer?: readonly number[],
): Figure[] {
  const at = (share: number, atMost?: number): Omit<Figure, "what"> => ({
    ...{ unit: "ms", ours: ofParts(tookMs, share) },
    ...(peer && { yardstick: { name: "Debezium to a reader", values: ofParts(peer, share) } }),
    ...(atMost !== undefined && { goal: { atMost } }),
  });
  return [
    { what: `commit to subscriber at ${load.perSecond} rows/s, p50`, ...at(0.5, goals?.p50) },
    { what: "the same, p99", ...at(0.99, goals?.p99) },
    { what: "the same, slowest", ...at(1) },
    {
      ...{ what: "cores of the sequencer", unit: "", ours: [cores] },
      ...(goals && { goal: { atMost: goals.cores } }),
    },
    { what: "rows that were written", unit: "a second", ours: [writtenPerSecond] },
    { what: "batches", unit: "a second", ours: [batchesPerSecond] },
    ...STEPS.map((step, i) => ({
      ...{ what: `a batch's ${step}, mean`, unit: "ms", ours: [stepMs[i] as number] },
    })),
  ];
}

/** Of each part of a run. */
function ofParts(values: readonly number[], share: number): number[] {
  const size = Math.ceil(values.length / PARTS);
  return Array.from({ length: PARTS }, (_, i) =>
    quantile(values.slice(i * size, (i + 1) * size), share),
  );
}

/** At the steady rate, from the insert to a reader of its topic: there is no server in between. */
async function debeziumTookMs({ bed, folder }: Bench, shop: Shop): Promise<readonly number[]> {
  const { kafkaTopic, start, forget } = await debezium(bed, shop, TOPIC, join(folder, "live"));
  const program = await start();
  const [warm, measured] = [rowsOf(WARM), rowsOf(STEADY)];
  const order = {
    ...{ brokers: bed.brokers, topic: kafkaTopic, from: 0 },
    ...{ events: warm + measured, skip: warm },
  };
  const heard = ordered<BareOrder, BareArrivals>("sequencer/bare-arrivals.ts", order);
  // What is written before it is at work only waits: the warm-up takes that.
  await written(shop, WARM);
  await written(shop, STEADY);
  const { tookMs } = await program.during(heard);
  await program.end("SIGKILL");
  await forget();
  return tookMs;
}
