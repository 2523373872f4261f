/** From pod to pod: the server as a native sidecar, an app with a named session, a kubelet that ends them. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { judge, judgeTogether, type Seen } from "../../local/demo-audit.ts";
import { Load } from "../story/bed.ts";
import { readTopic } from "../story/read-topic.ts";
import { until } from "../story/waits.ts";
import { Bed } from "./bed.ts";
import { Workers } from "./workers.ts";

const SLOW_MS = 300_000;
const WHOLE = { missing: 0, repeated: 0, outOfOrder: 0, different: 0 };

let bed: Bed;
let workers: Workers;

/** Resolves when the last event of each partition is booked; what came before it is then, or never will be. */
function allBooked(log: readonly Seen[], booked: () => readonly Seen[]): Promise<void> {
  const last = new Map(log.map(({ partition, offset }) => [partition, offset]));
  return bed.records.until(() => {
    const ends = new Set(booked().map(({ partition, offset }) => `${partition}/${offset}`));
    return [...last].every(([partition, offset]) => ends.has(`${partition}/${offset}`));
  });
}

beforeAll(async () => {
  bed = await Bed.open(console.log);
  workers = new Workers(bed);
}, SLOW_MS);

afterAll(async () => {
  await bed?.close();
}, SLOW_MS);

test(
  "P2 P3 P5: a pod is deleted and the next one goes on: its app is told to move before it ends, and nothing is missing or repeated",
  async () => {
    const topic = await bed.topic("orders", { partitions: 2 });
    await bed.append(topic, 0, 100);
    const worker = { topic: "orders", session: "billing" };
    await workers.start({ ...worker, name: "worker-1" });
    await bed.records.until(() => bed.records.events("worker-1").length === 100);
    // More comes while the pod ends, and while there is none.
    await Promise.all([bed.append(topic, 100, 100), workers.delete("worker-1")]);
    const said = bed.records.kinds("worker-1").filter((kind) => kind !== "events");
    // The kubelet turns to both at once, app and server.
    const inTheMiddle = said.slice(1, -1).sort();
    expect([said[0], inTheMiddle, said.at(-1)]).toEqual([
      ...["opened", ["moving", "told to end"], "ends"],
    ]);
    await bed.append(topic, 200, 50);
    await workers.start({ ...worker, name: "worker-2" });
    const all = () => bed.records.events("worker-1", "worker-2");
    await bed.records.until(() => all().length >= 250);
    const log = await readTopic(bed.kafka.brokers, topic.name);
    expect(judge(log, all())).toMatchObject({ ...WHOLE, received: 250 });
    expect(all().some(({ marked }) => marked)).toBe(false);
    await workers.delete("worker-2");
  },
  SLOW_MS,
);

test(
  "P2 P3: after an app that was killed, and after a pod that went without grace, what comes again is marked and nothing is missing",
  async () => {
    const topic = await bed.topic("payments", { partitions: 2 });
    const worker = { topic: "payments", session: "ledger" };
    const all = () => bed.records.events("crash-1", "crash-2");
    const booked = (count: number) => bed.records.until(() => all().length >= count);
    await workers.start({ ...worker, name: "crash-1" });
    const load = new Load((from, count) => bed.append(topic, from, count), 0, 5);
    await booked(100);
    await workers.killApp("crash-1");
    await bed.records.until(() => bed.records.kinds("crash-1").lastIndexOf("opened") > 0);
    await booked(all().length + 100);
    await workers.delete("crash-1", 0);
    await workers.start({ ...worker, name: "crash-2" });
    await booked(all().length + 100);
    await load.stop();
    const log = await readTopic(bed.kafka.brokers, topic.name);
    await allBooked(log, all);
    expect(judgeTogether(log, [all()])).toEqual({ missing: 0, repeatedUnmarked: 0 });
    expect(bed.records.kinds("crash-1").filter((kind) => kind === "opened")).toHaveLength(2);
    await workers.delete("crash-2");
  },
  SLOW_MS,
);

test(
  "P2 P3 P5: the pods of a Deployment share a session while it rolls, is evicted and loses its broker: each is told to move, and together they have everything",
  async () => {
    const topic = await bed.topic("parcels", { partitions: 4 });
    const load = new Load((from, count) => bed.append(topic, from, count), 0, 2);
    await workers.deploy({ name: "depot", topic: "parcels", session: "depot", mode: "shared" });
    const had = new Set(await workers.podsOf("depot"));
    const goesOn = async (): Promise<void> => {
      const pods = await workers.podsOf("depot");
      for (const pod of pods) had.add(pod);
      const counts = pods.map((pod) => bed.records.events(pod).length);
      await bed.records.until(() =>
        pods.every((pod, i) => bed.records.events(pod).length > (counts[i] ?? 0)),
      );
    };
    await goesOn();
    await workers.roll("depot");
    await goesOn();
    const [first = "", second = ""] = await workers.podsOf("depot");
    // The budget counts on its own, a little later.
    await until(() => workers.evict(first));
    expect(await workers.evict(second)).toBe(false);
    await workers.settled("depot");
    await goesOn();
    await bed.kafka.kill(1);
    await bed.kafka.startNode(1);
    await goesOn();
    await load.stop();
    const log = await readTopic(bed.kafka.brokers, topic.name);
    const pods = [...had];
    await allBooked(log, () => bed.records.events(...pods));
    const together = judgeTogether(log, [bed.records.events(...pods)]);
    expect(together).toEqual({ missing: 0, repeatedUnmarked: 0 });
    const there = await workers.podsOf("depot");
    const gone = pods.filter((pod) => !there.includes(pod));
    expect(gone).toHaveLength(3);
    for (const pod of gone) {
      const kinds = bed.records.kinds(pod);
      expect([pod, kinds.includes("moving"), kinds.at(-1)]).toEqual([pod, true, "ends"]);
    }
  },
  SLOW_MS,
);

test(
  "a Job is complete when its app has done its work: the server ends after it",
  async () => {
    const topic = await bed.topic("invoices", { partitions: 1 });
    await bed.append(topic, 0, 20);
    const job = { name: "batch", topic: "invoices", session: "batch", take: 20 };
    const { metadata, status } = await workers.work(job);
    expect(bed.records.kinds(metadata?.name ?? "").at(-1)).toBe("ends");
    expect(status?.phase).toBe("Succeeded");
    expect(status?.initContainerStatuses?.[0]?.state?.terminated?.exitCode).toBe(0);
  },
  SLOW_MS,
);
