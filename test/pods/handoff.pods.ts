/**
 * From pod to pod, in a cluster where helm has installed the chart: apps with named sessions and the server that was
 * injected into their pods, a kubelet that ends them, and clients outside of the pods, at the gateway.
 */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import type { NamedPublisher } from "../../client/named-publisher.ts";
import type { TopicInfo } from "../../kafka/log.ts";
import {
  judge,
  judgeTogether,
  readTopic as readCommitted,
  type Seen,
} from "../../local/demo-audit.ts";
import { Load } from "../story/bed.ts";
import { type Counting, expectExactlyOnce } from "../story/counting.ts";
import { newEvent, Publisher } from "../story/publisher.ts";
import { readTopic } from "../story/read-topic.ts";
import { EARLIEST, Subscriber } from "../story/subscriber.ts";
import { until, untilStill } from "../story/waits.ts";
import { Bed, RELEASE } from "./bed.ts";
import { TAGS } from "./images.ts";
import { Workers } from "./workers.ts";

const SLOW_MS = 300_000;
const WHOLE = {
  ...{ missing: 0, repeated: 0, outOfOrder: 0, different: 0 },
  ...{ firstMissing: undefined, firstRepeated: undefined },
};
/** Of numbered events. */
const KEYS = 37;
/** The injected server's container. */
const SERVER = "throughline";

let bed: Bed;
let workers: Workers;

beforeAll(async () => {
  bed = await Bed.open(console.log);
  workers = new Workers(bed);
}, SLOW_MS);

afterAll(async () => {
  await bed?.close();
}, SLOW_MS);

/** Resolves when the last event of each partition is booked; what came before it is then, or never will be. */
function allBooked(log: readonly Seen[], booked: () => readonly Seen[]): Promise<void> {
  const last = new Map(log.map(({ partition, offset }) => [partition, offset]));
  const areEnds = (): boolean => {
    const ends = new Set(booked().map(({ partition, offset }) => `${partition}/${offset}`));
    return [...last].every(([partition, offset]) => ends.has(`${partition}/${offset}`));
  };
  return untilStill(areEnds, () => booked().length);
}

test(
  "P2 P3 P5: a pod is deleted and the next one goes on: its app is told to move before it ends, and nothing is missing or repeated",
  async () => {
    const topic = await bed.topic("orders", { partitions: 2 });
    const publisher = new Publisher([bed.gateway], "orders");
    await publisher.publish(0, 100);
    const worker = { topic: "orders", session: "billing" };
    await workers.start({ ...worker, name: "worker-1" });
    const had = (): number => bed.records.events("worker-1").length;
    await untilStill(() => had() === 100, had);
    // More comes while the pod ends, and while there is none.
    await Promise.all([publisher.publish(100, 100), workers.delete("worker-1")]);
    const said = bed.records.kinds("worker-1").filter((kind) => kind !== "events");
    // The kubelet turns to both at once, app and server.
    const inTheMiddle = said.slice(1, -1).sort();
    expect([said[0], inTheMiddle, said.at(-1)]).toEqual([
      ...["opened", ["moving", "told to end"], "ends"],
    ]);
    await publisher.publish(200, 50);
    await workers.start({ ...worker, name: "worker-2" });
    const all = () => bed.records.events("worker-1", "worker-2");
    const log = await readTopic(bed.kafka.brokers, topic.name);
    await allBooked(log, all);
    publisher.expectKept(log);
    expect(judge(log, all())).toMatchObject({ ...WHOLE, received: 250 });
    expect(all().some(({ marked }) => marked)).toBe(false);
    await workers.delete("worker-2");
    publisher.close();
  },
  SLOW_MS,
);

test(
  "P2 P3: after an app that was killed, and after a pod that went without grace, what comes again is marked and nothing is missing",
  async () => {
    const topic = await bed.topic("payments", { partitions: 2 });
    const publisher = new Publisher([bed.gateway], "payments");
    const worker = { topic: "payments", session: "ledger" };
    const all = () => bed.records.events("crash-1", "crash-2");
    const booked = (count: number) => bed.records.until(() => all().length >= count);
    await workers.start({ ...worker, name: "crash-1" });
    const load = new Load(publisher.publish, 0, 5);
    await booked(100);
    await workers.kill("crash-1", "app");
    await bed.records.until(() => bed.records.kinds("crash-1").lastIndexOf("opened") > 0);
    await booked(all().length + 100);
    await workers.delete("crash-1", 0);
    await workers.start({ ...worker, name: "crash-2" });
    await bed.records.until(() => bed.records.events("crash-2").length >= 100);
    await load.stop();
    const log = await readTopic(bed.kafka.brokers, topic.name);
    await allBooked(log, all);
    publisher.expectKept(log);
    expect(judgeTogether(log, [all()])).toEqual({ missing: 0, repeatedUnmarked: 0 });
    const kinds = bed.records.kinds("crash-1");
    expect(kinds.filter((kind) => kind === "opened")).toHaveLength(2);
    // It heard of nothing before.
    expect(kinds.at(-1)).toBe("events");
    await workers.delete("crash-2");
    publisher.close();
  },
  SLOW_MS,
);

test(
  "a Job is complete when its app has done its work: the server ends after it",
  async () => {
    const topic = await bed.topic("invoices", { partitions: 1 });
    const publisher = new Publisher([bed.gateway], "invoices");
    await publisher.publish(0, 20);
    publisher.close();
    const job = { name: "batch", topic: "invoices", session: "batch", take: 20 };
    const { metadata, status } = await workers.work(job);
    const pod = metadata?.name ?? "";
    expect(bed.records.kinds(pod).at(-1)).toBe("ends");
    const log = await readTopic(bed.kafka.brokers, topic.name);
    expect(judge(log, bed.records.events(pod))).toMatchObject({ ...WHOLE, received: 20 });
    expect(status?.phase).toBe("Succeeded");
    expect(status?.initContainerStatuses?.[0]?.state?.terminated?.exitCode).toBe(0);
  },
  SLOW_MS,
);

/**
 * Steps of one story, in this order: two pods share a session; outside, at the gateway, one publishes by name, one
 * subscribes and keeps its token, one subscribes by a session of its own.
 */
describe("the pods of a Deployment, and clients at the gateway", () => {
  const depot = { name: "depot", topic: "parcels", session: "depot", mode: "shared" } as const;
  let topic: TopicInfo;
  let client: ThroughlineClient;
  let publisher: NamedPublisher;
  const acknowledged: Counting["acknowledged"] = [];
  /** Rejects with why the publisher has ended: nothing more comes then. */
  const ended = Promise.withResolvers<never>();
  let load: Load;
  let outside: Subscriber[];
  /** Pods that were there, and of these who went without grace. */
  const had = new Set<string>();
  const killed = new Set<string>();

  beforeAll(async () => {
    topic = await bed.topic("parcels", { partitions: 4 });
    client = new ThroughlineClient([bed.gateway]);
    publisher = client.namedPublisher({ topic: "parcels", name: "till" });
    const start = { topic: "parcels", start: EARLIEST };
    outside = [
      new Subscriber([bed.gateway], start),
      new Subscriber([bed.gateway], { ...start, session: { name: "audit" } }),
    ];
    ended.promise.catch(() => {});
    const publish = async (number: number): Promise<void> => {
      for (const position of await publisher.publish([newEvent(number)]))
        acknowledged.push({ number, position });
    };
    load = new Load((number) => publish(number).catch(ended.reject), 1, 1);
    await workers.deploy(depot);
  }, SLOW_MS);

  afterAll(async () => {
    await load?.stop();
    for (const subscriber of outside ?? []) await subscriber.stop();
    publisher?.close();
    client?.close();
  });

  /** Resolves when each pod that is there and each client outside has had more. */
  async function goesOn(): Promise<void> {
    const pods = await workers.podsOf("depot");
    for (const pod of pods) had.add(pod);
    const counts = new Map(pods.map((pod) => [pod, bed.records.events(pod).length]));
    const more = Promise.all([
      ...outside.map((subscriber) => subscriber.has(subscriber.seen.length + 20)),
      bed.records.until(() =>
        [...counts].every(([pod, count]) => bed.records.events(pod).length > count),
      ),
    ]);
    await Promise.race([more, ended.promise]);
  }

  /** Images of the servers in its pods. */
  async function servers(): Promise<string[]> {
    const pods = await Promise.all((await workers.podsOf("depot")).map((pod) => workers.pod(pod)));
    return pods
      .map((pod) => pod?.spec?.initContainers?.find(({ name }) => name === SERVER)?.image ?? "")
      .sort();
  }

  test(
    "its pods ask for a server and have one, and roll",
    async () => {
      expect(await servers()).toEqual(Array(2).fill(`throughline:${TAGS[0]}`));
      await goesOn();
      await workers.roll("depot");
      await goesOn();
    },
    SLOW_MS,
  );

  test(
    "a budget lets one of them be evicted and no more",
    async () => {
      const [first = "", second = ""] = await workers.podsOf("depot");
      // The budget counts on its own, a little later.
      await until(() => workers.evict(first));
      expect(await workers.evict(second)).toBe(false);
      await workers.settled("depot");
      await goesOn();
    },
    SLOW_MS,
  );

  test(
    "a server in a pod is killed, one of the gateway, and a pod without grace",
    async () => {
      const [first = "", second = ""] = await workers.podsOf("depot");
      await workers.kill(first, SERVER);
      await goesOn();
      const [one] = await bed.podsOfRelease("gateway");
      await workers.kill(one?.metadata?.name ?? "", "gateway", RELEASE);
      await goesOn();
      killed.add(second);
      await workers.delete(second, 0);
      await workers.settled("depot");
      await goesOn();
    },
    SLOW_MS,
  );

  test(
    "the operator that leads is killed: the other makes the next Topic Ready, and streams go on meanwhile",
    async () => {
      const { pod, identity } = await bed.leader();
      await workers.kill(pod, "operator", RELEASE);
      await Promise.all([bed.topic("returns", { partitions: 1 }), goesOn()]);
      expect((await bed.leader()).identity).not.toBe(identity);
    },
    SLOW_MS,
  );

  test(
    "the chart is upgraded: clients of the gateway are told to move; pods keep their servers, and the next pod has the newer one",
    async () => {
      const moves = outside.map(
        ({ notices }) => notices.filter(({ notice }) => notice.$case === "moving").length,
      );
      await bed.upgrade();
      await Promise.all(
        outside.map((subscriber, i) => subscriber.told("moving", (moves[i] ?? 0) + 1)),
      );
      await goesOn();
      expect(await servers()).toEqual(Array(2).fill(`throughline:${TAGS[0]}`));
      const [first = ""] = await workers.podsOf("depot");
      await workers.delete(first);
      await workers.settled("depot");
      await goesOn();
      expect(await servers()).toEqual([`throughline:${TAGS[1]}`, `throughline:${TAGS[0]}`]);
    },
    SLOW_MS,
  );

  test(
    "the broker is killed and comes back: everything goes on, and nothing of the release had to restart",
    async () => {
      await bed.kafka.kill(1);
      await bed.kafka.startNode(1);
      await goesOn();
      for (const component of ["operator", "webhook", "gateway"]) {
        const pods = await bed.podsOfRelease(component);
        const restarts = pods.map(({ status }) => status?.containerStatuses?.[0]?.restartCount);
        expect([component, restarts]).toEqual([component, [0, 0]]);
      }
    },
    SLOW_MS,
  );

  test(
    "P1 P2 P3 P5: what all of them have is the log; each pod that ended in order was told to move before",
    async () => {
      const count = (await load.stop()) - 1;
      // The last of each key, so of each partition: what came before them is there then, or never will be.
      const last = Array.from({ length: KEYS }, (_, i) => String(count - i));
      const areIn = (seen: readonly Seen[]): boolean => {
        const values = new Set(seen.map(({ value }) => value));
        return last.every((value) => values.has(value));
      };
      const inPods = () => bed.records.events(...had);
      for (const seen of [inPods, ...outside.map((subscriber) => () => subscriber.seen)])
        await untilStill(
          () => areIn(seen()),
          () => seen().length,
        );
      expect(outside.map(({ failure }) => failure)).toEqual([undefined, undefined]);
      const booked = inPods();
      const outsiders = outside.map(({ seen }) => [...seen]);
      const log = await readCommitted(bed.kafka.brokers, topic.name);
      expectExactlyOnce(log, [{ acknowledged }]);
      for (const seen of outsiders)
        expect(judge(log, seen)).toMatchObject({ ...WHOLE, received: count });
      expect(judgeTogether(log, [booked])).toEqual({ missing: 0, repeatedUnmarked: 0 });
      const places = new Set<string>();
      const first = booked.filter(({ partition, offset }) => {
        const before = places.size;
        return places.add(`${partition}/${offset}`).size > before;
      });
      expect(judge(log, first)).toMatchObject({ ...WHOLE, received: count });
      const there = await workers.podsOf("depot");
      const ended = [...had].filter((pod) => !there.includes(pod) && !killed.has(pod));
      expect(ended).toHaveLength(4);
      for (const pod of ended) {
        const kinds = bed.records.kinds(pod);
        expect([pod, kinds.includes("moving"), kinds.at(-1)]).toEqual([pod, true, "ends"]);
      }
      for (const pod of killed) expect(bed.records.kinds(pod)).not.toContain("ends");
    },
    SLOW_MS,
  );
});
