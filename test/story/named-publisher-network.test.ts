/**
 * P1 P7: the network between a server and Kafka fails under a named publisher: connections are reset in the
 * middle of produces and commits, or freeze until they are given up. Each number is in the log once.
 */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { FaultProxy } from "../faults/fault-proxy.ts";
import { readCommitted } from "../kafka/witness.ts";
import { LoneBed, SLOW_MS } from "./bed.ts";
import { Counting, expectExactlyOnce } from "./counting.ts";

const END_TXN = 26;

let proxy: FaultProxy;
let bed: LoneBed;
/** Breaks the connection on which the next commit comes, before or after Kafka has heard of it. */
let breakCommit: "no" | "before" | "after" = "no";
let broken = 0;

beforeAll(async () => {
  proxy = await FaultProxy.listen({
    onUp: (connection, bytes) => {
      if (breakCommit === "no" || bytes.length < 6 || bytes.readInt16BE(4) !== END_TXN) return;
      const how = breakCommit;
      breakCommit = "no";
      broken++;
      if (how === "before") connection.fault({ kind: "freeze" });
      setImmediate(() => connection.reset());
    },
  });
  bed = await LoneBed.open({ through: proxy });
}, SLOW_MS);

afterAll(async () => {
  await bed?.close();
  await proxy?.close();
}, SLOW_MS);

test(
  "connections are reset in the middle of commits, and all of them at once, again and again",
  async () => {
    const topic = await bed.topic("reset", { partitions: 3 });
    const server = await bed.server(["reset"]);
    const counting = new Counting([server.address], "reset", "counter");
    await counting.more(200);
    for (let i = 0; i < 12; i++) {
      breakCommit = i % 2 === 0 ? "before" : "after";
      await counting.more(200);
      if (i % 3 === 0) proxy.reset();
      await counting.more(50);
    }
    expect(await counting.stop()).toBeUndefined();
    expect(broken).toBe(12);
    expectExactlyOnce(await readCommitted(bed.log, bed.part.kafkajs(), topic), [counting]);
  },
  SLOW_MS,
);

test(
  "connections freeze: the stream says that Kafka is away, opens again when it is back, and nothing repeats",
  async () => {
    const topic = await bed.topic("frozen", { partitions: 1 });
    const server = await bed.server(["frozen"]);
    const counting = new Counting([server.address], "frozen", "counter");
    await counting.more(200);
    proxy.fault({ kind: "freeze" });
    try {
      await counting.broke();
    } finally {
      proxy.heal();
      proxy.reset();
    }
    await counting.more(200);
    expect(await counting.stop()).toBeUndefined();
    expect(counting.breaks).toContain("KAFKA_UNAVAILABLE");
    expectExactlyOnce(await readCommitted(bed.log, bed.part.kafkajs(), topic), [counting]);
  },
  SLOW_MS,
);
