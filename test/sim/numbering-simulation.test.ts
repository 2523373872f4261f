/**
 * Named publishers under seeded faults, on the log in memory: streams that are superseded and go on sending,
 * commits whose outcome is lost, clients that send again too much or too little. Every number is in the log
 * once. Each rule that this rests on is then broken on purpose, and the same seeds find the harm.
 */
import { expect, test } from "@jest/globals";
import type { Log } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { recordsOf } from "../../kafka/records.ts";
import { PublishStreamResponse } from "../../proto/gen/throughline/v1/throughline.ts";
import type { CatalogTopic } from "../../sidecar/catalog.ts";
import { ServerMetrics } from "../../sidecar/metrics.ts";
import { LastNumbers } from "../../sidecar/publishers/last-numbers.ts";
import { NamedPipeline } from "../../sidecar/publishers/named-pipeline.ts";
import { NUMBERING, type NumberingRules } from "../../sidecar/publishers/numbering.ts";
import { Random } from "./random.ts";

const SEEDS = process.env["SEED"] ? [Number(process.env["SEED"])] : range(1, 40);
const EVENTS = 60;
const STEPS = 400;
const METRICS = new ServerMetrics();

interface Harm {
  readonly repeated: number[];
  readonly missing: number[];
  readonly disordered: number[];
}

const NO_HARM: Harm = { repeated: [], missing: [], disordered: [] };

interface Broken {
  readonly rules?: NumberingRules;
  /** The log that the servers use, made of the one that is judged. */
  readonly log?: (log: MemoryLog) => Log;
}

/** A client's stream at some server: it sends what follows its cursor, whatever it was told elsewhere. */
interface Stream {
  readonly pipeline: NamedPipeline;
  cursor: number;
  acknowledged: number;
  over: boolean;
}

class World {
  readonly #random: Random;
  readonly #memory = new MemoryLog();
  readonly #log: Log;
  readonly #rules: NumberingRules;
  readonly #topic: CatalogTopic;
  readonly #numbers: LastNumbers;
  readonly #streams: Stream[] = [];

  constructor(seed: number, { rules = NUMBERING, log = (same) => same }: Broken) {
    this.#random = new Random(seed);
    this.#log = log(this.#memory);
    this.#rules = rules;
    const { name, id } = this.#memory.createTopicNow("shop.orders", 2);
    this.#topic = {
      ...{ name: "shop/orders", namespace: "shop", kafkaTopic: name, topicId: id, partitions: 2 },
      ...{ ordering: "Key", state: "Ready", maxEventBytes: 1000 },
      ...{ publishNamespaces: [], subscribeNamespaces: [] },
    };
    const clock = { now: () => 1, setTimer: () => () => {} };
    this.#numbers = new LastNumbers({ log: this.#log, deploymentId: "sim", clock });
  }

  async run(): Promise<Harm> {
    const random = this.#random;
    await this.#open();
    for (let step = 0; step < STEPS; step++) {
      const newest = this.#streams.at(-1) as Stream;
      if (newest.over || random.chance(0.05)) await this.#open();
      if (random.chance(0.05)) {
        this.#memory.failNextTransaction({ kind: "unknown", reason: "lost" }, random.chance(0.5));
      }
      // The newest most of the time; the others are still being served somewhere.
      const one = random.chance(0.7)
        ? newest
        : this.#streams[random.int(0, this.#streams.length - 1)];
      this.#send(one as Stream, random.int(1, 4));
      if (random.chance(0.5)) await settled();
    }
    await this.#finish();
    return await this.#judge();
  }

  async #open(): Promise<void> {
    const topic = await this.#numbers.topic();
    const opened = await this.#log.openTransactionalWriter("publisher");
    if (opened.kind !== "done") throw new Error(opened.reason);
    const own = await opened.value.write([this.#numbers.opening(topic, "p")]);
    // The seeds' fault of this transaction: a client opens anew then.
    if (own.kind !== "committed") return this.#open();
    const read = await this.#numbers.read(topic, "p", own.positions[0]?.offset ?? 0);
    const last = read?.number ?? 0;
    const stream: Stream = {
      // A client that does not look at last_number sends again from what it heard of last, or earlier.
      cursor: Math.max(1, last + 1 - this.#random.int(0, 6)),
      ...{ acknowledged: last, over: false },
      pipeline: new NamedPipeline(
        {
          ...{ writer: opened.value, rules: this.#rules, metrics: METRICS },
          topic: () => this.#topic,
          lastNumber: (number) =>
            this.#numbers.record(topic, "p", { topicId: "t", number, instance: "" }),
          answer: async (message) => this.#answered(stream, message),
          done: () => {},
          numbersGone: () => {},
          end: () => {
            stream.over = true;
          },
        },
        last,
      ),
    };
    this.#streams.push(stream);
  }

  #send(stream: Stream, count: number): void {
    if (stream.over) return;
    // Now and then a message is lost before the server, or comes twice.
    const skipped = this.#random.chance(0.05) ? this.#random.int(1, 3) : 0;
    const again = this.#random.chance(0.05) ? this.#random.int(1, 3) : 0;
    const firstNumber = Math.max(1, stream.cursor + skipped - again);
    const numbers = range(firstNumber, Math.min(EVENTS, firstNumber + count - 1));
    if (numbers.length === 0) return;
    stream.cursor = firstNumber + numbers.length;
    const events = numbers.map((number) => ({
      ...{ kind: "record" as const, bytes: 10 },
      record: {
        ...{ key: Buffer.from(String(number % 5)), value: Buffer.from(String(number)) },
        ...{ headers: [], timeMs: 1 },
      },
    }));
    stream.pipeline.add({ firstNumber, events, bytes: 10 });
  }

  #answered(stream: Stream, message: Buffer): void {
    const { kind } = PublishStreamResponse.decode(message);
    if (kind?.$case === "alreadyThere") {
      const { firstNumber, count } = kind.value;
      stream.acknowledged = Math.max(stream.acknowledged, Number(firstNumber + count) - 1);
    } else if (kind?.$case === "results") {
      for (const [i, { result }] of kind.value.results.entries()) {
        const number = Number(kind.value.firstNumber) + i;
        if (result?.$case === "position") stream.acknowledged = number;
        else stream.cursor = Math.min(stream.cursor, stream.acknowledged + 1);
      }
    }
  }

  /** The newest stream publishes what is left. */
  async #finish(): Promise<void> {
    for (let turn = 0; turn < 100; turn++) {
      await settled();
      if (this.#streams.at(-1)?.over !== false) await this.#open();
      const newest = this.#streams.at(-1) as Stream;
      if (newest.acknowledged >= EVENTS) return;
      newest.cursor = Math.min(newest.cursor, newest.acknowledged + 1);
      this.#send(newest, 10);
    }
    throw new Error("the publisher does not come to its end");
  }

  async #judge(): Promise<Harm> {
    const seen = new Set<number>();
    const repeated: number[] = [];
    const disordered: number[] = [];
    for (let partition = 0; partition < 2; partition++) {
      const topic = { name: "shop.orders", id: this.#topic.topicId, partitions: 2, replicas: 1 };
      const reader = this.#memory.openReader(topic, partition);
      const fetched = await reader.fetch({ offset: 0, epoch: -1 }, 1 << 30, 0);
      if (fetched.kind !== "fetched") throw new Error(JSON.stringify(fetched));
      let last = 0;
      for (const { value } of recordsOf(fetched, 0).records) {
        const number = Number(value);
        if (seen.has(number)) repeated.push(number);
        else if (number < last) disordered.push(number);
        seen.add(number);
        last = number;
      }
    }
    return { repeated, missing: range(1, EVENTS).filter((n) => !seen.has(n)), disordered };
  }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);
}

async function settled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

test.each(SEEDS)("each number is in the log once, in order: SEED=%i", async (seed) => {
  const harm = await new World(seed, {}).run();
  expect(harm).toEqual(NO_HARM);
});

/** Of all seeds together: a broken rule need not harm every run. */
async function harmOf(broken: Broken): Promise<Harm> {
  const found: Harm = { repeated: [], missing: [], disordered: [] };
  for (const seed of SEEDS) {
    const harm = await new World(seed, broken).run().catch(() => NO_HARM);
    found.repeated.push(...harm.repeated);
    found.missing.push(...harm.missing);
  }
  return found;
}

test("broken on purpose: repeated numbers are taken for new ones, and repeats are found", async () => {
  const rules: NumberingRules = {
    judge: (number, last) => (number <= last ? "next" : NUMBERING.judge(number, last)),
  };
  expect((await harmOf({ rules })).repeated.length).toBeGreaterThan(0);
});

test("broken on purpose: a jump is let through, and holes are found", async () => {
  const rules: NumberingRules = {
    judge: (number, last) => (number > last ? "next" : "already-there"),
  };
  expect((await harmOf({ rules })).missing.length).toBeGreaterThan(0);
});

test("broken on purpose: no fence, and what superseded streams write again is found", async () => {
  let opening = 0;
  const log = (memory: MemoryLog): Log =>
    new Proxy(memory, {
      get: (target, name) => {
        if (name === "openTransactionalWriter") {
          return (id: string) => target.openTransactionalWriter(`${id}-${opening++}`);
        }
        const value = Reflect.get(target, name) as unknown;
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  expect((await harmOf({ log })).repeated.length).toBeGreaterThan(0);
});

test("broken on purpose: the number is not in the events' transaction, and repeats are found", async () => {
  const log = (memory: MemoryLog): Log =>
    new Proxy(memory, {
      get: (target, name) => {
        if (name === "openTransactionalWriter") {
          return async (id: string) => {
            const opened = await target.openTransactionalWriter(id);
            if (opened.kind !== "done") return opened;
            const write: typeof opened.value.write = async (records) => {
              const events = await opened.value.write(records.slice(0, -1));
              if (events.kind === "committed") await opened.value.write(records.slice(-1));
              return events;
            };
            return { kind: "done", value: { write } };
          };
        }
        const value = Reflect.get(target, name) as unknown;
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  expect((await harmOf({ log })).repeated.length).toBeGreaterThan(0);
});
