/** How soon a committed event is with a subscriber, at a steady rate, and where the time goes. */
import { ordered } from "../../child.ts";
import { type Figure, quantile } from "../../figures.ts";
import type { Arrivals, ArrivalsOrder } from "../arrivals.ts";
import type { Row } from "../bench.ts";
import { type Load, rowsOf, slotMade, written } from "../outbox.ts";
import { Sequencer, server } from "../programs.ts";

const TOPIC = "live-events";
const BYTES = 200;
/** Compiles the code of all. */
const WARM = { perSecond: 2000, seconds: 5 };
const RATES = [
  { perSecond: 500, seconds: 10 },
  { perSecond: 2000, seconds: 15, goals: { p50: 10, p99: 50, cores: 0.25 } },
  { perSecond: 10_000, seconds: 10 },
] as const;
/** Parts of a run that are looked at one by one. */
const PARTS = 3;
const STEPS = ["stamp", "produce", "commit"] as const;

export const live: Row = async ({ bed, launch }) => {
  const shop = await bed.shop("live", [TOPIC]);
  const running = new Sequencer(launch, bed, shop);
  await slotMade(shop);
  const door = server(launch, bed);
  const { listen } = JSON.parse(await door.said('"serving"')) as { listen: string };
  let from = 1;
  const delivered = async (load: Load): Promise<readonly [Arrivals, number]> => {
    const events = rowsOf(load);
    const order = { address: listen, topic: TOPIC, from, events, skip: load.perSecond };
    from += events;
    return Promise.all([
      ordered<ArrivalsOrder, Arrivals>("sequencer/arrivals.ts", order),
      written(shop, load),
    ]);
  };
  await delivered({ ...WARM, topic: TOPIC, bytes: BYTES });
  const figures: Figure[] = [];
  for (const { perSecond, seconds, ...rest } of RATES) {
    const goals = "goals" in rest ? rest.goals : undefined;
    const before = await running.figures();
    const [sinceMs, cpu] = [performance.now(), running.cpuSeconds()];
    const [{ tookMs }, reachedRate] = await delivered({
      ...{ topic: TOPIC, bytes: BYTES, perSecond, seconds },
    });
    const took = (performance.now() - sinceMs) / 1000;
    const cores = (running.cpuSeconds() - cpu) / took;
    const after = await running.figures();
    const more = (name: string): number => after(name) - before(name);
    const batches = more("throughline_sequencer_batches_total");
    const stepMs = STEPS.map((step) => {
      const spent = more(`throughline_sequencer_step_seconds_total{step="${step}"}`);
      return (spent / batches) * 1000;
    });
    const of = (share: number): number[] => parts(tookMs).map((part) => quantile(part, share));
    figures.push(
      {
        ...{ what: `commit to subscriber at ${perSecond} rows/s, p50`, unit: "ms", ours: of(0.5) },
        ...(goals && { goal: { atMost: goals.p50 } }),
      },
      {
        ...{ what: "the same, p99", unit: "ms", ours: of(0.99) },
        ...(goals && { goal: { atMost: goals.p99 } }),
      },
      { what: "the same, slowest", unit: "ms", ours: of(1) },
      {
        ...{ what: "cores of the sequencer", unit: "", ours: [cores] },
        ...(goals && { goal: { atMost: goals.cores } }),
      },
      { what: "rows that were written", unit: "a second", ours: [reachedRate] },
      { what: "batches", unit: "a second", ours: [batches / took] },
      ...STEPS.map((step, i) => ({
        ...{ what: `a batch's ${step}, mean`, unit: "ms", ours: [stepMs[i] as number] },
      })),
    );
  }
  figures.push({
    ...{ what: "RSS, peak", unit: "MB", ours: [running.peakRssMb()], goal: { atMost: 200 } },
  });
  await door.end("SIGTERM");
  await running.end("SIGTERM");
  return figures;
};

function parts(values: readonly number[]): number[][] {
  const size = Math.ceil(values.length / PARTS);
  return Array.from({ length: PARTS }, (_, i) => values.slice(i * size, (i + 1) * size));
}
