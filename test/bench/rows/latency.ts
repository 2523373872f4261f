/** What the way through a server adds, alone and beside ten catch-ups. */
import type { Bed, BenchServer } from "../bed.ts";
import { ordered } from "../child.ts";
import { type Figure, quantile } from "../figures.ts";
import { fill } from "../fill.ts";
import type { LatencyOrder, LatencyReport } from "../latency.ts";
import { round } from "../subscribers.ts";
import type { Scale } from "./backlog.ts";

const PER_SECOND = 1000;
const CATCH_UPS = 10;

export async function latency(bed: Bed, { runs, share }: Scale): Promise<Figure[]> {
  const info = await bed.topic("live");
  const server = await bed.server();
  const order = {
    ...{ brokers: bed.kafka.brokers, topic: "live", info, perSecond: PER_SECOND },
    seconds: Math.max(3, 10 * share),
  };
  const samples = async (address?: string): Promise<readonly number[]> => {
    const full: LatencyOrder = { ...order, ...(address && { address }) };
    return (await ordered<LatencyOrder, LatencyReport>("latency.ts", full)).samplesMs;
  };
  const added: Record<"p50" | "p99", number[]> = { p50: [], p99: [] };
  const alone: number[] = [];
  for (let i = 0; i < runs; i++) {
    const bare = await samples();
    const through = await samples(server.address);
    added.p50.push(quantile(through, 0.5) - quantile(bare, 0.5));
    added.p99.push(quantile(through, 0.99) - quantile(bare, 0.99));
    alone.push(quantile(through, 0.99));
  }
  const beside = await besideCatchUps(bed, server, share, runs, samples);
  await server.stop();
  return [
    {
      what: `latency added at ${PER_SECOND} events/s to a bare produce and fetch, p50`,
      unit: "ms",
      ours: added.p50,
      goal: { atMost: 1 },
    },
    { what: "the same, p99", unit: "ms", ours: added.p99, goal: { atMost: 5 } },
    {
      what: `live latency p99 with ${CATCH_UPS} catch-ups running`,
      unit: "ms",
      ours: beside,
      yardstick: { name: "without", values: alone },
      goal: { ratioAtMost: 2 },
    },
  ];
}

/** Ten partitions, read from the beginning again and again: ten catch-up dispatchers at all times. */
async function besideCatchUps(
  bed: Bed,
  server: BenchServer,
  share: number,
  runs: number,
  samples: (address: string) => Promise<readonly number[]>,
): Promise<number[]> {
  const topic = await bed.topic("old", { partitions: CATCH_UPS });
  const events = await fill(bed.kafka.brokers, topic, { events: 5_000_000 * share });
  let running = true;
  const catchUps = (async () => {
    while (running) await round(server, { topic: "old", events, clients: 1, mode: "walk" });
  })();
  const found: number[] = [];
  for (let i = 0; i < runs; i++) found.push(quantile(await samples(server.address), 0.99));
  running = false;
  await catchUps;
  return found;
}
