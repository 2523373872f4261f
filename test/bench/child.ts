/** A benchmark's client as a process of its own: one order, one report. */
import { fork } from "node:child_process";
import { join } from "node:path";

/** What such a process tells its parent. */
type Said<Report> = { ready: true } | { report: Report } | { failure: string };

/** @param begin called when the process is up, just before it gets its order. */
export async function ordered<Order extends object, Report>(
  file: string,
  order: Order,
  begin: () => void = () => {},
): Promise<Report> {
  const child = fork(join(import.meta.dirname, file), {
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
  try {
    return await new Promise<Report>((resolve, reject) => {
      child.once("exit", (code) => reject(new Error(`${file} ended with code ${code}`)));
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
    child.removeAllListeners("exit");
    child.kill();
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
