/**
 * Two releases side by side on a real API server, Kafka and session store: the one before, built from an earlier
 * commit, and this one. Definitions and operator go forth and back, and servers of both serve all the while.
 * The tests are steps of one upgrade, in this order.
 */
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import { judge, judgeTogether, type Seen } from "../../local/demo-audit.ts";
import { type EmbeddedStore, startStore } from "../../local/embedded-store.ts";
import type { Start } from "../../proto/gen/throughline/v1/throughline.ts";
import { type Launch, shippedOnce } from "../shipped.ts";
import { Load } from "../story/bed.ts";
import { newEvent, Publisher } from "../story/publisher.ts";
import { readTopic } from "../story/read-topic.ts";
import { StoryServer } from "../story/story-server.ts";
import { EARLIEST, Subscriber } from "../story/subscriber.ts";
import { earlierRelease } from "./earlier-release.ts";
import { ended } from "./processes.ts";
import { isReady, SLOW_MS, TopicBed } from "./topic-bed.ts";

/** The first one whose image has operator and server: no adoption, and no time of taking, in its catalog. */
const BEFORE = "e78af402036cd4ecd36b6e97225ac67d28a8993e";
const ID = "up";
/** Servers follow the catalog within so long. */
const FOLLOW_MS = 1000;

let folder: string;
let bed: TopicBed;
let store: EmbeddedStore;
let before: Launch;
let after: Launch;
let operator: ChildProcess;
/** Of the release before, and of this one. */
let older: StoryServer;
let newer: StoryServer;
const servers: StoryServer[] = [];
let publisher: Publisher;
let load: Load;
/** Its one stream, at the older server, lasts from the first step to the last. */
let loyal: Subscriber;
let byToken: Wanderer;
let bySession: Wanderer;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "throughline-upgrade-"));
  before = earlierRelease(BEFORE, join(folder, "before"));
  after = shippedOnce(join(folder, "after"));
  bed = await TopicBed.start({ root: before.folder });
  store = await startStore({ directory: bed.folder("store") });
  await bed.namespace("up");
}, SLOW_MS);

afterAll(async () => {
  await load?.stop();
  publisher?.close();
  await loyal?.stop();
  for (const server of servers) await server.kill();
  await store?.stop();
  await bed?.stop();
  rmSync(folder, { recursive: true, force: true });
}, SLOW_MS);

/** A client that goes from server to server, with its token or as a named session. */
class Wanderer {
  readonly seen: Seen[] = [];
  readonly #session: string | undefined;
  #start: NonNullable<Start["at"]> = EARLIEST;

  constructor(session?: string) {
    this.#session = session;
  }

  /** Takes at least so many events, and leaves in order. */
  async take(server: StoryServer, count: number): Promise<void> {
    const client = new ThroughlineClient([server.address]);
    const goal = this.seen.length + count;
    const session = this.#session && ({ name: this.#session, acks: "explicit" } as const);
    const options = { topic: "orders", start: this.#start, ...(session && { session }) };
    for await (const batch of client.subscribe(options)) {
      const { partition, maybeRedelivered: marked, token } = batch;
      for (const { offset, payload } of batch.events)
        this.seen.push({ partition, offset: Number(offset), value: String(payload), marked });
      batch.ack();
      // A session's start is used only while nothing is stored; a token would move it.
      if (!session) this.#start = { $case: "token", value: { token, after: [] } };
      if (this.seen.length >= goal) break;
    }
    client.close();
  }
}

async function serve(launch: Launch): Promise<StoryServer> {
  const server = new StoryServer(
    [
      ...["--kafka", bed.kafka.brokers.join(","), "--deployment-id", ID, "--namespace", "up"],
      ...["--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"],
      ...["--session-store", store.url],
    ],
    launch,
  );
  servers.push(server);
  await server.ready();
  return server;
}

function operate({ folder }: Launch, ...flags: string[]): ChildProcess {
  const program = join(folder, "dist/operator.mjs");
  return bed.operatorOf(program, ID, "--namespaces", "up", ...flags);
}

/** The one before gives its Lease back when it is told to go, so that the next one need not wait for its end. */
async function operateNow(launch: Launch, ...flags: string[]): Promise<void> {
  const next = operate(launch, ...flags);
  await ended(operator, "SIGTERM");
  operator = next;
}

/** When the Topic's status says so, servers know it within a second. */
async function grow(name: string, partitions: number): Promise<void> {
  await bed.patch(`up/${name}`, { spec: { partitions } });
  await isFollowed(name, partitions);
}

async function isFollowed(name: string, partitions: number): Promise<void> {
  await bed.until(
    `up/${name}`,
    (topic) => isReady(topic) && topic?.status?.partitions === partitions,
  );
  const ask = async (): Promise<number> => {
    const sinceMs = performance.now();
    await Promise.all(servers.map((server) => server.knows(name, partitions)));
    return performance.now() - sinceMs;
  };
  const followedMs = await ask();
  // The second time they know it already: that is what asking takes here.
  expect(followedMs - (await ask())).toBeLessThan(FOLLOW_MS);
}

test(
  "the release before makes Topics and serves them",
  async () => {
    operator = operate(before);
    await bed.apply("up/orders", { partitions: 2, deletionPolicy: "Delete" });
    await bed.apply("up/till", {});
    await bed.untilReady("up/orders", "up/till");
    older = await serve(before);
    await older.knows("orders");
    publisher = new Publisher([older.address], "orders");
    load = new Load(publisher.publish, 0, 5);
    loyal = new Subscriber([older.address], { topic: "orders", start: EARLIEST });
    [byToken, bySession] = [new Wanderer(), new Wanderer("billing")];
    for (const one of [byToken, bySession]) await one.take(older, 200);
  },
  SLOW_MS,
);

test(
  "with this release's definitions and operator the servers of the one before follow new Topics and changes",
  async () => {
    await bed.define();
    await bed.makeKafkaTopic("legacy");
    await operateNow(after, "--allowed-kafka-topics", "up/legacy");
    await grow("orders", 3);
    await bed.apply("up/new", { partitions: 2 });
    await isFollowed("new", 2);
    await bed.apply("up/legacy", { kafkaTopic: "legacy" });
    await bed.until("up/legacy", (topic) => isReady(topic) && topic?.status?.adopted === true);
    await loyal.until(() => loyal.seen.some(({ partition }) => partition === 2));
  },
  SLOW_MS,
);

test(
  "tokens, sessions and publishers' numbers of one release are the other's (P3, P4)",
  async () => {
    newer = await serve(after);
    await newer.knows("orders", 3);
    let last = 0n;
    for (const server of [newer, older, newer, older]) {
      for (const one of [byToken, bySession]) await one.take(server, 200);
      const client = new ThroughlineClient([server.address]);
      const till = client.namedPublisher({ topic: "till", name: "till-7" });
      expect(await till.lastNumber()).toBe(last);
      await till.publish([newEvent(1), newEvent(2)]);
      last += 2n;
      till.close();
      client.close();
    }
  },
  SLOW_MS,
);

test(
  "after a rollback the operator of the release before goes on with what this one made",
  async () => {
    await operateNow(before);
    await grow("orders", 4);
    await grow("new", 3);
    await bed.apply("up/later", {});
    await isFollowed("later", 1);
    // It does not know of adoption, and drops it from the record that it writes.
    await grow("legacy", 2);
    for (const server of [newer, older])
      for (const one of [byToken, bySession]) await one.take(server, 200);
  },
  SLOW_MS,
);

test(
  "upgraded again, what was adopted is so yet: it stays when its Topic is deleted",
  async () => {
    await operateNow(after, "--allowed-kafka-topics", "up/legacy");
    await bed.patch("up/legacy", { spec: { deletionPolicy: "Delete" } });
    await bed.untilReady("up/legacy");
    expect((await bed.topic("up/legacy")).status?.adopted).toBe(true);
    await bed.delete("up/legacy");
    await bed.untilGone("up/legacy");
    expect(await bed.kafkaTopic("legacy")).toBeDefined();
  },
  SLOW_MS,
);

test(
  "rolled back with the definitions too, Topics are served and deleted as they were declared",
  async () => {
    await bed.define(before.folder);
    await operateNow(before);
    await grow("orders", 5);
    await grow("later", 2);
    await bed.patch("up/later", { spec: { deletionPolicy: "Delete" } });
    await bed.untilReady("up/later");
    await bed.delete("up/later");
    await bed.untilGone("up/later");
    expect(await bed.kafkaTopic("up.later")).toBeUndefined();
    await bed.untilReady("up/orders", "up/new", "up/till");
  },
  SLOW_MS,
);

test(
  "through all of it no event was lost, doubled or out of order, and no stream broke (P1, P2)",
  async () => {
    await load.stop();
    expect([...publisher.errors]).toEqual([]);
    const log = await readTopic(bed.kafka.brokers, "up.orders");
    publisher.expectKept(log);
    await loyal.has(log.length);
    for (const one of [byToken, bySession]) {
      const left = log.length - one.seen.length;
      if (left > 0) await one.take(newer, left);
    }
    expect(loyal.breaks).toEqual([]);
    for (const { seen } of [loyal, byToken]) {
      const { received, ...wrong } = judge(log, seen);
      expect(wrong).toEqual({ missing: 0, repeated: 0, outOfOrder: 0, different: 0 });
      expect(received).toBe(log.length);
    }
    expect(judgeTogether(log, [bySession.seen])).toEqual({ missing: 0, repeatedUnmarked: 0 });
  },
  SLOW_MS,
);
