/** Sessions between real servers, a real Kafka and a real store, under SIGKILL and outages: P2 to P5. */
import { credentials } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import type { TopicInfo } from "../../kafka/log.ts";
import type { EmbeddedStore } from "../../local/embedded-store.ts";
import { ThroughlineServiceClient } from "../../proto/gen/throughline/v1/throughline.ts";
import { Bed, Load, SLOW_MS } from "./bed.ts";
import type { StoryServer } from "./story-server.ts";
import { EARLIEST } from "./subscriber.ts";
import { until } from "./waits.ts";

let bed: Bed;
let store: EmbeddedStore;

beforeAll(async () => {
  bed = await Bed.open();
  store = await bed.store();
}, SLOW_MS);

afterAll(() => bed?.close(), SLOW_MS);

function serverOf(topic: string, ...flags: string[]): Promise<StoryServer> {
  return bed.server([topic], "--session-store", store.url, ...flags);
}

/** Resolves when the store says that the session is held, or that it is not. */
async function saidToBe(
  wanted: "held" | "free",
  address: string,
  topic: string,
  session = topic,
): Promise<void> {
  const stub = new ThroughlineServiceClient(address, credentials.createInsecure());
  const said = (): Promise<string | undefined> =>
    new Promise((resolve) =>
      stub.getSession({ topic, session }, (_error, answer) =>
        resolve(answer && (answer.held ? "held" : "free")),
      ),
    );
  await until(async () => (await said()) === wanted);
  stub.close();
}

interface Had {
  readonly partition: number;
  readonly offset: number;
  readonly marked: boolean;
}

/** One client process after the other, each under the same session name. */
class Worker {
  readonly had: Had[] = [];
  readonly #topic: string;
  readonly #session: string;

  constructor(topic: string, session = "worker") {
    this.#topic = topic;
    this.#session = session;
  }

  /** Takes so many events, then leaves in order, or breaks off with some taken and not acknowledged. */
  async take(addresses: readonly string[], count: number, end: "leave" | "break"): Promise<void> {
    const client = new ThroughlineClient(addresses);
    const abort = new AbortController();
    const goal = this.had.length + count;
    const session = { name: this.#session, acks: "explicit" } as const;
    const { signal } = abort;
    const options = { topic: this.#topic, start: EARLIEST, session, signal, creditEvents: 100 };
    for await (const batch of client.subscribe(options)) {
      const { partition, maybeRedelivered: marked } = batch;
      for (const { offset } of batch.events) {
        this.had.push({ partition, offset: Number(offset), marked });
      }
      if (end === "leave" || this.had.length < goal - 50) batch.ack();
      if (this.had.length < goal) continue;
      if (end === "break") abort.abort();
      break;
    }
    client.close();
  }

  /** Every event of the log came; what came again, or not after the one before, was marked. */
  async judge(topic: TopicInfo): Promise<void> {
    const log = await bed.read(topic);
    const last = new Map<number, number>();
    let unmarked = 0;
    for (const { partition, offset, marked } of this.had) {
      const before = last.get(partition) ?? -1;
      if (offset <= before && !marked) unmarked++;
      last.set(partition, Math.max(before, offset));
    }
    const had = new Set(this.had.map(({ partition, offset }) => `${partition}/${offset}`));
    const missing = log.filter(({ partition, offset }) => {
      return offset <= (last.get(partition) ?? -1) && !had.has(`${partition}/${offset}`);
    });
    expect({ unmarked, missing }).toEqual({ unmarked: 0, missing: [] });
  }
}

test(
  "P2 P3 P5: a session goes from pod to pod, by leave, crash and SIGKILL: nothing is missing, what repeats is marked",
  async () => {
    const topic = await bed.topic("moves", { partitions: 3 });
    const load = new Load((from, count) => bed.append(topic, from, count));
    let a = await serverOf("moves");
    let b = await serverOf("moves");
    const worker = new Worker("moves");
    for (let round = 0; round < 4; round++) {
      await worker.take([a.address], 300, "leave");
      // Nobody has crashed yet, and who leaves waits a second for the server, no more.
      if (round === 0) await saidToBe("free", b.address, "moves", "worker");
      const before = worker.had.length;
      await worker.take([b.address], 300, "break");
      if (round === 0) expect(worker.had.slice(before).some(({ marked }) => marked)).toBe(false);
      const crashed = worker.had.length;
      await worker.take([a.address], 300, "leave");
      expect(worker.had.slice(crashed).some(({ marked }) => marked)).toBe(true);
      // Its session ends without a word.
      const taking = worker.take([a.address, b.address], 900, "leave");
      await load.more(200);
      await a.kill();
      await taking;
      a = b;
      b = await serverOf("moves");
    }
    await load.stop();
    await worker.judge(topic);
  },
  SLOW_MS,
);

test(
  "P3 P5: the library's session over servers that are killed and a store that is killed, frozen and emptied: each event once",
  async () => {
    const topic = await bed.topic("storm", { partitions: 2 });
    const load = new Load((from, count) => bed.append(topic, from, count));
    let a = await serverOf("storm");
    const b = await serverOf("storm");
    const session = { name: "storm" };
    const client = bed.subscriber([a.address, b.address], {
      ...{ topic: "storm", start: EARLIEST, session },
    });
    const goesOn = (): Promise<void> => client.has(client.seen.length + 300);
    await client.has(300);
    const { address } = a;
    await a.kill();
    await goesOn();
    a = await serverOf("storm", "--listen", address);
    await store.kill();
    await client.told("unverified");
    await goesOn();
    await b.kill();
    // The store is down and the server gone: the last saved position opens anywhere (P4).
    await goesOn();
    await store.restart("lost");
    await saidToBe("held", a.address, "storm");
    store.freeze();
    await client.told("unverified", 3);
    store.thaw();
    await goesOn();
    await load.stop();
    await bed.expectWhole(topic, client);
    expect(client.breaks.length).toBeGreaterThan(1);
  },
  SLOW_MS,
);

test(
  "P3 P5: a pod's drain, begun by its preStop: the session leaves in order, and the next pod goes on unmarked",
  async () => {
    const topic = await bed.topic("pods", { partitions: 2 });
    const first = await serverOf("pods", "--shape", "pod");
    await bed.append(topic, 0, 500);
    const session = { name: "pods" };
    const app = bed.subscriber([first.address], { topic: "pods", start: EARLIEST, session });
    await app.has(500);
    first.signal("SIGUSR2");
    await app.told("moving");
    // Refused from now on: in a pod there is no other server, so the library tries until it is ended.
    await app.until(() => app.breaks.some(({ error }) => error.error === "DRAINING"));
    await app.stop();
    first.signal("SIGTERM");
    expect(await first.ended).toBe(0);
    await bed.append(topic, 500, 100);
    const second = await serverOf("pods", "--shape", "pod");
    const worker = new Worker("pods", "pods");
    await worker.take([second.address], 100, "leave");
    expect(worker.had.map(({ marked }) => marked)).toEqual(Array(100).fill(false));
    expect(app.seen).toHaveLength(500);
  },
  SLOW_MS,
);

test(
  "a connection that is too old is closed, and its streams go on over another",
  async () => {
    const topic = await bed.topic("aged", { partitions: 1 });
    const flags = ["--connection-age-ms", "1000", "--drain-ms", "200"];
    const server = await serverOf("aged", ...flags);
    const load = new Load((from, count) => bed.append(topic, from, count));
    const client = bed.subscriber([server.address], { topic: "aged", start: EARLIEST });
    await client.until(() => client.breaks.length >= 2);
    await load.stop();
    await bed.expectWhole(topic, client);
  },
  SLOW_MS,
);

test(
  "P5: of two clients with one session the newer stays; the older stops and does not come back",
  async () => {
    await bed.topic("rivals", { partitions: 1 });
    const a = await serverOf("rivals");
    const b = await serverOf("rivals");
    const session = { name: "rivals" };
    const older = bed.subscriber([a.address, b.address], { topic: "rivals", session });
    await older.told("opened");
    const newer = bed.subscriber([b.address, a.address], { topic: "rivals", session });
    await newer.told("opened");
    expect(await older.fails()).toMatchObject({ error: "SUPERSEDED", retryable: false });
    expect(newer.failure).toBeUndefined();
  },
  SLOW_MS,
);
