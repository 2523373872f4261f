/**
 * The sequencer of one Outbox: terms, one after the other (`term.ts`). What breaks a term is logged, and the
 * next begins soon; what must not be passed over stops it until a person has mended it, which it looks for.
 */
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import type { Log } from "../kafka/log.ts";
import { openStatusPage } from "../process/status-page.ts";
import { FailClosed } from "./fail-closed.ts";
import { SequencerMetrics } from "./metrics.ts";
import type { DatabaseAddress } from "./postgres.ts";
import type { Steps } from "./relay.ts";
import { noFigures, type State, wordsOf } from "./state.ts";
import { type Identity, runTerm } from "./term.ts";

const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 5000;
const MENDED_LOOK_MS = 5000;
/** A term that lasted so long was a good one. */
const GOOD_TERM_MS = 10_000;

export interface SequencerOptions {
  readonly identity: Identity;
  readonly database: DatabaseAddress;
  /** Undefined: sent events are kept. */
  readonly keepSentHours?: number | undefined;
  /** Undefined: what waits for a Topic waits however long. */
  readonly retainedWalLimitBytes?: number | undefined;
  readonly log: Log;
  readonly logger: Logger;
  readonly healthListen: (Pick<AddressInfo, "port"> & { readonly host: string }) | undefined;
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
  const { healthListen, logger } = options;
  const figures = noFigures();
  const metrics = new SequencerMetrics(figures);
  const page =
    healthListen &&
    (await openStatusPage(
      {
        readiness: () => ({
          ready: figures.state.kind === "running" || figures.state.kind === "standby",
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
  const running = terms(options, figures, tell, stop.signal);
  return {
    healthPort: page?.port,
    close: async () => {
      stop.abort();
      await running;
      page?.close();
    },
  };
}

async function terms(
  { around = (steps) => steps, ...options }: SequencerOptions,
  figures: ReturnType<typeof noFigures>,
  tell: (state: State) => void,
  signal: AbortSignal,
): Promise<void> {
  let retryMs = FIRST_RETRY_MS;
  while (!signal.aborted) {
    const begunMs = performance.now();
    let waitMs: number;
    try {
      await runTerm({ ...options, figures, tell, around, signal });
      return;
    } catch (error) {
      if (performance.now() - begunMs > GOOD_TERM_MS) retryMs = FIRST_RETRY_MS;
      if (error instanceof FailClosed) {
        tell({ kind: "failed", reason: error.reason, why: error.message });
        waitMs = MENDED_LOOK_MS;
      } else {
        tell({ kind: "waiting", why: (error as Error).message });
        waitMs = retryMs;
        retryMs = Math.min(LAST_RETRY_MS, retryMs * 2);
      }
    }
    await waited(waitMs, signal);
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
