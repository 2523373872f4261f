/**
 * P1 P7: a named publisher of numbered events, whose server is killed, freezes with a transaction open, or goes
 * silent. kafkajs, which shares no code with our reader, then finds each number in the log once, and in order per
 * partition.
 */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import type { TopicInfo } from "../../kafka/log.ts";
import type { Seen } from "../../local/demo-audit.ts";
import { readCommitted } from "../kafka/witness.ts";
import { Bed, SLOW_MS } from "./bed.ts";
import { Counting, expectExactlyOnce } from "./counting.ts";

/** A server's own keepalive would take half a minute. */
const WITHIN_MS = 25_000;

let bed: Bed;

beforeAll(async () => {
  bed = await Bed.open();
}, SLOW_MS);

afterAll(() => bed?.close(), SLOW_MS);

function written(topic: TopicInfo): Promise<Seen[]> {
  return readCommitted(bed.log, bed.part.kafkajs(), topic);
}

test(
  "servers are killed in turn: every number is in the log once, in order",
  async () => {
    const topic = await bed.topic("counted", { partitions: 3 });
    const servers = [await bed.server(["counted"]), await bed.server(["counted"])];
    const addresses = servers.map(({ address }) => address);
    const counting = new Counting(addresses, "counted", "counter");
    await counting.more(500);
    for (const [i, server] of [...servers, ...servers].entries()) {
      await servers[i % 2]?.kill();
      await counting.more(300);
      servers[i % 2] = await bed.server(["counted"], "--listen", server.address);
      await counting.more(100);
    }
    expect(await counting.stop()).toBeUndefined();
    expectExactlyOnce(await written(topic), [counting]);
    expect(counting.acknowledged.length).toBeGreaterThan(2000);
    expect(counting.breaks.length).toBeGreaterThan(1);
    // The server that came first made the topic of the numbers.
    const topics = await bed.log.admin.listTopics();
    expect(topics.kind === "done" && topics.value).toContain(
      `_throughline.${bed.part.name}.publishers`,
    );
  },
  SLOW_MS,
);

test(
  "a server that froze in mid-stream and thaws later writes nothing more: the newer stream has the name",
  async () => {
    const topic = await bed.topic("frozen", { partitions: 2 });
    const [a, b] = [await bed.server(["frozen"]), await bed.server(["frozen"])];
    const older = new Counting([a.address], "frozen", "counter");
    await older.more(200);
    a.signal("SIGSTOP");
    const newer = new Counting([b.address], "frozen", "counter");
    await newer.more(300);
    a.signal("SIGCONT");
    const why = await older.ended;
    expect(why).toMatchObject({ error: "PUBLISHER_SUPERSEDED", retryable: false });
    await newer.more(300);
    expect(await newer.stop()).toBeUndefined();
    older.close();
    expectExactlyOnce(await written(topic), [older, newer]);
  },
  SLOW_MS,
);

test(
  "a server that freezes under an idle and a busy publisher is left within seconds for the other",
  async () => {
    const topic = await bed.topic("silent", { partitions: 2 });
    const [a, b] = [await bed.server(["silent"]), await bed.server(["silent"])];
    const busy = new Counting([a.address, b.address], "silent", "busy");
    await busy.more(200);
    const client = new ThroughlineClient([a.address, b.address]);
    bed.onClose(async () => client.close());
    const broke = new Promise<string>((resolve) => {
      const idle = client.namedPublisher({
        ...{ topic: "silent", name: "idle" },
        onBreak: ({ error }) => resolve(error),
      });
      bed.onClose(async () => idle.close());
    });
    const fromMs = performance.now();
    a.signal("SIGSTOP");
    await busy.broke();
    expect(await broke).toBe("UNREACHABLE");
    await busy.more(300);
    expect(performance.now() - fromMs).toBeLessThan(WITHIN_MS);
    expect(busy.breaks).toEqual(["UNREACHABLE"]);
    // What it held when it froze is fenced by now.
    a.signal("SIGCONT");
    await busy.more(300);
    expect(await busy.stop()).toBeUndefined();
    expectExactlyOnce(await written(topic), [busy]);
  },
  SLOW_MS,
);
