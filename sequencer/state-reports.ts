/**
 * Tells each second what this sequencer does, in the progress topic: the operator copies it to the Outbox's status,
 * so that the sequencer needs no API server and nobody needs a way to its pod. What could not be told is told
 * a second later, as it is then.
 */
import type { Log, TopicInfo } from "../kafka/log.ts";
import { OutboxState } from "../proto/gen/throughline/stored/v1/stored.ts";
import type { DatabaseAddress } from "./postgres.ts";
import { progressTopicOf } from "./progress.ts";
import type { Figures } from "./state.ts";
import type { Identity } from "./term.ts";

const FORMAT_VERSION = 1;
const REPORT_MS = 1000;
/** Between two batches of many nothing is on its way for a moment. */
const STILL_BUSY_MS = 2000;

export interface Reporting {
  readonly log: Log;
  readonly identity: Identity;
  readonly database: Pick<DatabaseAddress, "host" | "port" | "database">;
  /** Name of the slot. */
  readonly slot: string;
  readonly figures: Figures;
}

export function startReports(reporting: Reporting): { close(): void } {
  const { log, identity } = reporting;
  const key = Buffer.from(`state ${identity.namespace}/${identity.outbox}`);
  let topic: TopicInfo | undefined;
  let timer: NodeJS.Timeout | undefined;
  let isOver = false;
  const once = async (): Promise<void> => {
    topic ??= await progressTopicOf(log, identity.deploymentId);
    const timeMs = Date.now();
    const value = Buffer.from(OutboxState.encode(reportOf(reporting, timeMs)).finish());
    const told = await log.append(topic, 0, { key, value, headers: [], timeMs });
    if (told.kind === "gone") topic = undefined;
  };
  const loop = async (): Promise<void> => {
    await once().catch(() => {});
    if (!isOver) timer = setTimeout(loop, REPORT_MS);
  };
  void loop();
  return {
    close: () => {
      isOver = true;
      clearTimeout(timer);
    },
  };
}

/** Pure. */
export function reportOf(
  { identity, database: { host, port, database }, slot, figures }: Omit<Reporting, "log">,
  nowMs: number,
): OutboxState {
  const { state, oldestUnsentMs, lagMs, sentAtMs, hasRun, retainedWalBytes, parkedInAll } = figures;
  const unsentMs = oldestUnsentMs === undefined ? 0 : Math.max(0, nowMs - oldestUnsentMs);
  const sentMs = nowMs - sentAtMs < STILL_BUSY_MS ? lagMs : 0;
  return {
    ...{ formatVersion: FORMAT_VERSION, instance: identity.instance, state: state.kind },
    reason: "reason" in state ? state.reason : "",
    message: "why" in state ? state.why : "",
    ...{ database: `${host}:${port}/${database}`, slot, hasRun },
    retainedWalBytes: BigInt(Math.max(0, retainedWalBytes)),
    lagMs: BigInt(Math.round(Math.max(unsentMs, sentMs))),
    parked: parkedInAll,
    topics: Array.from(figures.sequences, ([name, sequence]) => ({
      ...{ name, sequence: BigInt(sequence) },
    })),
  };
}
