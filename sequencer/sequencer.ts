/**
 * The sequencer of one Outbox: terms, one after the other (`term.ts`). What breaks a term is logged, and the
 * next begins soon; what must not be passed over stops it until a person has mended it, which it looks for.
 *
 * One that retires does so with giving the slot up (`slot.ts`), once, and is ready when that is done.
 */
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import type { Log } from "../kafka/log.ts";
import { openStatusPage } from "../process/status-page.ts";
import { FailClosed } from "./fail-closed.ts";
import { SequencerMetrics } from "./metrics.ts";
import { type DatabaseAddress, openSql } from "./postgres.ts";
import type { Steps } from "./relay.ts";
import { forgetSlot } from "./slot.ts";
import { Hindered, noFigures, type State, wordsOf } from "./state.ts";
import { startReports } from "./state-reports.ts";
import { type Identity, runTerm, slotNameOf, type World } from "./term.ts";

const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 5000;
const MENDED_LOOK_MS = 5000;
/** A term that lasted so long was a good one. */
const GOOD_TERM_MS = 10_000;
const READY: readonly State["kind"][] = ["running", "standby", "retired"];

export interface SequencerOptions {
  readonly identity: Identity;
  readonly database: DatabaseAddress;
  /** Asked at the begin of each term; by default it stays as it is. */
  readonly databaseNow?: () => DatabaseAddress;
  /** Undefined: sent events are kept. */
  readonly keepSentHours?: number | undefined;
  /** Undefined: what waits for a Topic waits however long. */
  readonly retainedWalLimitBytes?: number | undefined;
  readonly log: Log;
  readonly logger: Logger;
  readonly healthListen: (Pick<AddressInfo, "port"> & { readonly host: string }) | undefined;
  /** Gives the slot up instead. */
  readonly retires?: boolean;
  /** Wraps the steps of the product: tests break one. */
  readonly around?: (steps: Steps) => Steps;
}

export interface Sequencer {
  /** Of the status page. */
  readonly healthPort: number | undefined;
  /** Ends what is under way; what is not sent is sent by the next. */
  close(): Promise<void>;
}

/** @throws when the status page cannot be opened. */
export async function startSequencer(options: SequencerOptions): Promise<Sequencer> {
  const { healthListen, logger, identity, database, log, retires = false } = options;
  const figures = noFigures();
  figures.retainedWalLimitBytes = options.retainedWalLimitBytes ?? figures.retainedWalLimitBytes;
  const metrics = new SequencerMetrics(figures);
  const page =
    healthListen &&
    (await openStatusPage(
      {
        readiness: () => ({
          ready: READY.includes(figures.state.kind),
          why: wordsOf(figures.state),
        }),
        metricsPage: () => metrics.page(),
      },
      healthListen,
    ));
  const tell = (state: State): void => {
    const before = wordsOf(figures.state);
    figures.state = state;
    if (wordsOf(state) === before) return;
    if (state.kind === "failed")
      logger.error(
        { state: state.kind, reason: state.reason },
        `the sequencer has stopped: ${state.why}`,
      );
    else if (state.kind === "waiting")
      logger.warn({ state: state.kind, reason: state.why }, "the sequencer waits");
    else logger.info({ state: state.kind }, "the sequencer's state");
  };
  const stop = new AbortController();
  const slot = slotNameOf(identity);
  const reports = startReports({ log, identity, database, slot, figures });
  const { around = (steps) => steps } = options;
  const world = { ...options, figures, tell, around, signal: stop.signal };
  const { databaseNow = () => database } = options;
  const term = retires ? retire : runTerm;
  const running = terms((world) => term({ ...world, database: databaseNow() }), world);
  return {
    healthPort: page?.port,
    close: async () => {
      stop.abort();
      await running;
      reports.close();
      page?.close();
    },
  };
}

/** Resolves when nothing is left to do, or the signal has ended it. */
async function terms(term: (world: World) => Promise<void>, world: World): Promise<void> {
  const { tell, signal } = world;
  let retryMs = FIRST_RETRY_MS;
  while (!signal.aborted) {
    const begunMs = performance.now();
    let waitMs: number;
    try {
      await term(world);
      return;
    } catch (error) {
      if (performance.now() - begunMs > GOOD_TERM_MS) retryMs = FIRST_RETRY_MS;
      if (error instanceof FailClosed) {
        tell({ kind: "failed", reason: error.reason, why: error.message });
        waitMs = MENDED_LOOK_MS;
      } else {
        const reason = error instanceof Hindered ? error.reason : "Interrupted";
        tell({ kind: "waiting", reason, why: (error as Error).message });
        waitMs = retryMs;
        retryMs = Math.min(LAST_RETRY_MS, retryMs * 2);
      }
    }
    await waited(waitMs, signal);
  }
}

/** Resolves when the database has no slot of this Outbox any more. */
async function retire({ identity, database, signal, tell }: World): Promise<void> {
  const sql = await openSql(database);
  try {
    await forgetSlot(sql, slotNameOf(identity), {
      onStandby: () =>
        tell({ kind: "waiting", reason: "Interrupted", why: "a sequencer is at work still" }),
      pause: async (ms) => {
        await waited(ms, signal);
        signal.throwIfAborted();
      },
    });
    tell({ kind: "retired" });
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await sql.end().catch(() => {});
  }
}

/** Less when the signal comes. */
function waited(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
