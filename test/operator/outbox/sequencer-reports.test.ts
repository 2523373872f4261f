/** What sequencers say in the progress topic is heard, the one at work before others, and only while it is new. */
import { expect, test } from "@jest/globals";
import { MemoryLog } from "../../../kafka/memory-log.ts";
import { SequencerReports } from "../../../operator/outbox/sequencer-reports.ts";
import { OutboxState } from "../../../proto/gen/throughline/stored/v1/stored.ts";
import { Random } from "../../sim/random.ts";
import { VirtualClock } from "../../sim/virtual-clock.ts";
import { reportOf } from "./outboxes.ts";

const TOPIC = "_throughline.prod.progress";

function bed() {
  const log = new MemoryLog();
  const clock = new VirtualClock(new Random(1));
  const changed: string[] = [];
  const now = (): number => 1_000_000 + clock.now();
  const reports = new SequencerReports(log, "prod", { clock, now }, (name) => changed.push(name));
  const say = (key: string, value: Buffer | Partial<OutboxState>, timeMs = now()): void => {
    const bytes = Buffer.isBuffer(value) ? value : OutboxState.encode(reportOf(value)).finish();
    log.appendNow(TOPIC, 0, [
      { key: Buffer.from(key), value: Buffer.from(bytes), headers: [], timeMs },
    ]);
  };
  return { log, clock, changed, reports, say, now };
}

test("before the first sequencer there is nothing to hear, and that is no trouble", async () => {
  const { reports, log, say } = bed();
  await reports.refresh();
  expect(reports.of("shop/orders")).toBeUndefined();
  log.createTopicNow(TOPIC, 1);
  say("state shop/orders", {});
  await reports.refresh();
  expect(reports.of("shop/orders")).toMatchObject({ state: "running", slot: expect.any(String) });
});

test("of several the one at work is believed; a standby's word counts when there is no other", async () => {
  const { reports, log, say } = bed();
  log.createTopicNow(TOPIC, 1);
  say("state shop/orders", { instance: "a", state: "standby" });
  await reports.refresh();
  expect(reports.of("shop/orders")).toMatchObject({ state: "standby" });
  say("state shop/orders", { instance: "b", state: "waiting" });
  say("state shop/orders", { instance: "c", state: "failed" });
  say("state shop/orders", { instance: "d", state: "running" });
  say("state shop/orders", { instance: "a", state: "standby" });
  await reports.refresh();
  expect(reports.of("shop/orders")).toMatchObject({ instance: "d" });
  expect(reports.of("shop/other")).toBeUndefined();
});

test("what is old is worth nothing, and that it ended is news", async () => {
  const { reports, log, clock, say, changed } = bed();
  log.createTopicNow(TOPIC, 1);
  say("state shop/orders", {});
  await reports.refresh();
  say("state shop/orders", { parked: 3 });
  await reports.refresh();
  expect([changed, reports.of("shop/orders")]).toMatchObject([["shop/orders"], { parked: 3 }]);
  await clock.run(16_000);
  await reports.refresh();
  expect(reports.of("shop/orders")).toBeUndefined();
  expect(changed).toEqual(["shop/orders", "shop/orders"]);
});

test("one that begins hears what was said within half a minute, and not what is older", async () => {
  const { reports, log, say, now } = bed();
  log.createTopicNow(TOPIC, 1);
  say("state shop/old", {}, now() - 31_000);
  say("state shop/orders", {}, now() - 1000);
  await reports.refresh();
  expect([reports.of("shop/old"), reports.of("shop/orders")]).toMatchObject([
    ...[undefined, { state: "running" }],
  ]);
});

test("while Kafka is away that is said, after a while, and then it goes on", async () => {
  const { reports, log, clock, say } = bed();
  log.createTopicNow(TOPIC, 1);
  await reports.refresh();
  log.fail("no broker answers");
  await reports.refresh();
  expect(reports.of("shop/orders")).toBeUndefined();
  await clock.run(16_000);
  expect(reports.of("shop/orders")).toBe("no broker answers");
  log.heal();
  say("state shop/orders", {});
  await reports.refresh();
  expect(reports.of("shop/orders")).toMatchObject({ state: "running" });
});

test("progress, damage and what a newer release says are passed over; a topic made anew is read anew", async () => {
  const { reports, log, say } = bed();
  log.createTopicNow(TOPIC, 1);
  say("shop/orders", {});
  say("state shop/orders", Buffer.from([255, 255]));
  say("state shop/orders", { formatVersion: 2 });
  await reports.refresh();
  expect(reports.of("shop/orders")).toBeUndefined();
  log.recreate(TOPIC);
  say("state shop/orders", {});
  await reports.refresh();
  await reports.refresh();
  expect(reports.of("shop/orders")).toMatchObject({ state: "running" });
});
