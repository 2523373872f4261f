/** What is said of an Outbox: why it is not well, with the next step, and its sequencer's figures. */
import { expect, test } from "@jest/globals";
import type { OutboxStatus } from "../../../operator/outbox/kube-outbox.ts";
import { eventsOf } from "../../../operator/outbox/outbox-events.ts";
import { changedStatus, verdictOf } from "../../../operator/outbox/outbox-status.ts";
import { sequencerDeployment } from "../../../operator/outbox/sequencer-deployment.ts";
import type { Word } from "../../../operator/outbox/sequencer-reports.ts";
import { outboxOf, reportOf, rolledOut, SETTINGS } from "./outboxes.ts";

const OUTBOX = outboxOf();
const NOW = () => "2026-01-01T00:00:00Z";

function seenWith(word: Word, { ready = 2, ageMs = 100_000 } = {}) {
  const deployment = rolledOut(sequencerDeployment(OUTBOX, SETTINGS, "run"), ready);
  return { deployment, deploymentAgeMs: ageMs, word };
}

function verdictWith(word: Word, how = {}) {
  return verdictOf(OUTBOX, seenWith(word, how));
}

test("it is Ready while a sequencer relays, and says when the standby is missing", () => {
  expect(verdictWith(reportOf())).toMatchObject({ ready: "True", reason: "Running" });
  expect(verdictWith(reportOf(), { ready: 1 })).toEqual({
    ...{ ready: "True", reason: "PodsMissing" },
    message: "Events are relayed; 1 of 2 pods are ready.",
  });
});

test.each<[string, Word, string, RegExp]>([
  ["Kafka is away", "no broker answers", "KafkaUnavailable", /no broker answers/],
  ["nobody says a word", undefined, "SequencerSilent", /shop describe pods .*outbox=orders/],
  [
    "the database is away",
    reportOf({ state: "waiting", reason: "DatabaseUnavailable", message: "PostgreSQL at db:5432" }),
    "DatabaseUnavailable",
    /^PostgreSQL at db:5432\. It goes on by itself.*key "uri" of Secret "shop-db"/,
  ],
  [
    "a Topic is not ready",
    reportOf({
      state: "waiting",
      reason: "TopicNotReady",
      message: 'Topic "orders" lost its data',
    }),
    "TopicNotReady",
    /lost its data/,
  ],
  [
    "a person must mend it",
    reportOf({ state: "failed", reason: "SlotMissing", message: "it was dropped; do this" }),
    "SlotMissing",
    /^it was dropped; do this$/,
  ],
  ["another has the lock", reportOf({ state: "standby" }), "StandingBy", /throughline\.slot/],
  ["it begins", reportOf({ state: "starting" }), "Starting", /starting/],
])("%s", (_, word, reason, message) => {
  const verdict = verdictWith(word);
  expect(verdict).toMatchObject({ ready: "False", reason });
  expect(verdict.message).toMatch(message);
});

test("pods get a minute to say their first word, and what refuses them is said", () => {
  expect(verdictWith(undefined, { ageMs: 59_000 })).toMatchObject({ reason: "Starting" });
  const seen = seenWith(undefined);
  const condition = { type: "ReplicaFailure", status: "True", message: "exceeded quota" };
  const deployment = { ...seen.deployment, status: { conditions: [condition] } };
  expect(verdictOf(OUTBOX, { ...seen, deployment })).toMatchObject({
    ...{ ready: "False", reason: "PodsRefused", message: "exceeded quota" },
  });
});

function statusWith(word: Word, before?: OutboxStatus, spec = {}): OutboxStatus | undefined {
  const outbox = outboxOf(spec, {}, before);
  return changedStatus(outbox, verdictOf(outbox, seenWith(word)), word, NOW);
}

test("the status has the sequencer's figures, and is not written again when nothing is new", () => {
  const status = statusWith(reportOf());
  expect(status).toEqual({
    ...{ observedGeneration: 2, deployment: "orders-sequencer" },
    ...{ database: "db:5432/shop", slot: "throughline_prod_shop_orders" },
    ...{ lagSeconds: 2, retainedWal: "17Mi", parked: 2 },
    topics: [
      { name: "orders", sequence: 42 },
      { name: "refunds", sequence: 7 },
    ],
    conditions: [
      {
        ...{ type: "Ready", status: "True", reason: "Running", observedGeneration: 2 },
        ...{ message: expect.any(String), lastTransitionTime: NOW() },
      },
    ],
  });
  // An API server gives fields in an order of its own.
  const stored = JSON.parse(JSON.stringify(status), (_, value) =>
    value && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).toSorted())
      : value,
  );
  expect(statusWith(reportOf(), stored)).toBeUndefined();
});

test("what a sequencer that was not at work yet does not know stays as it was", () => {
  const before = statusWith(reportOf());
  const silent = statusWith(undefined, before);
  expect(silent).toMatchObject({ lagSeconds: 2, topics: [{ sequence: 42 }, { sequence: 7 }] });
  const word = { state: "waiting", reason: "DatabaseUnavailable", message: "m" } as const;
  const waits = reportOf({ ...word, hasRun: false, retainedWalBytes: 0n, topics: [] });
  expect(statusWith(waits, before)).toMatchObject({ retainedWal: "17Mi", parked: 2 });
});

test("a log that grows past its limit is a condition and an Event, once, until it is less again", () => {
  const limits = { limits: { retainedWal: "1Gi" } };
  const calm = statusWith(reportOf(), undefined, limits);
  expect(calm?.conditions).toHaveLength(1);
  const full = statusWith(reportOf({ retainedWalBytes: 2n << 30n }), calm, limits);
  expect(full?.conditions?.[1]).toMatchObject({ type: "RetainedWal", status: "True" });
  expect(eventsOf(calm ?? {}, full ?? {})).toMatchObject([
    { type: "Warning", reason: "RetainedWal", note: expect.stringContaining("1Gi") },
  ]);
  const fuller = statusWith(reportOf({ retainedWalBytes: 3n << 30n }), full, limits);
  expect(eventsOf(full ?? {}, fuller ?? {})).toEqual([]);
  const again = statusWith(reportOf(), full, limits);
  expect(again?.conditions?.[1]).toMatchObject({ status: "False", reason: "BelowLimit" });
});

test("a person is told once of what needs one, and when it is over", () => {
  const starting = statusWith(reportOf({ state: "starting", hasRun: false }));
  const running = statusWith(reportOf(), starting);
  const failed = statusWith(
    reportOf({ state: "failed", reason: "SlotLost", message: "m" }),
    running,
  );
  const silent = statusWith("Kafka is away", running);
  const steps = [
    [{}, starting],
    [starting, running],
    [running, running],
    [running, failed],
    [failed, running],
    [running, silent],
    [silent, running],
  ] as [OutboxStatus, OutboxStatus][];
  const told = steps.map(([before, after]) =>
    eventsOf(before, after).map(({ type, reason }) => `${type} ${reason}`),
  );
  expect(told).toEqual([
    ...[[], ["Normal Running"], [], ["Warning SlotLost"], ["Normal Running"], [], []],
  ]);
});
