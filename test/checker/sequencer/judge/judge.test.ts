/** The judge, tested: it is content with a clean run, and finds each class wherever it may be. */
import { expect, test } from "@jest/globals";
import { CLASSES } from "./anomaly.ts";
import { cleanRun } from "./generated-evidence.ts";
import { judge } from "./judge.ts";
import { MUTATIONS } from "./mutations.ts";
import { WordParser } from "./word.ts";

test("a clean run has no anomaly", () => {
  const { examples, events, slots, cleaned, deliveries } = judge(cleanRun());
  expect(examples).toEqual([]);
  expect([events > 100, slots, cleaned, deliveries]).toEqual([true, 1, 10, events * 2]);
});

test.each(Object.keys(MUTATIONS))("the judge finds %s", (name) => {
  const run = cleanRun();
  const [wanted, spoil] = MUTATIONS[name] as (typeof MUTATIONS)[string];
  spoil(run);
  expect([...judge(run).counts.keys()]).toContain(wanted);
});

test("every class is spoilt somehow", () => {
  const spoilt = new Set(Object.values(MUTATIONS).map(([name]) => name));
  expect(Object.keys(CLASSES).filter((name) => !spoilt.has(name as never))).toEqual([]);
});

test("what was late while something was being done is not", () => {
  const run = cleanRun();
  for (const { events } of run.watched) for (const event of events) event.atMs += 30_000;
  run.deeds.push({ fault: "broker-kill", target: "broker 1", fromMs: 1000, toMs: 60_000 } as never);
  expect(judge(run).examples).toEqual([]);
});

test("reads what test_decoding prints", () => {
  const parser = new WordParser();
  const lines: [string, string][] = [
    [
      "0/10",
      "table throughline.outbox: INSERT: id[bigint]:7 topic[text]:'orders' type[text]:'it''s made' key[text]:null payload[bytea]:'\\x6162' headers[jsonb]:'{\"a\": \"b c\"}'",
    ],
    ["0/20", "table public.other: INSERT: id[bigint]:7"],
    [
      "0/28",
      "table throughline.order_values: INSERT: event_id[bigint]:6 topic_id[integer]:1 sequence[bigint]:3 commit_id[bigint]:258 commit_index[integer]:0 commit_time[timestamp with time zone]:'2026-01-02 03:04:05.678901+00'",
    ],
    ["0/30", "table throughline.order_values: DELETE: event_id[bigint]:5"],
  ];
  for (const [lsn, data] of lines) expect(parser.take(lsn, data)).toBeUndefined();
  expect(parser.take("1/A0", "COMMIT 741 (at 2026-01-02 03:04:05.678901+00)")).toEqual({
    ...{ endLsn: (1n << 32n) + 0xa0n, atMs: Date.UTC(2026, 0, 2, 3, 4, 5, 678) },
    events: [{ id: 7n, topic: "orders", content: "ab||it's made" }],
    stamps: [{ eventId: 6n, sequence: 3, commitId: 258n }],
    ...{ changed: [], cleaned: [5n], parked: [], slotBegins: undefined },
  });
  expect(parser.take("1/B0", "COMMIT 742 (at 2026-01-02 03:04:06+00)")).toBeUndefined();
});
