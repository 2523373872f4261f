/** What a sequencer says of itself each second, for its operator. */
import { expect, test } from "@jest/globals";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { OutboxState } from "../../proto/gen/throughline/stored/v1/stored.ts";
import { CompactedTopic } from "../../sequencer/compacted-topic.ts";
import { progressTopicOf } from "../../sequencer/progress.ts";
import { noFigures } from "../../sequencer/state.ts";
import { reportOf, startReports } from "../../sequencer/state-reports.ts";
import { until } from "../story/waits.ts";

const REPORTING = {
  identity: { deploymentId: "prod", namespace: "shop", outbox: "orders", instance: "pod-1" },
  ...{ database: { host: "db", port: 5432, database: "shop" }, slot: "s" },
};

test("one that has not run says no more than what it does and why", () => {
  const why = "PostgreSQL at db:5432: refused";
  const figures = noFigures();
  figures.state = { kind: "waiting", reason: "DatabaseUnavailable", why };
  expect(reportOf({ ...REPORTING, figures }, 1000)).toMatchObject({
    ...{ state: "waiting", reason: "DatabaseUnavailable", message: why, hasRun: false },
    ...{ instance: "pod-1", database: "db:5432/shop", slot: "s", topics: [] },
  });
});

test("the lag grows while an event waits, is the last one's for a moment, and nothing when all is sent", () => {
  const sent = { lagMs: 6, sentAtMs: 8000, sequences: new Map([["orders", 3]]) };
  const figures = { ...noFigures(), hasRun: true, ...sent };
  expect(reportOf({ ...REPORTING, figures }, 9000)).toMatchObject({
    ...{ lagMs: 6n, topics: [{ name: "orders", sequence: 3n }] },
  });
  expect(reportOf({ ...REPORTING, figures }, 10_000).lagMs).toBe(0n);
  const waits = { ...figures, oldestUnsentMs: 4000 };
  expect(reportOf({ ...REPORTING, figures: waits }, 9000).lagMs).toBe(5000n);
});

test("it is a record in the progress topic, which is made where it is missing", async () => {
  const log = new MemoryLog();
  const figures = noFigures();
  const reports = startReports({ ...REPORTING, log, figures });
  const heard: OutboxState[] = [];
  await until(async () => {
    const topic = new CompactedTopic(log, await progressTopicOf(log, "prod"));
    await topic.read(({ key, value }) => {
      if (key?.toString() === "state shop/orders" && value) heard.push(OutboxState.decode(value));
    });
    return heard.length > 0;
  });
  reports.close();
  expect(heard[0]).toMatchObject({ formatVersion: 1, state: "starting" });
});
