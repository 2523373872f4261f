/** A benchmark's client as a process of its own: one order, one report. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

/** What such a process tells its parent. */
type Said<Report> = { ready: true } | { report: Report } | { failure: string };

/**
 * @param begin called when the process is up, just before it gets its order.
 * @param nodeFlags of the process.
 */
export async function ordered<Order extends object, Report>(
  file: string,
  order: Order,
  begin: () => void = () => {},
  nodeFlags: readonly string[] = [],
): Promise<Report> {
  const child = fork(join(import.meta.dirname, file), {
    execArgv: ["--disable-warning=ExperimentalWarning", ...nodeFlags],
  });
  const ended = once(child, "exit");
  try {
    return await new Promise<Report>((resolve, reject) => {
      ended.then(([code]) => reject(new Error(`${file} ended with code ${code}`)), reject);
      child.on("message", (said: Said<Report>) => {
        if ("report" in said) resolve(said.report);
        else if ("failure" in said) reject(new Error(said.failure));
        else {
          begin();
          child.send(order);
        }
      });
    });
  } finally {
    child.kill();
    // Until then its CPU time is not among that of our children: it would be the next one's.
    await ended;
  }
}

/** In the process itself: takes the order, does the work, reports; ends with its parent. */
export function answer<Order, Report>(work: (order: Order) => Promise<Report>): void {
  process.on("message", (order: Order) => {
    work(order).then(
      (report) => process.send?.({ report }),
      (error) => process.send?.({ failure: String((error as Error).message ?? error) }),
    );
  });
  process.on("disconnect", () => process.exit(0));
  // A message that comes before the listener would be lost.
  process.send?.({ ready: true });
}
