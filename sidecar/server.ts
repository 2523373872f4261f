/**
 * One server, put together: log, catalog, reliability, dispatching, sessions, doors. Whoever starts it
 * (main.ts, tests) brings the log, the session store and the logger, and stops it by drain() or close().
 */

import type { Logger } from "pino";
import type { Log } from "../kafka/log.ts";
import { STEADY_CLOCK, WALL_CLOCK } from "../process/clock.ts";
import { openStatusPage } from "../process/status-page.ts";
import { CatalogFollower } from "./catalog-follower.ts";
import type { Config } from "./config.ts";
import { CatchUpBudget } from "./dispatch/catch-up-budget.ts";
import { CatchUpLoad } from "./dispatch/catch-up-load.ts";
import { SegmentEncoder } from "./dispatch/encoder.ts";
import { PLANNING_PACE } from "./dispatch/plan-catch-up.ts";
import { RULES } from "./dispatch/rules.ts";
import { SegmentMemory } from "./dispatch/segment-memory.ts";
import { Dispatch } from "./dispatch/topic-dispatch.ts";
import { Turns } from "./dispatch/turns.ts";
import { openDoor } from "./door.ts";
import { healthService } from "./health.ts";
import { InFlightBudget } from "./in-flight-budget.ts";
import type { Limits } from "./limits.ts";
import { ServerMetrics } from "./metrics.ts";
import { reflectionServices } from "./reflection.ts";
import { SelfReliability } from "./reliability.ts";
import type { ServerContext } from "./server-context.ts";
import { SessionMirror } from "./sessions/mirror.ts";
import { sessionFigures } from "./sessions/session-figures.ts";
import type { SessionStore } from "./sessions/session-store.ts";
import { Sessions } from "./sessions/sessions.ts";
import { ShortLivedMemory } from "./short-lived-memory.ts";

export interface RunningServer {
  /** Where clients connect: with the port that was given when 0 was asked for. */
  readonly address: string;
  readonly healthPort: number | undefined;
  /** Tells clients to leave and refuses new streams; those that stay are served on. */
  beginDrain(): void;
  /** Tells clients to move; resolves when all have gone, or at the deadline. */
  drain(): Promise<void>;
  close(): Promise<void>;
}

/** @throws when an address cannot be had; everything is closed again then. */
export async function startServer(
  config: Config,
  log: Log,
  logger: Logger,
  store?: SessionStore,
): Promise<RunningServer> {
  const { limits } = config;
  const metrics = new ServerMetrics();
  const reliability = new SelfReliability({
    shape: config.shape,
    clock: STEADY_CLOCK,
    loopBlockedMs: limits.loopBlockedMs,
    readsStalledMs: limits.readsStalledMs,
    kafkaAnswers: async ({ topic, partition }) =>
      (await log.offset(topic, partition, "latest")).kind === "offset",
    onFinding: (message) => logger.warn(message),
  });
  const catalog = new CatalogFollower({
    log,
    deploymentId: config.deploymentId,
    clusterUid: config.clusterUid,
    clock: WALL_CLOCK,
    logger,
    onRead: () => reliability.catalogRead(),
  });
  const context: ServerContext = {
    log,
    catalog,
    deploymentId: config.deploymentId,
    namespace: config.namespace,
    serverName: config.serverName,
    shape: config.shape,
    limits,
    logger,
    clock: WALL_CLOCK,
    random: Math.random,
    metrics,
    reliability,
  };
  const memory = new ShortLivedMemory(STEADY_CLOCK.setTimer);
  const budget = new InFlightBudget(limits.inFlightBytes);
  const dispatch = makeDispatch(context, memory, budget);
  const mirror =
    store && limits.mirrorMs > 0
      ? new SessionMirror({
          ...{ groups: log.groups, store, catalog, clock: STEADY_CLOCK, logger, metrics },
          everyMs: limits.mirrorMs,
        })
      : undefined;
  const sessions = store && new Sessions(context, store, STEADY_CLOCK, mirror);
  const endOf = (topicId: string, partition: number): number =>
    dispatch.find(topicId)?.partition(partition).main.end.lastStable ?? -1;

  const stopAll: (() => void)[] = [
    () => dispatch.close(),
    () => catalog.close(),
    () => reliability.close(),
    () => memory.close(),
    () => sessions?.close(),
  ];
  try {
    const statusPage =
      config.healthListen &&
      (await openStatusPage(
        {
          readiness: () => reliability.readiness(),
          metricsPage: () => {
            metrics.inFlightBytes(budget.used);
            metrics.sessions(sessionFigures(sessions?.held ?? [], catalog, endOf));
            return metrics.page();
          },
        },
        config.healthListen,
      ).catch(cannotListen("--health-listen", config.healthListen)));
    if (statusPage) stopAll.unshift(() => statusPage.close());
    const door = await openDoor(
      context,
      { dispatch, budget, sessions, allocated: (bytes) => memory.allocated(bytes) },
      {
        address: config.listen,
        tls: config.tls,
        extra: [
          healthService({
            ready: () => reliability.readiness().ready,
            draining: () => reliability.draining,
            onReadiness: (listener) => reliability.onReadiness(listener),
          }),
          ...reflectionServices(),
        ],
      },
    ).catch(cannotListen("--listen", config.listen));
    stopAll.unshift(() => door.close());
    return {
      address: door.address,
      healthPort: statusPage?.port,
      beginDrain: () => reliability.drain(0),
      drain: () => {
        reliability.drain(WALL_CLOCK.now() + limits.drainMs);
        door.leadAway(limits.drainMs);
        // Publishing is served until the last stream has gone: its callers are told nothing before.
        const gone = door
          .streamsEnded()
          .then(() => sessions?.settled())
          .then(() => door.finish());
        return new Promise((resolve) => {
          const cancel = STEADY_CLOCK.setTimer(limits.drainMs, resolve);
          void gone.then(() => {
            cancel();
            resolve();
          });
        });
      },
      close: async () => {
        for (const stop of stopAll) stop();
        // Streams that were cut off just now save where they stood.
        await sessions?.settled();
        await mirror?.close();
        await store?.close();
        await log.close();
      },
    };
  } catch (error) {
    for (const stop of stopAll) stop();
    void mirror?.close();
    throw error;
  }
}

const SATURATED = 0.7;
const SATURATION_SAMPLE_MS = 150;
/** Who resumes waits for what is there rather than begin what the processor has no time for. */
const SATURATION_RISES_BY = 0.5;
const SATURATION_FALLS_BY = 0.2;

function makeDispatch(
  context: ServerContext,
  memory: ShortLivedMemory,
  inFlight: InFlightBudget,
): Dispatch {
  const { limits, metrics, reliability } = context;
  let tailBytes = 0;
  let catchUpBytes = 0;
  const dispatch: Dispatch = new Dispatch({
    log: context.log,
    clock: context.clock,
    encoder: new SegmentEncoder(
      new SegmentMemory({ allocated: (bytes) => memory.allocated(bytes) }),
    ),
    rules: RULES,
    limits: dispatchLimits(limits),
    metrics,
    budget: new CatchUpBudget(limits.catchUpDispatchers),
    turns: new Turns(context.clock, limits.fetchBytes, setImmediate),
    pace: PLANNING_PACE,
    load: new CatchUpLoad(saturation(inFlight), PLANNING_PACE, context.clock.now()),
    tailBytesAllowed: () => limits.tailBytes / Math.max(1, dispatch.partitionsServed),
    tailBytes: (delta) => {
      tailBytes += delta;
      metrics.tailBytes(tailBytes);
    },
    catchUpBytes: (delta) => {
      catchUpBytes += delta;
      metrics.catchUpBytes(catchUpBytes);
    },
    reads: reliability,
  });
  return dispatch;
}

/**
 * Told by the event loop, whenever it is asked: whether it was busy for most of the last second or so.
 * Where clients share the processor it is idle now and then even so. And by the frames under way: where all
 * clients together take less than there is for them (one machine with a thousand), their share of a
 * processor or of a network sets the pace of each, as ours would.
 */
function saturation(inFlight: InFlightBudget): () => boolean {
  let before = performance.eventLoopUtilization();
  let mean = 0;
  return () => {
    const now = performance.eventLoopUtilization();
    const { idle, active, utilization } = performance.eventLoopUtilization(now, before);
    if (idle + active < SATURATION_SAMPLE_MS) return mean > SATURATED;
    before = now;
    const busy = Math.min(1, Math.max(utilization, inFlight.usedShare));
    mean += (busy - mean) * (busy > mean ? SATURATION_RISES_BY : SATURATION_FALLS_BY);
    return mean > SATURATED;
  };
}

/** The window of each catch-up is its share of the budget of all. */
function dispatchLimits(limits: Limits) {
  return { ...limits, catchUpWindowBytes: limits.catchUpBytes / limits.catchUpDispatchers };
}

/** The operating system's words, the flag, and the next step (P10). */
function cannotListen(flag: string, at: string | { host: string; port: number }) {
  const where = typeof at === "string" ? at : `${at.host}:${at.port}`;
  return (error: Error): never => {
    const inUse = error.message.includes("EADDRINUSE");
    throw new Error(
      inUse
        ? `${where} is in use: stop the process that listens there, or choose another ${flag}.`
        : `Cannot listen on ${where} (${error.message}): choose another ${flag}.`,
    );
  };
}
