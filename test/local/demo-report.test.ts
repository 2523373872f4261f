/** The demo's audit fails for each thing that it promises to find. */
import { expect, test } from "@jest/globals";
import type { Seen } from "../../local/demo-audit.ts";
import { type AuditedClient, auditRows } from "../../local/demo-report.ts";

const EVENTS = 1000;
const log: Seen[] = Array.from({ length: EVENTS }, (_, i) => ({
  ...{ partition: i % 2, offset: Math.floor(i / 2), value: `event ${i}` },
}));
const KILLS = [200, 400, 600, 800];

const client: AuditedClient = {
  ...{ name: "live 1", topic: "flights", seen: log, failure: undefined },
  takeovers: KILLS.map((seenBefore) => ({ seenBefore, ms: 50 })),
};

const audited = {
  topics: [{ name: "flights", known: EVENTS, acknowledged: EVENTS, log }],
  clients: [client, { ...client, name: "live 2" }],
  kills: KILLS.map((afterEvents, i) => ({ server: i % 2 ? "B" : "A", afterEvents })),
  counts: { made: 1, shared: 1, queued: 1, merges: 1 },
  named: { name: "seismograph", breaks: 1 },
  crew: { topic: "flights", members: [log.slice(0, 400), log.slice(400)] },
};

function failures(over: Partial<typeof audited>): string[] {
  return auditRows({ ...audited, ...over })
    .filter(({ good }) => !good)
    .map(({ text }) => text);
}

function withClient(over: Partial<AuditedClient>): string[] {
  return failures({ clients: [client, { ...client, ...over, name: "live 2" }] });
}

test("all is good: every item has its row", () => {
  const rows = auditRows(audited);
  expect(rows.filter(({ good }) => !good)).toEqual([]);
  expect(rows.map(({ text }) => text)).toEqual([
    "published flights: 1000 acknowledged, 1000 in Kafka, of 1000",
    "received by 2 clients: 2000 of 2000",
    "missing: 0",
    "repeated: 0",
    "out of order: 0",
    "other content than in the log: 0",
    "servers killed with SIGKILL: 4",
    ...KILLS.flatMap((at, i) => [
      `kill ${i + 1}, server ${"ABAB"[i]} after ${at} flights, takeover in ms: live 50 50`,
      `kill ${i + 1}, events of the client with the fewest: 200 before, 200 after`,
    ]),
    "named publisher seismograph went on elsewhere: 1 times",
    "shared session: 400 and 600 of its members' events, missing: 0, repeated without a mark: 0",
    ...["catch-up dispatchers made: 1", "clients that shared one: 1"],
    ...["events queued meanwhile: 1", "merges: 1"],
  ]);
});

test("fewer or more events published than the file has", () => {
  const [topic] = audited.topics;
  for (const over of [{ known: EVENTS + 1 }, { acknowledged: EVENTS - 1 }]) {
    expect(failures({ topics: [{ ...topic, ...over } as (typeof audited.topics)[0]] })).toEqual([
      expect.stringMatching(/^published flights/),
    ]);
  }
});

test("a missing event, with its place", () => {
  expect(withClient({ seen: log.toSpliced(501, 1) })).toEqual([
    "received by 2 clients: 1999 of 2000",
    "missing: 1; live 2 1, the first at 1/250",
  ]);
});

test("a repeated event", () => {
  const seen = log.toSpliced(500, 0, log[499] as Seen);
  expect(withClient({ seen })).toEqual(["received by 2 clients: 2001 of 2000", "repeated: 1"]);
});

test("an event out of order within its partition", () => {
  const seen = log.with(500, log[502] as Seen).with(502, log[500] as Seen);
  expect(withClient({ seen })).toEqual(["out of order: 1"]);
});

test("an event with other content", () => {
  const seen = log.with(500, { ...(log[500] as Seen), value: "other" });
  expect(withClient({ seen })).toEqual(["other content than in the log: 1"]);
});

test("a client that failed, by name", () => {
  expect(withClient({ failure: new Error("NOT_PERMITTED") })).toEqual([
    "live 2 failed: NOT_PERMITTED",
  ]);
});

test("fewer than four kills", () => {
  expect(failures({ kills: audited.kills.slice(0, 3) })).toEqual([
    "servers killed with SIGKILL: 3",
  ]);
});

test("a takeover that never was", () => {
  const takeovers = client.takeovers.with(2, { seenBefore: 600, ms: undefined });
  expect(withClient({ takeovers })).toEqual([expect.stringMatching(/^kill 3, .* live 50 never$/)]);
});

test.each([
  ["before the first kill", [99, 400, 600, 800], /^kill 1, .* 99 before/],
  ["between two kills", [200, 299, 600, 800], /^kill 1, .* 99 after/],
  ["after the last kill", [200, 400, 600, 901], /^kill 4, .* 99 after/],
])("fewer than 100 events %s, by one client's record", (_what, marks, message) => {
  const takeovers = marks.map((seenBefore) => ({ seenBefore, ms: 50 }));
  expect(withClient({ takeovers })[0]).toMatch(message);
});

test.each(["made", "shared", "queued", "merges"] as const)("no %s dispatchers counted", (key) => {
  expect(failures({ counts: { ...audited.counts, [key]: 0 } })).toHaveLength(1);
});

test("a named publisher whose server was never lost shows nothing", () => {
  expect(failures({ named: { ...audited.named, breaks: 0 } })).toHaveLength(1);
});

test.each<[string, Seen[][], RegExp]>([
  ["an event that no member has", [log.slice(0, 400), log.slice(401)], /missing: 1,/],
  ["an event that two have, unmarked", [log.slice(0, 401), log.slice(400)], /without a mark: 1$/],
  ["a member that has none", [log, []], /1000 and 0/],
] as const)("a shared session: %s", (_what, members, message) => {
  expect(failures({ crew: { topic: "flights", members } as typeof audited.crew })[0]).toMatch(
    message,
  );
});
