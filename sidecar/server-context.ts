/** What every call of one server works with. All of the world that a handler sees comes in by this. */
import type { Logger } from "pino";
import type { Log } from "../kafka/log.ts";
import type { Clock } from "../process/clock.ts";
import type { Catalog } from "./catalog.ts";
import type { Limits } from "./limits.ts";
import type { Metrics } from "./metrics.ts";
import type { Reliability } from "./reliability.ts";

export interface ServerContext {
  readonly log: Log;
  readonly catalog: Catalog;
  readonly deploymentId: string;
  /** The namespace that this server speaks for. */
  readonly namespace: string;
  readonly serverName: string;
  readonly shape: "gateway" | "pod";
  readonly limits: Limits;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: () => number;
  readonly metrics: Metrics;
  readonly reliability: Reliability;
}
