/** P6: what a stream of a publisher may send ahead of its answers, alone and beside others. */
import { Duplex } from "node:stream";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import { expect, test } from "@jest/globals";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { PublishStreamRequest } from "../../proto/gen/throughline/v1/throughline.ts";
import type { CatalogTopic } from "../../sidecar/catalog.ts";
import { InFlightBudget } from "../../sidecar/in-flight-budget.ts";
import { DEFAULT_LIMITS } from "../../sidecar/limits.ts";
import { ServerMetrics } from "../../sidecar/metrics.ts";
import { makePublishStream } from "../../sidecar/publishers/publish-stream.ts";
import type { ServerContext } from "../../sidecar/server-context.ts";
import { Waits } from "../story/waits.ts";

const MESSAGE_BYTES = 256 << 10;
const STREAM_BYTES = 2 << 20;

/** Streams without a network, whose messages are there as soon as they are read. */
function bed(publishBytes: number) {
  let held: (() => void)[] | undefined;
  const log = new MemoryLog({
    schedule: (deliver) => (held ? held.push(deliver) : queueMicrotask(deliver)),
  });
  const info = log.createTopicNow("shop.orders", 1);
  const topic: CatalogTopic = {
    ...{ name: "shop/orders", namespace: "shop", kafkaTopic: info.name, topicId: info.id },
    ...{ partitions: 1, ordering: "Key", state: "Ready", maxEventBytes: 1 << 20 },
    ...{ publishNamespaces: [], subscribeNamespaces: [] },
  };
  const budget = new InFlightBudget(publishBytes);
  const handler = makePublishStream(
    {
      ...{ log, deploymentId: "local", namespace: "shop", limits: DEFAULT_LIMITS },
      catalog: { get: () => topic, list: () => [topic], onChange: () => () => {} },
      clock: { now: () => 1000, setTimer: () => () => {} },
      metrics: new ServerMetrics(),
      reliability: { draining: false, onMoving: () => () => {} },
    } as unknown as ServerContext,
    budget,
  );
  return {
    budget,
    hold: () => {
      held = [];
    },
    release: () => {
      const waiting = held ?? [];
      held = undefined;
      for (const deliver of waiting) deliver();
    },
    stream: (publisher: string, count: number, takes = true) =>
      new FakeStream(publisher, count, takes, handler),
  };
}

class FakeStream {
  read = 0;
  answers = 0;
  readonly waits = new Waits();
  readonly call: Duplex;

  constructor(
    publisher: string,
    count: number,
    takes: boolean,
    handler: ReturnType<typeof makePublishStream>,
  ) {
    const next = (): Buffer | null => {
      if (this.read > count) return null;
      const kind: PublishStreamRequest["kind"] =
        this.read === 0
          ? { $case: "open", value: { topic: "orders", publisher, instance: "", heartbeatMs: 0 } }
          : { $case: "events", value: { firstNumber: BigInt(this.read), events: [large()] } };
      this.read++;
      return Buffer.from(PublishStreamRequest.encode({ kind }).finish());
    };
    this.call = new Duplex({
      objectMode: true,
      read() {
        setImmediate(() => this.push(next()));
      },
      write: (_message, _encoding, done) => {
        this.answers++;
        this.waits.changed();
        if (takes) done();
      },
    });
    this.call.on("finish", () => this.waits.changed());
    handler(this.call as unknown as ServerDuplexStream<Buffer, Buffer>);
  }
}

function large() {
  return {
    ...{ key: undefined, headers: [], type: "", timeMs: undefined },
    payload: Buffer.alloc(MESSAGE_BYTES),
  };
}

/** Resolves when nothing more is read by itself. */
async function quiet(...streams: FakeStream[]): Promise<void> {
  const read = (): number => streams.reduce((sum, stream) => sum + stream.read, 0);
  for (let still = 0, before = read(); still < 20; still++) {
    await new Promise((resolve) => setImmediate(resolve));
    if (read() !== before) still = 0;
    before = read();
  }
}

test.each(["one", ""])(
  'P6: a stream (of "%s") that is not answered is read to its bound and one message ahead, and goes on later',
  async (publisher) => {
    const { hold, release, stream, budget } = bed(64 << 20);
    const one = stream(publisher, 100);
    await one.waits.until(() => one.answers > 0);
    hold();
    await quiet(one);
    const first = one.read;
    // The events before the hold, the bound, one message that crosses it, one read ahead, the open.
    await quiet(one);
    expect(one.read).toBe(first);
    expect(budget.used).toBeLessThanOrEqual(STREAM_BYTES + 2 * MESSAGE_BYTES);
    release();
    await one.waits.until(() => one.call.writableFinished);
    expect(one.read).toBe(101);
    expect(budget.used).toBe(0);
  },
);

test("P6: a client that never takes an answer is read to the bound, and no further", async () => {
  const { stream, budget } = bed(64 << 20);
  const deaf = stream("", 10_000, false);
  await deaf.waits.until(() => deaf.answers > 0);
  await quiet(deaf);
  expect(budget.used).toBeGreaterThanOrEqual(STREAM_BYTES);
  expect(budget.used).toBeLessThanOrEqual(STREAM_BYTES + 2 * MESSAGE_BYTES);
  expect(deaf.read).toBeLessThan(100);
  deaf.call.emit("cancelled");
  expect(budget.used).toBe(0);
});

test("P6: streams share one budget; each that waits goes on when another is answered", async () => {
  const { hold, release, stream, budget } = bed(1 << 20);
  hold();
  const streams = ["a", "b", "", ""].map((name) => stream(name, 20));
  release();
  await Promise.all(streams.map((one) => one.waits.until(() => one.answers > 0)));
  hold();
  await quiet(...streams);
  expect(budget.used).toBeLessThanOrEqual((1 << 20) + 2 * streams.length * MESSAGE_BYTES);
  release();
  await Promise.all(streams.map((one) => one.waits.until(() => one.call.writableFinished)));
  expect(budget.used).toBe(0);
});

test("P6: a stream that is gone gives back what it had", async () => {
  const { hold, stream, budget } = bed(64 << 20);
  const one = stream("one", 100);
  await one.waits.until(() => one.answers > 0);
  hold();
  await quiet(one);
  expect(budget.used).toBeGreaterThan(0);
  one.call.emit("cancelled");
  expect(budget.used).toBe(0);
});
