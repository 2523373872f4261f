/** The audit of the demo's outbox fails for each thing that it promises to find. */
import { expect, test } from "@jest/globals";
import {
  type BookedEvent,
  type OutboxRecords,
  outboxRows,
} from "../../local/demo-outbox-report.ts";

const EVENTS = 100;
const values = Array.from({ length: EVENTS }, (_, i) => `event ${i + 1}`);
const seen: BookedEvent[] = values.map((value, i) => ({
  ...{ sequence: i + 1, commitId: BigInt(1000 + i), value, atMs: 5000 + i },
}));
const writer = {
  ...{ committed: values.slice(0, 60), undone: ["undone"], transactions: 9 },
  ...{ rolledBack: 1, savepointsUndone: 2 },
};
const records: OutboxRecords = {
  writers: [writer, { ...writer, committed: values.slice(60) }],
  // The first two have changed places: their ids are not their order.
  logged: values.map((value, i) => ({ id: i < 2 ? 2 - i : i + 1, value })),
  ...{ seen, failure: undefined },
  stamped: new Map(values.map((value, i) => [value, i + 1])),
  kills: [{ sequencer: "Sequencer 1", afterEvents: 40, atMs: 5020, afterCommit: 1049n }],
  killsDue: 1,
};

function failures(over: Partial<OutboxRecords>): string[] {
  return outboxRows({ ...records, ...over })
    .filter(({ good }) => !good)
    .map(({ text }) => text.replace(/^outbox, /, ""));
}

test("all is good: every item has its row", () => {
  const rows = outboxRows(records);
  expect(rows.filter(({ good }) => !good)).toEqual([]);
  expect(rows.map(({ text }) => text)).toEqual([
    "outbox, committed by 2 writers' own records: 100 events in 18 transactions",
    "outbox, rolled back: 2 events, by 2 transactions and 4 savepoints",
    "outbox, in the database's log by test_decoding: 100, without 0 of the committed",
    "outbox, committed after one with a higher id: 1",
    "outbox, received: 100 of 100 committed",
    ...["outbox, missing: 0", "outbox, repeated: 0", "outbox, received and never committed: 0"],
    "outbox, out of order against the order of commits: 0",
    ...["outbox, numbered otherwise than 1, 2, 3 …: 0", "outbox, numbered otherwise in SQL: 0"],
    "outbox, sequencers killed with SIGKILL: 1",
    "outbox, Sequencer 1 killed after 40 events, takeover in ms: 30",
  ]);
});

test.each<[string, Partial<OutboxRecords>, string[]]>([
  [
    "an event that is missing",
    { seen: seen.slice(0, -1) },
    ["received: 99 of 100 committed", "missing: 1, the first event 100"],
  ],
  [
    "an event that is missing in the middle, and the numbers say so",
    { seen: seen.toSpliced(98, 1) },
    [
      ...["received: 99 of 100 committed", "missing: 1, the first event 99"],
      "numbered otherwise than 1, 2, 3 …: 1",
    ],
  ],
  [
    "an event that comes twice",
    { seen: [...seen, { ...(seen[99] as BookedEvent), sequence: 101 }] },
    ["received: 101 of 100 committed", "repeated: 1", "numbered otherwise in SQL: 1"],
  ],
  [
    "events in another order than they were committed",
    {
      seen: seen
        .with(10, { ...(seen[11] as BookedEvent), sequence: 11 })
        .with(11, { ...(seen[10] as BookedEvent), sequence: 12 }),
    },
    ["out of order against the order of commits: 1", "numbered otherwise in SQL: 2"],
  ],
  [
    "an event that was rolled back",
    { seen: seen.with(99, { ...(seen[99] as BookedEvent), value: "undone" }) },
    [
      ...["missing: 1, the first event 100", "received and never committed: 1"],
      ...["out of order against the order of commits: 1", "numbered otherwise in SQL: 1"],
    ],
  ],
  [
    "a log that is not the writers'",
    { logged: records.logged.slice(0, -1) },
    [
      "in the database's log by test_decoding: 99, without 1 of the committed",
      "out of order against the order of commits: 1",
    ],
  ],
  ["a takeover that never was", { kills: [{ ...records.kills[0], afterCommit: 1099n }] }, ["x"]],
  ["fewer kills than were due", { killsDue: 2 }, ["sequencers killed with SIGKILL: 1"]],
  [
    "a subscriber that failed",
    { failure: new Error("SEQUENCE_GAP") },
    ["the subscriber failed: SEQUENCE_GAP"],
  ],
  [
    "writers whose transactions never overlapped, since that proves nothing",
    { logged: values.map((value, i) => ({ id: i + 1, value })) },
    ["committed after one with a higher id: 0"],
  ],
  [
    "writers that rolled nothing back",
    { writers: records.writers.map((one) => ({ ...one, rolledBack: 0 })) },
    ["rolled back: 2 events, by 0 transactions and 4 savepoints"],
  ],
] as [string, Partial<OutboxRecords>, string[]][])("%s is found", (_what, over, found) => {
  expect(failures(over)).toEqual(
    found.map((text) => (text === "x" ? expect.stringMatching(/takeover in ms: never$/) : text)),
  );
});
