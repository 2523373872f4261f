/**
 * P2: a topic is recreated under its streams. Without a preset they end; with one they end too, to be opened
 * again: then they go on in the new topic with a notice, which the library does by itself.
 */
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type SessionOptions, ThroughlineClient } from "../../client/client.ts";
import { ClientSession } from "../../client/session.ts";
import {
  type Ack,
  type Batch,
  Event,
  type Start,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { decodeToken } from "../../sidecar/token.ts";
import { Waits } from "../story/waits.ts";
import { SessionBed } from "./session-bed.ts";

const RECOVERY_EARLIEST = 2;
const LOSS_GONE = 3;
const EVENT = Event.decode(Buffer.alloc(0));
const EARLIEST = { $case: "earliest", value: {} } as const;

let bed: SessionBed;
let lost: string;

beforeEach(async () => {
  bed = await new SessionBed({}, { pollMs: 20 }).start(2);
  lost = bed.topic.id;
});

afterEach(() => bed.stop());

function from(token: Buffer): Start {
  return { at: { $case: "token", value: { token, after: [] } } };
}

/** A client of the library, and what it was given and told. */
class App {
  readonly events: string[] = [];
  readonly notices: string[] = [];
  readonly breaks: string[] = [];
  readonly waits = new Waits();
  readonly #client: ThroughlineClient;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;

  constructor(server: number, session?: SessionOptions) {
    this.#client = new ThroughlineClient([bed.servers[server]?.address as string]);
    this.#running = this.#run(session);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
    this.#client.close();
  }

  async #run(session: SessionOptions | undefined): Promise<void> {
    const batches = this.#client.subscribe({
      ...{ topic: "orders", start: EARLIEST, recovery: RECOVERY_EARLIEST },
      ...(session && { session }),
      signal: this.#abort.signal,
      onNotice: ({ $case }) => {
        this.notices.push($case);
        this.waits.changed();
      },
      onBreak: ({ error }) => {
        this.breaks.push(error);
        this.waits.changed();
      },
    });
    for await (const { events, maybeRedelivered } of batches) {
      for (const { payload } of events)
        this.events.push(`${payload}${maybeRedelivered ? "?" : ""}`);
      this.waits.changed();
    }
  }
}

test("without a preset a stream ends with POSITION_LOST, with one with TOPIC_GONE, which is retryable", async () => {
  const plain = bed.stream("A", undefined);
  const preset = bed.stream("A", undefined, { recovery: RECOVERY_EARLIEST });
  await Promise.all([plain.next("opened"), preset.next("opened")]);
  bed.recreate();
  expect(await plain.failure()).toMatchObject({ name: "POSITION_LOST", loss: LOSS_GONE });
  const { token, ...gone } = await preset.failure();
  expect(gone).toMatchObject({ name: "TOPIC_GONE", retryable: true, loss: LOSS_GONE });
  // Until the catalog names the new topic it ends again.
  const again = { start: from(token), recovery: RECOVERY_EARLIEST } as const;
  expect(await bed.stream("A", undefined, again).failure()).toMatchObject({ name: "TOPIC_GONE" });
  const opens = bed.stream("A", undefined, { start: { at: EARLIEST } });
  expect(await opens.failure()).toMatchObject({ name: "TOPIC_GONE" });
  await bed.apply(2, lost);
  await bed.publish(1);
  for (;;) {
    const next = bed.stream("A", undefined, again);
    const restarted = await next.next("restarted").catch(() => undefined);
    if (!restarted) continue;
    expect(restarted).toMatchObject({ fromOffset: 0n, toOffset: 0n, loss: LOSS_GONE });
    await next.got(1);
    return;
  }
});

test.each<[string, SessionOptions | undefined]>([
  ["no session", undefined],
  ["an exclusive session", { name: "s" }],
  ["a shared session", { name: "s", mode: "shared" }],
])("the library goes on in the new topic by itself, with a notice: %s", async (_what, session) => {
  await bed.publish(5, 0);
  await bed.publish(5, 1);
  const app = new App(0, session);
  await app.waits.until(() => app.events.length === 10);
  bed.recreate();
  await app.waits.until(() => app.breaks.includes("TOPIC_GONE"));
  expect(app.notices).not.toContain("restarted");
  await bed.apply(2, lost);
  // Fewer than it had: their offsets are below what it has.
  await bed.publish(3, 0);
  await bed.publish(3, 1);
  await app.waits.until(() => app.events.length === 16);
  expect(app.notices.filter((notice) => notice === "restarted")).toHaveLength(2);
  expect(app.events.slice(10).sort()).toEqual(["10", "11", "12", "13", "14", "15"]);
  await app.stop();
});

test("a member that comes when another has begun the session anew hears by `seeks` that it was", async () => {
  const member = async (instance: string, attempt: bigint) => {
    const session = { mode: 2, instance, attempt } as const;
    const stream = bed.stream("A", session, { recovery: RECOVERY_EARLIEST });
    const opened = await stream.next("opened").catch(() => undefined);
    return { stream, seeks: opened?.session?.seeks };
  };
  const [one, two] = [await member("one", 1n), await member("two", 1n)];
  expect([one.seeks, two.seeks]).toEqual([0n, 0n]);
  bed.recreate();
  for (const { stream } of [one, two])
    expect(await stream.failure()).toMatchObject({ name: "TOPIC_GONE" });
  await bed.apply(2, lost);
  const begun = async (instance: string) => {
    for (let attempt = 2n; ; attempt++) {
      const again = await member(instance, attempt);
      if (again.seeks === 1n) return again;
    }
  };
  const first = await begun("one");
  await first.stream.next("restarted");
  await first.stream.leave();
  const second = await begun("two");
  expect(second.seeks).toBe(1n);
  expect((await second.stream.next("assigned")).partitions).toEqual([0, 1]);
});

test("the session counts in the new topic, and clean: nothing there was delivered before", async () => {
  await bed.publish(3);
  const a = bed.stream("A", {}, { start: { at: EARLIEST }, recovery: RECOVERY_EARLIEST });
  const before = (await a.next("opened")).session?.seeks;
  await a.got(3);
  bed.recreate();
  expect(await a.failure()).toMatchObject({ name: "TOPIC_GONE" });
  await bed.apply(2, lost);
  await bed.publish(2);
  for (let attempt = 2n; ; attempt++) {
    const b = bed.stream("A", { attempt }, { recovery: RECOVERY_EARLIEST });
    const opened = await b.next("opened").catch(() => undefined);
    if (opened?.session?.seeks === before) continue;
    expect(opened?.session?.seeks).toBe(1n);
    await b.got(2);
    expect(b.events).toEqual(["3", "4"]);
    b.ack(1);
    const identity = { deploymentId: "test", topic: "shop/orders", topicId: bed.topic.id };
    await b.saved(2, (token) => decodeToken(token, identity, 2).positions[0]?.offset ?? -1);
    return;
  }
});

test("the library drops what it has of a log that was cut while it had no stream", () => {
  const session = new ClientSession({ name: "s" }, "one");
  const batch = (...offsets: number[]): Batch => ({
    ...{ partition: 0, maybeRedelivered: false, token: Buffer.alloc(0) },
    events: offsets.map((offset) => ({ ...EVENT, offset: BigInt(offset) })),
  });
  const acks: Ack[] = [];
  session.open((ack) => acks.push(ack));
  expect(session.fresh(batch(0, 1, 2, 3))).toHaveLength(4);
  session.close();
  session.open((ack) => acks.push(ack));
  expect(session.fresh(batch(1))).toEqual([]);
  const token = Buffer.from("cut");
  session.heard({
    kind: {
      $case: "restarted",
      value: { partition: 0, fromOffset: 4n, toOffset: 2n, loss: 2, token },
    },
  });
  expect(session.fresh(batch(2, 3))).toHaveLength(2);
  // Event 1 came again, and is not acknowledged by that.
  expect(acks).toEqual([]);
});
