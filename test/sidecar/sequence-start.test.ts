/** P8: a start by order value is that very event, or the next to come; else the loss is told. */
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { TopicInfo } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import type { CatalogTopic } from "../../sidecar/catalog.ts";
import type { Failure } from "../../sidecar/failure.ts";
import { resolveStart } from "../../sidecar/open.ts";

let log: MemoryLog;
let info: TopicInfo;
beforeEach(() => {
  log = new MemoryLog();
  info = log.createTopicNow("shop.orders", 1);
});
afterEach(() => log.close());

function record(sequence: number | undefined) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(sequence ?? 0));
  return {
    ...{ key: null, value: Buffer.from("v"), timeMs: Date.now() },
    headers: sequence === undefined ? [] : [["tl-sequence", bytes] as const],
  };
}

/** Transactions of these sizes, each with its marker, from an order value on. @returns offsets by order value. */
async function transactions(sizes: readonly number[], first = 1): Promise<Map<number, number>> {
  const opened = await log.openTransactionalWriter("w");
  if (opened.kind !== "done") throw new Error(opened.kind);
  const offsets = new Map<number, number>();
  let next = first;
  for (const size of sizes) {
    const from = next;
    const records = Array.from({ length: size }, () => record(next++));
    const outcome = await opened.value.write([{ topic: info, partition: 0, records }]);
    if (outcome.kind !== "committed") throw new Error(outcome.kind);
    const [position] = outcome.positions;
    for (let i = 0; i < size; i++) offsets.set(from + i, (position?.offset ?? 0) + i);
  }
  return offsets;
}

async function startAt(sequence: bigint, ordering: CatalogTopic["ordering"] = "Commit") {
  const topic = { name: "shop/orders", ordering } as CatalogTopic;
  const identity = { deploymentId: "d", topicId: info.id, topic: "shop/orders" };
  const start = { at: { $case: "sequence", value: sequence } } as const;
  try {
    const resolved = await resolveStart(log, info, topic, identity, 0, start);
    return resolved.kind === "positions" ? resolved.positions[0]?.offset : resolved.kind;
  } catch (error) {
    const { error: name, details } = error as Failure;
    return details.loss ? `${name} ${details.loss}` : name;
  }
}

/** The first event at or after an offset has this order value. */
async function expectEvent(offsets: Map<number, number>, sequence: number): Promise<void> {
  const found = Number(await startAt(BigInt(sequence)));
  const at = offsets.get(sequence) as number;
  const before = offsets.get(sequence - 1) ?? -1;
  expect(found).toBeLessThanOrEqual(at);
  expect(found).toBeGreaterThan(before);
}

test("each order value is found, with markers and aborted events in between", async () => {
  const offsets = await transactions([1, 7, 1, 3]);
  log.appendAbortedNow("shop.orders", 0, [record(13), record(14)]);
  for (const [sequence, offset] of await transactions([2, 1, 30], 13))
    offsets.set(sequence, offset);
  expect(offsets.size).toBe(45);
  for (const sequence of offsets.keys()) await expectEvent(offsets, sequence);
});

test("the next to come is the end; one after that, or before the log's beginning, is lost", async () => {
  const offsets = await transactions([2, 2, 2]);
  const end = await log.offset(info, 0, "latest");
  const latest = end.kind === "offset" ? end.offset : -1;
  expect(Number(await startAt(7n))).toBeGreaterThan(offsets.get(6) as number);
  expect(Number(await startAt(7n))).toBeLessThanOrEqual(latest);
  expect(await startAt(8n)).toBe("POSITION_LOST 4");
  log.retainFrom("shop.orders", 0, offsets.get(3) as number);
  expect(await startAt(2n)).toBe("POSITION_LOST 1");
  await expectEvent(new Map([[3, offsets.get(3) as number]]), 3);
});

test("an empty topic has the first to come, unless retention emptied it", async () => {
  expect(await startAt(1n)).toBe(0);
  expect(await startAt(2n)).toBe("POSITION_LOST 4");
  await transactions([2]);
  const end = await log.offset(info, 0, "latest");
  log.retainFrom("shop.orders", 0, end.kind === "offset" ? end.offset : -1);
  expect(await startAt(1n)).toBe("POSITION_LOST 1");
});

test("bad numbers, and topics without order values, are refused", async () => {
  expect(await startAt(0n)).toBe("INVALID_REQUEST");
  expect(await startAt(2n ** 60n)).toBe("INVALID_REQUEST");
  expect(await startAt(1n, "Key")).toBe("INVALID_REQUEST");
});
