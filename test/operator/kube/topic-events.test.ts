/** What a person is told as Events, and how often. */
import { expect, test } from "@jest/globals";
import { bed, READY } from "./controller-bed.ts";

test("what a person must know is told once: growth, a refusal, the end of a refusal; that all went well is not", async () => {
  const { api, clock, state } = bed();
  api.put("shop/a", { partitions: 1 });
  await clock.run(30_000);
  state.status = { ...READY, partitions: 3 };
  await clock.run(60_000);
  const refused = { ...READY, partitions: 3, ready: false };
  state.status = { ...refused, reason: "INVALID_CONFIG", message: "Unknown no.such" };
  await clock.run(90_000);
  state.status = { ...refused, reason: "KafkaUnavailable", message: "no broker" };
  await clock.run(120_000);
  state.status = { ...READY, partitions: 3 };
  await clock.run(150_000);
  state.status = { ...refused, reason: "DataLost", message: "is gone" };
  await clock.run(180_000);
  state.status = { ...READY, topicId: "11ff", partitions: 4 };
  await clock.run(210_000);
  expect(api.told.map((told) => told.replace(/: .*/, ""))).toEqual([
    "shop/a Warning PartitionsGrew",
    "shop/a Warning INVALID_CONFIG",
    "shop/a Warning DataLost",
    "shop/a Normal Ready",
  ]);
  expect(api.told[0]).toMatch(/3 partitions now, it had 1: keys move/);
});

test("a Kafka topic that was there before is told of", async () => {
  const { api, clock, state } = bed();
  state.status = { ...READY, adopted: true };
  api.put("shop/a", { partitions: 1 });
  await clock.run(30_000);
  const more = { ...READY, adopted: true, topicId: "22ff", ready: false };
  state.status = { ...more, reason: "MorePartitions", message: "It has more." };
  api.put("shop/b", { partitions: 1 });
  await clock.run(60_000);
  expect(api.told.filter((told) => told.startsWith("shop/b"))).toEqual([
    "shop/b Warning MorePartitions: It was there before and is adopted. It has more.",
  ]);
  expect(api.told[0]).toMatch(/^shop\/a Normal Ready: .*It was there before and is adopted\./);
});

test("a correction that is refused anew is told anew", async () => {
  const { api, clock, state } = bed();
  const refused = (message: string) => ({
    ...READY,
    ready: false,
    reason: "INVALID_CONFIG",
    message,
  });
  state.status = refused("Unknown a");
  api.put("shop/a", { config: { a: "1" } });
  await clock.run(30_000);
  state.status = refused("Unknown b");
  api.put("shop/a", { config: { b: "1" } });
  await clock.run(60_000);
  expect(api.told.map((told) => told.slice(-9))).toEqual(["Unknown a", "Unknown b"]);
});

test("an Outbox that is not there is told once, also when Kafka was away meanwhile, and again when it goes anew", async () => {
  const { api, clock, ready, state } = bed();
  const unfed = { ...READY, reason: "OutboxMissing", message: "nothing feeds it" };
  state.status = unfed;
  api.put("shop/a", { ordering: "Commit", outbox: "till" });
  await clock.run(30_000);
  expect(ready("shop/a")).toMatchObject({ status: "True", reason: "OutboxMissing" });
  state.status = { ...unfed, ready: false, reason: "KafkaUnavailable", message: "no broker" };
  await clock.run(60_000);
  state.status = unfed;
  await clock.run(90_000);
  state.status = READY;
  await clock.run(120_000);
  expect(ready("shop/a")).toMatchObject({ status: "True", reason: "Ready" });
  expect(api.told).toEqual([
    'shop/a Warning OutboxMissing: Kafka topic "shop.a" (id 00ff). nothing feeds it',
  ]);
  state.status = unfed;
  await clock.run(150_000);
  expect(api.told).toHaveLength(2);
  // The first, Kafka away and back, the Outbox made, and gone.
  expect(api.calls.filter((call) => call === "status")).toHaveLength(5);
});

test("another sentence for the same reason is no news", async () => {
  const { api, clock, ready, state } = bed();
  state.status = { ...READY, ready: false, reason: "Conflict", message: "held by a" };
  api.put("shop/a", {});
  await clock.run(5000);
  state.status = { ...state.status, message: "held by b" };
  await clock.run(30_000);
  expect(ready("shop/a")?.message).toBe("held by b");
  expect(api.told).toEqual(["shop/a Warning Conflict: held by a"]);
});
