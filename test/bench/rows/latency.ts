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
  const samples = async (through: Through): Promise<readonly number[]> =>
    (await ordered<LatencyOrder, LatencyReport>("latency.ts", { ...order, ...through })).samplesMs;
  const delivered = { address: server.address };
  const both = { ...delivered, publish: true };
  const added = { delivered: new Added(), both: new Added() };
  const alone: Beside = { bare: [], both: [] };
  // A broker that was just started is slower than it will be.
  await samples({});
  for (let i = 0; i < runs; i++) {
    const bare = await samples({});
    const there = await samples(both);
    added.delivered.note(await samples(delivered), bare);
    added.both.note(there, bare);
    alone.bare.push(quantile(bare, 0.99));
    alone.both.push(quantile(there, 0.99));
  }
  const beside = await besideCatchUps(bed, server, share, runs, async () => ({
    bare: quantile(await samples({}), 0.99),
    both: quantile(await samples(both), 0.99),
  }));
  await server.stop();
  const same = `at ${PER_SECOND} events/s to a bare produce and fetch`;
  return [
    ...added.delivered.figures(`latency that delivery adds ${same}`),
    ...added.both.figures("latency that publishing and delivery add"),
    {
      what: `live latency p99, published and delivered, with ${CATCH_UPS} catch-ups running`,
      unit: "ms",
      ours: beside.both,
      yardstick: { name: "without", values: alone.both },
      goal: { ratioAtMost: 2 },
    },
    {
      what: "bare produce and fetch p99 beside the same catch-ups: what the machine itself does",
      unit: "ms",
      ours: beside.bare,
      yardstick: { name: "without", values: alone.bare },
    },
  ];
}

type Through = Pick<LatencyOrder, "address" | "publish">;

interface Beside {
  readonly bare: number[];
  readonly both: number[];
}

class Added {
  readonly #p50: number[] = [];
  readonly #p99: number[] = [];

  note(through: readonly number[], bare: readonly number[]): void {
    this.#p50.push(quantile(through, 0.5) - quantile(bare, 0.5));
    this.#p99.push(quantile(through, 0.99) - quantile(bare, 0.99));
  }

  figures(what: string): Figure[] {
    return [
      { what: `${what}, p50`, unit: "ms", ours: this.#p50, goal: { atMost: 1 } },
      { what: "the same, p99", unit: "ms", ours: this.#p99, goal: { atMost: 5 } },
    ];
  }
}

/** Ten partitions, read from the beginning again and again: ten catch-up dispatchers at all times. */
async function besideCatchUps(
  bed: Bed,
  server: BenchServer,
  share: number,
  runs: number,
  p99: () => Promise<{ readonly bare: number; readonly both: number }>,
): Promise<Beside> {
  const topic = await bed.topic("old", { partitions: CATCH_UPS });
  const events = await fill(bed.kafka.brokers, topic, { events: 5_000_000 * share });
  let running = true;
  const catchUps = (async () => {
    while (running) await round(server, { topic: "old", events, clients: 1, mode: "walk" });
  })();
  const found: Beside = { bare: [], both: [] };
  for (let i = 0; i < runs; i++) {
    const { bare, both } = await p99();
    found.bare.push(bare);
    found.both.push(both);
  }
  running = false;
  await catchUps;
  return found;
}
