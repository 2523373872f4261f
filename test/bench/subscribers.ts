/** One round of subscribers in a process of their own, and what it cost the server. */
import type { BenchServer } from "./bed.ts";
import { ordered } from "./child.ts";
import { machineCpuSeconds } from "./machine.ts";
import type { Order, Report } from "./subscriber.ts";

export interface Round extends Report {
  readonly eventsPerSecond: number;
  /** CPU seconds of the server per million events delivered. */
  readonly serverCpuPerMillion: number;
  /** Of all processes of the machine. */
  readonly machineCpuPerMillion: number;
}

/**
 * One client that only counts makes large frames and few small objects: with a small young generation it
 * has them collected while they are young. Who decodes makes many objects, and needs the default.
 */
const COUNTING = ["--max-semi-space-size=1"];

/** @throws when an event or a token was wrong. */
export async function round(server: BenchServer, order: Omit<Order, "address">): Promise<Round> {
  let before = 0;
  let machineBefore = 0;
  const full: Order = { ...order, address: server.address };
  const begin = (): void => {
    before = server.cpuSeconds();
    machineBefore = machineCpuSeconds();
  };
  const flags = order.mode === "walk" && order.clients === 1 ? COUNTING : [];
  const report = await ordered<Order, Report>("subscriber.ts", full, begin, flags);
  const cpu = server.cpuSeconds() - before;
  const machine = machineCpuSeconds() - machineBefore;
  const wanted = order.events * (order.clients - (order.slow ?? 0));
  if (report.events < wanted || report.wrongTokens > 0) {
    throw new Error(`received ${report.events} of ${wanted}, ${report.wrongTokens} wrong tokens`);
  }
  return {
    ...report,
    eventsPerSecond: report.events / report.seconds,
    serverCpuPerMillion: (cpu * 1e6) / report.events,
    machineCpuPerMillion: (machine * 1e6) / report.events,
  };
}
