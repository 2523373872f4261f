/**
 * Kafka's disk is full: writes to its log fail, the log directory goes offline, the broker halts. It is
 * full for files over a size, which needs neither a disk of its own nor root.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Load, LoneBed, SLOW_MS } from "./bed.ts";
import { Publisher } from "./publisher.ts";
import { EARLIEST, type RawStream, rawStream } from "./subscriber.ts";

const WAITS_FOR_KAFKA = 2;
/** Kafka makes index files of 10 MiB before it writes a byte. */
const MAX_FILE_BYTES = 12 << 20;
/** Appends give up after 30 s. */
const ANSWER_WITHIN_MS = 40_000;

let bed: LoneBed;
let halt: (how: string) => void;
/** How the broker ended by itself. */
const halted = new Promise<string>((resolve) => {
  halt = resolve;
});

beforeAll(async () => {
  bed = await LoneBed.open({ onUnexpectedEnd: (_node, how) => halt(how) });
}, SLOW_MS);

afterAll(() => bed?.close(), SLOW_MS);

test(
  "P2 P7 P10: with the disk full publishers hear it by name, streams wait, and with room again all goes on",
  async () => {
    const topic = await bed.topic("orders");
    const server = await bed.server(["orders"]);
    await bed.kafka.kill(1);
    await bed.kafka.startNode(1, MAX_FILE_BYTES);
    const publisher = new Publisher([server.address], "orders", 10_000);
    const subscriber = bed.subscriber([server.address], { topic: "orders", start: EARLIEST });
    const raw = rawStream(server.address, { topic: "orders", start: undefined });
    const load = new Load(publisher.publish);
    expect(await halted).toBe("exit code 1");
    expect(readFileSync(join(bed.folder, "node-1", "log"), "utf8")).toContain("File too large");
    // What is published meanwhile is not left without an answer.
    const late = publisher.publish(load.count + 1_000_000, 1);
    await raw.until(() => waitsFor(raw) === WAITS_FOR_KAFKA);
    expect((await server.isReady()).ready).toBe(true);
    expect(await late).toBe(false);
    await bed.kafka.startNode(1);
    const count = publisher.acknowledged.length;
    await load.more(1000);
    expect(publisher.acknowledged.length).toBeGreaterThan(count);
    await load.stop();
    await raw.until(() => waitsFor(raw) === 0);
    const log = await bed.expectWhole(topic, subscriber);
    publisher.expectKept(log);
    const named = ["KAFKA_UNAVAILABLE", "OUTCOME_UNKNOWN"];
    expect([...publisher.errors].filter((name) => !named.includes(name))).toEqual([]);
    expect(publisher.errors.size).toBeGreaterThan(0);
    expect(publisher.slowestMs).toBeLessThan(ANSWER_WITHIN_MS);
    // Nobody had to open again.
    expect([subscriber.breaks, raw.failure()]).toEqual([[], undefined]);
    raw.close();
    publisher.close();
  },
  SLOW_MS,
);

/** What the newest message says that the stream waits for; undefined when it is no heartbeat. */
function waitsFor({ down }: RawStream): number | undefined {
  const last = down.at(-1);
  return last?.$case === "heartbeat" ? last.value.waitsFor : undefined;
}
