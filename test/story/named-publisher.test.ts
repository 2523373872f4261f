/**
 * P1 P7: a named publisher of thousands of numbered events, while its servers are killed and every broker is
 * killed in turn; a server that freezes with a transaction open; a publisher that begins anew. kafkajs,
 * which shares no code with our reader, then finds each number in the log once, and in order per partition.
 */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import type { ThroughlineError } from "../../client/errors.ts";
import type { NamedPublisher, NumberedResult } from "../../client/named-publisher.ts";
import type { TopicInfo } from "../../kafka/log.ts";
import type { Seen } from "../../local/demo-audit.ts";
import { readCommitted } from "../kafka/witness.ts";
import { Bed, SLOW_MS } from "./bed.ts";
import { newEvent } from "./publisher.ts";
import { Waits } from "./waits.ts";

const BATCH = 10;
const AHEAD = 20;

let bed: Bed;

beforeAll(async () => {
  bed = await Bed.open({ nodes: 3 });
}, SLOW_MS);

afterAll(() => bed?.close(), SLOW_MS);

/** Publishes event n as number n from where the topic ends, several batches ahead of their answers. */
class Counting {
  readonly publisher: NamedPublisher;
  readonly breaks: string[] = [];
  readonly acknowledged: { number: number; position: NumberedResult }[] = [];
  /** Why it ended. */
  readonly ended: Promise<ThroughlineError | undefined>;
  readonly #client: ThroughlineClient;
  readonly #waits = new Waits();
  #stopping = false;

  constructor(addresses: readonly string[], topic: string, name: string) {
    this.#client = new ThroughlineClient(addresses);
    this.publisher = this.#client.namedPublisher({
      ...{ topic, name },
      onBreak: ({ error }) => this.breaks.push(error),
    });
    this.ended = this.#run();
  }

  /** Resolves when that many more are in the topic. */
  more(count: number): Promise<void> {
    const goal = this.acknowledged.length + count;
    return this.#waits.until(() => this.acknowledged.length >= goal);
  }

  /** @returns why it ended by itself. */
  async stop(): Promise<ThroughlineError | undefined> {
    this.#stopping = true;
    const why = await this.ended;
    this.close();
    return why;
  }

  close(): void {
    this.publisher.close();
    this.#client.close();
  }

  async #run(): Promise<ThroughlineError | undefined> {
    try {
      let next = Number(await this.publisher.lastNumber()) + 1;
      await Promise.all(
        Array.from({ length: AHEAD }, async () => {
          while (!this.#stopping) {
            const from = next;
            next += BATCH;
            const events = Array.from({ length: BATCH }, (_, i) => newEvent(from + i));
            const results = await this.publisher.publish(events);
            for (const [i, position] of results.entries()) {
              this.acknowledged.push({ number: from + i, position });
            }
            this.#waits.changed();
          }
        }),
      );
      return undefined;
    } catch (error) {
      return error as ThroughlineError;
    }
  }
}

/** Each number from 1 once, in order per partition; what was acknowledged is where it was said to be. */
function expectExactlyOnce(log: readonly Seen[], publishers: readonly Counting[]): void {
  const numbers = log.map(({ value }) => Number(value));
  const seen = new Set(numbers);
  const last = Math.max(0, ...numbers);
  const missing = Array.from({ length: last }, (_, i) => i + 1).filter((n) => !seen.has(n));
  const byPartition = new Map<number, number>();
  const disordered = log.filter(({ partition, value }) => {
    const before = byPartition.get(partition) ?? 0;
    byPartition.set(partition, Number(value));
    return Number(value) <= before;
  });
  expect({
    repeated: numbers.length - seen.size,
    missing: missing.slice(0, 5),
    disordered: disordered.slice(0, 5),
  }).toEqual({ repeated: 0, missing: [], disordered: [] });
  const at = new Map(
    log.map(({ partition, offset, value }) => [`${partition}/${offset}`, Number(value)]),
  );
  for (const { number, position } of publishers.flatMap(({ acknowledged }) => acknowledged)) {
    if ("error" in position) throw position.error;
    expect(position.number).toBe(BigInt(number));
    expect(seen.has(number)).toBe(true);
    const { position: where } = position;
    if (where) expect(at.get(`${where.partition}/${where.offset}`)).toBe(number);
  }
}

function written(topic: TopicInfo): Promise<Seen[]> {
  return readCommitted(bed.log, bed.kafka.brokers, topic);
}

test(
  "servers are killed in turn, and each broker once: every number is in the log once, in order",
  async () => {
    const topic = await bed.topic("orders", { partitions: 3, replicas: 3 });
    const servers = [await bed.server(["orders"]), await bed.server(["orders"])];
    const addresses = servers.map(({ address }) => address);
    const counting = new Counting(addresses, "orders", "counter");
    await counting.more(500);
    for (const [i, server] of [...servers, ...servers].entries()) {
      await servers[i % 2]?.kill();
      await counting.more(300);
      servers[i % 2] = await bed.server(["orders"], "--listen", server.address);
      await counting.more(100);
    }
    for (const node of [1, 2, 3]) {
      await bed.kafka.kill(node);
      await counting.more(300);
      await bed.kafka.startNode(node);
      await counting.more(300);
    }
    expect(await counting.stop()).toBeUndefined();
    expectExactlyOnce(await written(topic), [counting]);
    expect(counting.acknowledged.length).toBeGreaterThan(3500);
    expect(counting.breaks.length).toBeGreaterThan(1);
    // The publishers' numbers are all that is left of it.
    const end = await bed.log.admin.listTopics();
    expect(end.kind === "done" && end.value).toContain("_throughline.story.publishers");
  },
  2 * SLOW_MS,
);

test(
  "a server that froze in mid-stream and thaws later writes nothing more: the newer stream has the name",
  async () => {
    const topic = await bed.topic("frozen", { partitions: 2, replicas: 3 });
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
