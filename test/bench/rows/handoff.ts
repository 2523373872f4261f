/** Named sessions that move: planned, after a crash, a thousand at once; and what the store does a second. */
import { join } from "node:path";
import { ThroughlineClient } from "../../../client/client.ts";
import type { TopicInfo } from "../../../kafka/log.ts";
import { type EmbeddedStore, startStore } from "../../../local/embedded-store.ts";
import { openStore } from "../../sessions/real-store.ts";
import { type Bed, type BenchServer, pause } from "../bed.ts";
import { ordered } from "../child.ts";
import { type Figure, quantile } from "../figures.ts";
import type { MoverOrder, MoverReport } from "../mover.ts";
import type { Scale } from "./backlog.ts";

/** Sessions that move at once, each with a connection of its own, and how often. */
const FEW = { sessions: 5, moves: 40 };
const MANY = { sessions: 20, moves: 10 };
const HERD = 1000;
const IDLE_PER_SECOND = 200;
const BUSY_PER_SECOND = 10_000;
const WIDE = 64;
const STEPS = 20_000;
const TICK_MS = 5;
const LOOK_MS = 200;
/** A server that was just started is slower than it will be. */
const STANDING_BATCHES = 100;
const MIB = 1 << 20;

export async function handoff(bed: Bed, { share }: Scale): Promise<Figure[]> {
  const topic = await bed.topic("handoff");
  const store = await startStore({ directory: join(bed.folder, "store") });
  try {
    const idle = await bed.server(["--session-store", store.url]);
    await pause(2000);
    const idleMib = idle.rssBytes() / MIB;
    await idle.stop();
    const moved = (load: number, end: NodeJS.Signals, clients = FEW) =>
      moves(bed, store, topic, load, end, clients);
    const planned = await moved(IDLE_PER_SECOND, "SIGTERM");
    const busy = await moved(BUSY_PER_SECOND, "SIGTERM");
    const many = await moved(IDLE_PER_SECOND, "SIGTERM", MANY);
    const crashed = await moved(IDLE_PER_SECOND, "SIGKILL", MANY);
    const herd = await herdOfOneServer(bed, store, topic);
    const steps = await storeSteps(store, Math.round(STEPS * share));
    return [
      ...takeover(
        `planned takeover of ${FEW.sessions} sessions at once, from Moving to the first event`,
        planned.plannedMs,
      ),
      ...takeover("the same at 10,000 events/s", busy.plannedMs),
      {
        what: `planned takeover of ${MANY.sessions} sessions at once, p50 of ${many.plannedMs.length}`,
        unit: "ms",
        ours: [quantile(many.plannedMs, 0.5)],
      },
      {
        what: `crash takeover, from the reconnect to the first event, p99 of ${crashed.crashMs.length}`,
        unit: "ms",
        ours: [quantile(crashed.crashMs, 0.99)],
        goal: { atMost: 250 },
      },
      {
        what: `${HERD} sessions of one dead server: until all are live`,
        unit: "s",
        ours: [herd / 1000],
        goal: { atMost: 2 },
      },
      { what: `claims, ${WIDE} at once`, unit: "/s", ours: [steps.claims] },
      { what: `saves, ${WIDE} at once`, unit: "/s", ours: [steps.saves] },
      {
        what: "idle server with the session store, resident",
        unit: "MiB",
        ours: [idleMib],
        goal: { atMost: 105 },
      },
    ];
  } finally {
    await store.stop();
  }
}

function takeover(what: string, ms: readonly number[]): Figure[] {
  return [
    {
      what: `${what}, p50 of ${ms.length}`,
      unit: "ms",
      ours: [quantile(ms, 0.5)],
      goal: { atMost: 50 },
    },
    { what: "the same, p99", unit: "ms", ours: [quantile(ms, 0.99)], goal: { atMost: 250 } },
    { what: "the same, longest", unit: "ms", ours: [Math.max(...ms)] },
  ];
}

/** All clients go from one server to the other and back, as each in turn is ended and started again. */
async function moves(
  bed: Bed,
  store: EmbeddedStore,
  topic: TopicInfo,
  perSecond: number,
  end: NodeJS.Signals,
  { sessions, moves: times }: typeof FEW,
): Promise<MoverReport> {
  const flags = ["--session-store", store.url];
  const load = new Pace(bed, topic, perSecond);
  const standing = new Standing();
  let [here, there] = [await bed.server(flags), await bed.server(flags)];
  await standing.at(here);
  await standing.at(there);
  const order = { addresses: [here.address, there.address], topic: "handoff" };
  const reported = ordered<MoverOrder, MoverReport>("mover.ts", {
    ...{ ...order, sessions, moves: times },
  });
  for (let round = 0; round < times; round++) {
    await serves(here, sessions + 1);
    standing.leave(here);
    const { address } = here;
    process.kill(here.pid, end);
    await serves(there, round < times - 1 ? sessions + 1 : 1);
    if (round < times - 1) {
      await gone(here);
      const again = await bed.server([...flags, "--listen", address]);
      await standing.at(again);
      [here, there] = [there, again];
    }
  }
  const report = await reported;
  load.stop();
  standing.leave(there);
  await there.stop();
  return report;
}

/** A client on each server, as where a client moves to there are others: it knows topic and metrics. */
class Standing {
  readonly #clients = new Map<string, { client: ThroughlineClient; abort: AbortController }>();

  async at(server: BenchServer): Promise<void> {
    const { address } = server;
    const client = new ThroughlineClient([address]);
    const abort = new AbortController();
    const { signal } = abort;
    this.#clients.set(address, { client, abort });
    await server.metric("throughline_streams");
    let events = 0;
    await new Promise<void>((resolve) => {
      void (async () => {
        for await (const _ of client.subscribe({ topic: "handoff", signal })) {
          if (++events === STANDING_BATCHES) resolve();
        }
      })();
    });
  }

  leave({ address }: BenchServer): void {
    const { client, abort } = this.#clients.get(address) ?? {};
    abort?.abort();
    client?.close();
    this.#clients.delete(address);
  }
}

async function herdOfOneServer(bed: Bed, store: EmbeddedStore, topic: TopicInfo): Promise<number> {
  const flags = ["--session-store", store.url];
  const [a, b] = [await bed.server(flags), await bed.server(flags)];
  const load = new Pace(bed, topic, 20);
  const order = { addresses: [a.address, b.address], topic: "handoff", sessions: HERD, moves: 1 };
  const reported = ordered<MoverOrder, MoverReport>("mover.ts", order);
  await serves(a, HERD);
  await pause(2000);
  await a.stop();
  const { allLiveMs } = await reported;
  load.stop();
  await b.stop();
  return allLiveMs;
}

async function storeSteps(store: EmbeddedStore, count: number) {
  const port = Number(new URL(store.url).port);
  const sessions = openStore(port);
  const holder = { instance: "bench", attempt: 1, server: "A" };
  const topicId = "0".repeat(32);
  const key = (i: number) => ({
    ...{ deploymentId: "bench", caller: "bench", topic: "bench/handoff", session: `s-${i % 1000}` },
  });
  const position = Buffer.alloc(120);
  const claimed = await wide(count, (i) =>
    sessions.claim(key(i), { claimId: `c${i}`, topicId, holder }),
  );
  const fences = await Promise.all(
    Array.from({ length: 1000 }, async (_, i) => {
      const outcome = await sessions.claim(key(i), { claimId: "last", topicId, holder });
      if (outcome.kind !== "claimed") throw new Error(outcome.kind);
      return { key: key(i), topicId, holder, fence: outcome.fence };
    }),
  );
  const saved = await wide(count, (i) => {
    const held = fences[i % 1000] as (typeof fences)[number];
    return sessions.save(held, { sequence: i + 1, position, release: false });
  });
  await sessions.close();
  return { claims: claimed, saves: saved };
}

/** @returns steps a second. */
async function wide(
  count: number,
  step: (i: number) => Promise<{ readonly kind: string }>,
): Promise<number> {
  const started = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: WIDE }, async () => {
      while (next < count) {
        const { kind } = await step(next++);
        if (kind !== "claimed" && kind !== "saved") throw new Error(kind);
      }
    }),
  );
  return (count / (performance.now() - started)) * 1000;
}

/** Asked seldom: a page of metrics costs what ten streams cost, while they are being opened. */
async function serves(server: BenchServer, streams: number): Promise<void> {
  while ((await server.metric("throughline_streams")) !== streams) await pause(LOOK_MS);
}

async function gone(server: BenchServer): Promise<void> {
  for (;;) {
    try {
      process.kill(server.pid, 0);
    } catch {
      return;
    }
    await pause(5);
  }
}

/** Appends at a steady rate, so that a client that has moved soon has an event. */
class Pace {
  readonly #timer: NodeJS.Timeout;

  constructor(bed: Bed, topic: TopicInfo, perSecond: number) {
    const value = Buffer.alloc(100);
    let due = performance.now();
    this.#timer = setInterval(() => {
      for (; due <= performance.now(); due += 1000 / perSecond) {
        void bed.log.append(topic, 0, { key: null, value, headers: [], timeMs: Date.now() });
      }
    }, TICK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
