/** One round of subscribers in a process of their own, and what it cost the server. */
import { fork } from "node:child_process";
import { join } from "node:path";
import type { BenchServer } from "./bed.ts";
import type { Order, Report, Said } from "./subscriber.ts";

export interface Round extends Report {
  readonly eventsPerSecond: number;
  /** CPU seconds of the server per million events delivered. */
  readonly serverCpuPerMillion: number;
}

/** @throws when an event or a token was wrong. */
export async function round(server: BenchServer, order: Omit<Order, "address">): Promise<Round> {
  const child = fork(join(import.meta.dirname, "subscriber.ts"), {
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
  try {
    let before = 0;
    const report = await new Promise<Report>((resolve, reject) => {
      child.once("exit", (code) => reject(new Error(`the subscribers ended with code ${code}`)));
      child.on("message", (said: Said) => {
        if ("report" in said) resolve(said.report);
        else if ("failure" in said) reject(new Error(said.failure));
        else {
          before = server.cpuSeconds();
          child.send({ ...order, address: server.address } satisfies Order);
        }
      });
    });
    const cpu = server.cpuSeconds() - before;
    const wanted = order.events * (order.clients - (order.slow ?? 0));
    if (report.events < wanted || report.wrongTokens > 0) {
      throw new Error(`received ${report.events} of ${wanted}, ${report.wrongTokens} wrong tokens`);
    }
    return {
      ...report,
      eventsPerSecond: report.events / report.seconds,
      serverCpuPerMillion: (cpu * 1e6) / report.events,
    };
  } finally {
    child.removeAllListeners("exit");
    child.kill();
  }
}
