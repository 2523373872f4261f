/**
 * What a change of members costs a shared session whose clients acknowledge at once: how long a partition that
 * moves is silent, and one that does not, while each partition gets an event every few milliseconds.
 */
import { join } from "node:path";
import { ThroughlineClient } from "../../../client/client.ts";
import type { TopicInfo } from "../../../kafka/log.ts";
import { startStore } from "../../../local/embedded-store.ts";
import { type Bed, type BenchServer, pause } from "../bed.ts";
import { type Figure, quantile } from "../figures.ts";
import type { Scale } from "./backlog.ts";

const PARTITIONS = 6;
const EVERY_MS = 10;
const CHANGES = 60;
/** Long enough for a change to be over, and for members to be as they were before. */
const WINDOW_MS = 1500;
const NAME = "members";

interface Arrival {
  readonly by: string;
  readonly atMs: number;
}

export async function members(bed: Bed, { share }: Scale): Promise<Figure[]> {
  const topic = await bed.topic(NAME, { partitions: PARTITIONS });
  const store = await startStore({ directory: join(bed.folder, "store") });
  const flags = ["--session-store", store.url];
  const [a, b] = [await bed.server(flags), await bed.server(flags)];
  const stopLoad = load(bed, topic);
  const arrivals: Arrival[][] = Array.from({ length: PARTITIONS }, () => []);
  const stays = new Worker(a, "stays", arrivals);
  await pause(2 * WINDOW_MS);
  const found: Record<string, number[]> = { before: [], joinMoved: [], joinUnmoved: [] };
  Object.assign(found, { leaveMoved: [], leaveUnmoved: [] });
  for (let i = 0; i < Math.max(3, CHANGES * share); i++) {
    measure(found, arrivals, "before", await window(() => undefined));
    let comes: Worker | undefined;
    const joinedMs = await window(() => {
      comes = new Worker(b, "comes", arrivals);
    });
    measure(found, arrivals, "join", joinedMs);
    measure(found, arrivals, "leave", await window(() => void comes?.leave()));
    await comes?.ended;
  }
  // It ends with a batch.
  await stays.leave();
  await stopLoad();
  await Promise.all([a.stop(), b.stop()]);
  await store.stop();
  const silence = (what: string, name: string, goal?: Figure["goal"]): Figure[] =>
    [0.5, 0.99].map((of) => ({
      what: `${what}: longest silence of a partition, p${of * 100} of ${found[name]?.length}`,
      unit: "ms",
      ours: [quantile(found[name] ?? [], of)],
      ...(goal && { goal }),
    }));
  return [
    ...silence("nothing changes", "before"),
    ...silence("a member joins, partitions that move", "joinMoved", { atMost: 100 }),
    ...silence("a member joins, the others", "joinUnmoved"),
    ...silence("a member leaves, partitions that move", "leaveMoved", { atMost: 100 }),
    ...silence("a member leaves, the others", "leaveUnmoved"),
  ];
}

class Worker {
  readonly ended: Promise<void>;
  #leaves = false;

  constructor(server: BenchServer, by: string, arrivals: readonly Arrival[][]) {
    this.ended = this.#run(server, by, arrivals);
  }

  leave(): Promise<void> {
    this.#leaves = true;
    return this.ended;
  }

  async #run({ address }: BenchServer, by: string, arrivals: readonly Arrival[][]): Promise<void> {
    const client = new ThroughlineClient([address]);
    const session = { name: NAME, mode: "shared" } as const;
    for await (const batch of client.subscribe({ topic: NAME, session })) {
      arrivals[batch.partition]?.push({ by, atMs: performance.now() });
      if (!this.#leaves) continue;
      batch.ack();
      break;
    }
    client.close();
  }
}

/** One event after the other into each partition. @returns ends it */
function load(bed: Bed, topic: TopicInfo): () => Promise<void> {
  let on = true;
  const value = Buffer.alloc(100, "x");
  const running = Array.from({ length: PARTITIONS }, async (_none, partition) => {
    while (on) {
      await bed.log.append(topic, partition, { key: null, value, headers: [], timeMs: Date.now() });
      await pause(EVERY_MS);
    }
  });
  return async () => {
    on = false;
    await Promise.all(running);
  };
}

async function window(change: () => void): Promise<number> {
  const atMs = performance.now();
  change();
  await pause(WINDOW_MS);
  return atMs;
}

function measure(
  found: Record<string, number[]>,
  arrivals: readonly Arrival[][],
  name: string,
  fromMs: number,
): void {
  for (const of of arrivals) {
    const first = of.findIndex(({ atMs }) => atMs >= fromMs);
    const seen = of.slice(Math.max(0, first - 1));
    const moved = new Set(seen.map(({ by }) => by)).size > 1 ? "Moved" : "Unmoved";
    let longest = 0;
    for (const [i, { atMs }] of seen.entries())
      longest = Math.max(longest, atMs - (seen[i - 1]?.atMs ?? atMs));
    found[name === "before" ? name : `${name}${moved}`]?.push(longest);
  }
}
