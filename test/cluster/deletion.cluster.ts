/** How Topics go on a real API server: finalizers, pause, labels, namespaces, and a Kafka that is away. */
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { FINALIZER } from "../../operator/kube/controller.ts";
import { isReady, SLOW_MS, TopicBed } from "./topic-bed.ts";

let bed: TopicBed;

beforeAll(async () => {
  bed = await TopicBed.start();
}, SLOW_MS);

afterEach(() => bed.killAll());

afterAll(() => bed?.stop(), SLOW_MS);

test(
  "a finalizer that somebody takes away is restored, and others' stay",
  async () => {
    await bed.namespace("fin");
    bed.operator("fin", "--namespaces", "fin");
    await bed.apply("fin/t", { deletionPolicy: "Delete" }, { finalizers: ["their.org/own"] });
    await bed.untilReady("fin/t");
    await bed.patch("fin/t", { metadata: { finalizers: ["their.org/own"] } });
    await bed.until("fin/t", (topic) => topic?.metadata.finalizers?.includes(FINALIZER) ?? false);
    await bed.delete("fin/t");
    await bed.until("fin/t", (topic) => topic?.metadata.finalizers?.length === 1);
    expect(await bed.kafkaTopic("fin.t")).toBeUndefined();
    await bed.patch("fin/t", { metadata: { finalizers: [] } });
    await bed.untilGone("fin/t");
  },
  SLOW_MS,
);

test(
  "a paused Topic that is deleted leaves its Kafka topic",
  async () => {
    await bed.namespace("paused");
    bed.operator("paused", "--namespaces", "paused");
    await bed.apply("paused/t", { deletionPolicy: "Delete" });
    await bed.untilReady("paused/t");
    await bed.annotate("paused/t", { "throughline.dev/pause": "true" });
    await bed.untilReason("paused/t", "Paused");
    await bed.delete("paused/t");
    await bed.untilGone("paused/t");
    expect(await bed.kafkaTopic("paused.t")).toBeDefined();
  },
  SLOW_MS,
);

test(
  "a namespace that is being deleted is held up by nothing, and nothing is begun in it",
  async () => {
    await bed.namespace("doomed");
    bed.operator("doomed", "--namespaces", "doomed");
    await bed.apply("doomed/t", { deletionPolicy: "Delete" });
    await bed.untilReady("doomed/t");
    await bed.killAll();
    await bed.apply("doomed/late", { deletionPolicy: "Delete" });
    await bed.deleteNamespace("doomed");
    bed.operator("doomed", "--namespaces", "doomed", "--lease-name", "doomed-anew");
    // As the controller of namespaces does it; events can be written there no more.
    await bed.delete("doomed/t");
    await bed.untilGone("doomed/t");
    expect(await bed.kafkaTopic("doomed.t")).toBeUndefined();
    expect(await bed.kafkaTopic("doomed.late")).toBeUndefined();
    expect((await bed.topic("doomed/late")).metadata.finalizers).toBeUndefined();
    await bed.delete("doomed/late");
    await bed.untilGone("doomed/late");
  },
  SLOW_MS,
);

test(
  "labels say which Topics are the operator's, as they change",
  async () => {
    await bed.namespace("labels");
    bed.operator("labels", "--namespaces", "labels", "--label-selector", "of=us");
    await bed.apply("labels/theirs", {});
    await bed.apply("labels/ours", { deletionPolicy: "Delete" }, { labels: { of: "us" } });
    await bed.untilReady("labels/ours");
    expect((await bed.topic("labels/theirs")).status).toBeUndefined();
    await bed.patch("labels/theirs", { metadata: { labels: { of: "us" } } });
    await bed.untilReady("labels/theirs");
    await bed.patch("labels/ours", { metadata: { labels: { of: null } } });
    await bed.patch("labels/ours", { spec: { partitions: 2 } });
    await bed.patch("labels/theirs", { spec: { partitions: 2 } });
    await bed.until("labels/theirs", (topic) => isReady(topic) && topic?.status?.partitions === 2);
    expect((await bed.kafkaTopic("labels.ours"))?.partitions).toBe(1);
    await bed.patch("labels/ours", { metadata: { labels: { of: "us" } } });
    await bed.until("labels/ours", (topic) => isReady(topic) && topic?.status?.partitions === 2);
  },
  SLOW_MS,
);

test(
  "while Kafka is away Topics say so and deletions wait; all is done when it is back, a deletion also when it is abandoned",
  async () => {
    await bed.namespace("away");
    bed.operator("away", "--namespaces", "away");
    for (const name of ["away/waits", "away/abandoned", "away/stays"])
      await bed.apply(name, { deletionPolicy: "Delete" });
    await bed.untilReady("away/waits", "away/abandoned", "away/stays");
    const { topicId } = (await bed.topic("away/stays")).status ?? {};
    await bed.kafka.kill(1);
    for (const name of ["away/waits", "away/abandoned"]) await bed.delete(name);
    await bed.apply("away/new", {});
    await bed.untilReason("away/new", "KafkaUnavailable");
    await bed.untilReason("away/stays", "KafkaUnavailable");
    await bed.untilReason("away/waits", "DeletionWaits");
    await bed.untilReason("away/abandoned", "DeletionWaits");
    expect(await bed.told("away/waits", 1)).toEqual(["Warning DeletionWaits"]);
    // So says an operator that begins meanwhile, which cannot read what was before it.
    await bed.killAll();
    bed.operator("away", "--namespaces", "away", "--lease-name", "away-anew");
    await bed.apply("away/later", {});
    await bed.untilReason("away/later", "KafkaUnavailable");
    await bed.annotate("away/abandoned", { "throughline.dev/abandon-kafka-topic": "true" });
    await bed.untilGone("away/abandoned");
    await bed.kafka.startNode(1);
    await bed.untilGone("away/waits");
    await bed.untilReady("away/new", "away/stays", "away/later");
    expect((await bed.topic("away/stays")).status?.topicId).toBe(topicId);
    expect(await bed.kafkaTopic("away.waits")).toBeUndefined();
    expect(await bed.kafkaTopic("away.abandoned")).toBeDefined();
    // Retained, so that its name takes it back.
    await bed.apply("away/abandoned", {});
    await bed.untilReady("away/abandoned");
  },
  SLOW_MS,
);
