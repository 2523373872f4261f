/** Bad input to sessions over real gRPC: a clear error, nothing moved, nobody else harmed (P10). */
import type { ServiceError } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, jest, test } from "@jest/globals";
import {
  ErrorInfo,
  type GetSessionResponse,
  type Start,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { ERROR_TRAILER } from "../../sidecar/failure.ts";
import { encodeToken } from "../../sidecar/token.ts";
import { SessionBed, type Stream } from "./session-bed.ts";

const EARLIEST = { at: { $case: "earliest", value: {} } } as const;
const NAMES = { topic: "orders", session: "worker" };

let bed: SessionBed;
let holder: Stream;

beforeEach(async () => {
  bed = await new SessionBed().start();
  await bed.publish(5);
  holder = bed.stream("A", {}, { start: EARLIEST });
  await holder.got(5);
});
afterEach(() => bed.stop());

function tokenAt(offset: number, topic = "shop/orders", epoch = 0): Buffer {
  const identity = { deploymentId: "test", topic, topicId: bed.topic.id };
  return encodeToken(identity, [{ offset, epoch }]);
}

function at(token: Buffer, after: { partition: number; offset: bigint }[] = []): Start {
  return { at: { $case: "token", value: { token, after } } };
}

function get(): Promise<GetSessionResponse> {
  return new Promise((resolve, reject) => {
    bed.stubs[1]?.getSession(NAMES, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

function seek(to: Start | undefined): Promise<ErrorInfo | undefined> {
  return new Promise((resolve) => {
    bed.stubs[1]?.seekSession({ ...NAMES, to }, (error: ServiceError | null) => {
      const [info] = error?.metadata.get(ERROR_TRAILER) ?? [];
      resolve(info ? ErrorInfo.decode(info as Buffer) : undefined);
    });
  });
}

test("a token of another topic: refused at open and at a seek, and the holder stays", async () => {
  const { generation, token } = await get();
  const foreign = at(tokenAt(3, "shop/other"));
  const error = {
    name: "INVALID_TOKEN",
    message: expect.stringContaining('it belongs to topic "shop/other", not "shop/orders"'),
  };
  const other = bed.stream("B", { instance: "two" }, { start: foreign });
  expect(await other.failure()).toMatchObject(error);
  expect(await seek(foreign)).toMatchObject(error);
  expect(await get()).toMatchObject({ generation, token });
  await holder.next("heartbeat");
});

test("a seek to where the log does not reach back any more: POSITION_LOST, and nothing moved", async () => {
  bed.log.retainFrom("shop.orders", 0, 3);
  const { token } = await get();
  expect(await seek(at(tokenAt(2)))).toMatchObject({
    name: "POSITION_LOST",
    earliest: [{ partition: 0, offset: 3n }],
  });
  expect(await get()).toMatchObject({ token });
  expect(holder.received.some(({ $case }) => $case === "repositioned")).toBe(false);
  expect(await seek(at(tokenAt(3)))).toBeUndefined();
});

test.each([
  ["with the epoch in which it would count", 0, 2],
  ["without an epoch", -1, 4],
])(
  "a token past the end, %s: POSITION_LOST at a seek and at an open, and nothing moved",
  async (_what, epoch, loss) => {
    const { generation, token } = await get();
    const past = at(tokenAt(6, "shop/orders", epoch));
    const refusal = (field: string) => ({
      ...{ name: "POSITION_LOST", loss, earliest: [{ partition: 0, offset: 0n }] },
      message: `${field}: offset 6 of partition 0 lies past the end of the log, which is at 5.`,
    });
    expect(await seek(past)).toMatchObject(refusal("to.token"));
    const other = bed.stream("B", { instance: "two" }, { start: past });
    expect(await other.failure()).toMatchObject(refusal("open.start.token"));
    expect(await get()).toMatchObject({ generation, token, held: true, instance: "one" });
    expect(holder.received.some(({ $case }) => $case === "repositioned")).toBe(false);
    await holder.next("heartbeat");
  },
);

test("a seek to the end is good: by a token that is there, and by latest", async () => {
  expect(await seek(at(tokenAt(5)))).toBeUndefined();
  expect(await seek({ at: { $case: "latest", value: {} } })).toBeUndefined();
  expect((await get()).lag).toBe(0n);
});

test("a token that was delivered is good where Kafka's latest falls behind it", async () => {
  const behind = { kind: "offset", offset: 3, epoch: 0 } as const;
  const offset = bed.log.offset.bind(bed.log);
  jest
    .spyOn(bed.log, "offset")
    .mockImplementation(async (info, partition, spec) =>
      spec === "latest" ? behind : offset(info, partition, spec),
    );
  // All five were.
  const delivered = at(tokenAt(5));
  expect(await seek(delivered)).toBeUndefined();
  const other = bed.stream("B", { instance: "two" }, { start: delivered });
  await other.next("opened");
  expect(await seek(at(tokenAt(6)))).toMatchObject({ name: "POSITION_LOST" });
});

test.each([
  ["no preset", 0],
  ["the preset fail", 1],
] as const)(
  "an open with a token that retention has passed, %s: POSITION_LOST, and nothing moved",
  async (_what, recovery) => {
    bed.log.retainFrom("shop.orders", 0, 3);
    const { generation, token } = await get();
    const start = at(tokenAt(2));
    const other = bed.stream("B", { instance: "two" }, { start, recovery });
    expect(await other.failure()).toMatchObject({
      ...{ name: "POSITION_LOST", loss: 1, token: tokenAt(2) },
      message: expect.stringContaining("open.start.token: "),
      earliest: [{ partition: 0, offset: 3n }],
    });
    expect(await get()).toMatchObject({ generation, token, held: true, instance: "one" });
    await holder.next("heartbeat");
    const there = bed.stream("B", { instance: "two" }, { start: at(tokenAt(3)), recovery });
    await there.got(2);
  },
);

test.each([
  ["earliest", 2, ["3", "4"]],
  ["latest", 3, []],
] as const)(
  "an open with a token that retention has passed, recovery %s: goes on, after a notice",
  async (_what, recovery, events) => {
    bed.log.retainFrom("shop.orders", 0, 3);
    const other = bed.stream("B", { instance: "two" }, { start: at(tokenAt(2)), recovery });
    expect(await other.next("restarted")).toMatchObject({ fromOffset: 2n, loss: 1 });
    await bed.publish(1);
    await other.got(events.length + 1);
    expect(other.events.map((event) => event.replace("?", ""))).toEqual([...events, "5"]);
  },
);

test.each<[string, () => () => void]>([
  [
    "refuses",
    () => {
      bed.log.fail("down");
      return () => bed.log.heal();
    },
  ],
  [
    "does not answer",
    () => {
      let answer = (): void => {};
      bed.lookUps = new Promise((resolve) => {
        answer = resolve;
      });
      return answer;
    },
  ],
])(
  "a token that retention has passed opens while Kafka %s, and its loss is told later",
  async (_what, fail) => {
    holder.ack(4);
    await holder.leave();
    bed.log.retainFrom("shop.orders", 0, 3);
    const heal = fail();
    const other = bed.stream("B", { instance: "two" }, { start: at(tokenAt(2)) });
    await other.next("opened");
    heal();
    expect(await other.failure()).toMatchObject({ name: "POSITION_LOST", loss: 1 });
  },
);

test.each<[string, () => Start | undefined, string]>([
  ["nowhere", () => undefined, "to: "],
  [
    "a token with what the app has after it",
    () => at(tokenAt(3), [{ partition: 0, offset: 4n }]),
    "to.token.after: ",
  ],
  [
    "a token with what the app had before it",
    () => at(tokenAt(3), [{ partition: 0, offset: 1n }]),
    "to.token.after: ",
  ],
])("a seek to %s: the field is named, and nothing moved", async (_what, to, field) => {
  const { token } = await get();
  expect(await seek(to())).toMatchObject({
    name: "INVALID_REQUEST",
    message: expect.stringContaining(field),
  });
  expect(await get()).toMatchObject({ token });
});

test.each([
  ["a partition below 0", -1, 0n, "no partition -1"],
  ["the largest offset", 0, 2n ** 64n - 1n, "was not sent yet"],
])(
  "an ack of %s is refused, also beside a good one, and nothing moved",
  async (_what, partition, offset, words) => {
    const positions = [
      { partition: 0, offset: 2n },
      { partition, offset },
    ];
    holder.send({ $case: "ack", value: { positions, token: Buffer.alloc(0) } });
    expect(await holder.failure()).toMatchObject({
      name: "INVALID_REQUEST",
      message: expect.stringContaining(words),
    });
    expect((await get()).lag).toBe(5n);
  },
);

test.each([
  ["of another topic", () => tokenAt(3, "shop/other"), "INVALID_TOKEN"],
  ["of what was not sent", () => tokenAt(9), "INVALID_REQUEST"],
])(
  "a good ack beside a token %s is refused with it, and nothing moved",
  async (_what, token, name) => {
    const positions = [{ partition: 0, offset: 2n }];
    holder.send({ $case: "ack", value: { positions, token: token() } });
    expect(await holder.failure()).toMatchObject({
      name,
      message: expect.stringContaining("ack.token"),
    });
    expect((await get()).lag).toBe(5n);
  },
);

test.each([
  ["instance", { instance: "a\u0000b" }, "open.session.instance: has control characters"],
  ["attempt", { attempt: 2n ** 64n - 1n }, "open.session.attempt: "],
])("a bad %s is named, and the holder stays", async (_what, session, words) => {
  const { generation } = await get();
  const other = bed.stream("B", session);
  expect((await other.failure()).message).toContain(words);
  expect(await get()).toMatchObject({ generation });
});
