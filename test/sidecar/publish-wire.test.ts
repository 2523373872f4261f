import { expect, test } from "@jest/globals";
import {
  type NewEvent,
  PublishRequest,
  PublishResponse,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { ERRORS } from "../../sidecar/errors.ts";
import { decodePublish, encodeResults, type WireResult } from "../../sidecar/publish-wire.ts";
import { Random } from "../sim/random.ts";

const NOW = 1_700_000_000_000;

function event(over: Partial<NewEvent> = {}): NewEvent {
  return { key: undefined, payload: undefined, headers: [], type: "", timeMs: undefined, ...over };
}

function decode(events: NewEvent[], topic = "shop/orders", maxEvents = 1000) {
  return decodePublish(
    Buffer.from(PublishRequest.encode({ topic, events }).finish()),
    NOW,
    maxEvents,
  );
}

function only(over: Partial<NewEvent>) {
  const decoded = decode([event(over)]);
  if (decoded.kind !== "request") throw new Error(decoded.message);
  const [first] = decoded.events;
  if (!first) throw new Error("no event");
  return first;
}

test("absent and empty are told apart; type becomes ce_type; time defaults to the server's clock", () => {
  expect(only({})).toEqual({
    kind: "record",
    record: { key: null, value: null, headers: [], timeMs: NOW },
    bytes: 0,
  });
  const empty = Buffer.alloc(0);
  expect(only({ key: empty, payload: empty, type: "order.placed", timeMs: 7n })).toEqual({
    kind: "record",
    record: {
      key: empty,
      value: empty,
      headers: [["ce_type", Buffer.from("order.placed")]],
      timeMs: 7,
    },
    bytes: 19,
  });
});

test("headers keep their order and may repeat", () => {
  const headers = ["b", "ä", "b"].map((key, i) => ({ key, value: Buffer.from([i]) }));
  const decoded = only({ headers });
  if (decoded.kind !== "record") throw new Error(decoded.message);
  expect(decoded.record.headers.map(([key, value]) => [key, (value as Buffer)[0]])).toEqual([
    ["b", 0],
    ["ä", 1],
    ["b", 2],
  ]);
});

test.each([
  [{ headers: [{ key: "tl-sequence", value: Buffer.alloc(0) }] }, "headers[0].key"],
  [{ headers: [{ key: "TL-x", value: Buffer.alloc(0) }] }, "headers[0].key"],
  [
    {
      headers: [
        { key: "a", value: Buffer.alloc(0) },
        { key: "", value: Buffer.alloc(0) },
      ],
    },
    "headers[1].key",
  ],
  [{ type: "t", headers: [{ key: "ce_type", value: Buffer.alloc(0) }] }, "headers[0].key"],
  [{ timeMs: -1n }, "time_ms"],
  [{ timeMs: 1n << 60n }, "time_ms"],
  [{ timeMs: BigInt(NOW + 3_600_001) }, "time_ms"],
])("P10: an event that breaks a rule is refused alone, naming its field: %#", (bad, field) => {
  const decoded = decode([event(), event(), event(bad), event()]);
  if (decoded.kind !== "request") throw new Error(decoded.message);
  expect(decoded.events.map(({ kind }) => kind)).toEqual(["record", "record", "invalid", "record"]);
  expect(decoded.events[2]).toMatchObject({
    message: expect.stringContaining(`events[2].${field}: `),
  });
});

test("text that is not UTF-8 is refused, not mangled", () => {
  const bytes = Buffer.from(
    PublishRequest.encode({ topic: "t", events: [event({ type: "XY" }), event()] }).finish(),
  );
  bytes[bytes.indexOf("XY")] = 0xff;
  const decoded = decodePublish(bytes, NOW, 10);
  if (decoded.kind !== "request") throw new Error(decoded.message);
  expect(decoded.events.map(({ kind }) => kind)).toEqual(["invalid", "record"]);
});

test("more events than a request may have are refused before they take memory", () => {
  expect(
    decode(
      Array.from({ length: 4 }, () => event()),
      "t",
      3,
    ),
  ).toMatchObject({
    kind: "invalid",
    message: expect.stringContaining("--request-events"),
  });
});

test("random requests decode as the generated code decodes them", () => {
  const random = new Random(7);
  const bytes = (max: number): Buffer => Buffer.alloc(Math.floor(random.next() * max), "é");
  for (let round = 0; round < 100; round++) {
    const events = Array.from({ length: Math.floor(random.next() * 8) }, () =>
      event({
        key: random.next() < 0.5 ? bytes(300) : undefined,
        payload: random.next() < 0.9 ? bytes(1000) : undefined,
        headers: Array.from({ length: Math.floor(random.next() * 4) }, (_, i) => ({
          key: `h${i}${"x".repeat(Math.floor(random.next() * 200))}`,
          value: bytes(200),
        })),
        timeMs: random.next() < 0.5 ? BigInt(Math.floor(random.next() * NOW)) : undefined,
      }),
    );
    const decoded = decode(events, `t${round}`);
    if (decoded.kind !== "request") throw new Error(`round ${round}: ${decoded.message}`);
    expect(decoded.topic).toBe(`t${round}`);
    expect(decoded.events).toEqual(
      events.map((given) => ({
        kind: "record",
        record: {
          key: given.key ?? null,
          value: given.payload ?? null,
          headers: given.headers.map(({ key, value }) => [key, value]),
          timeMs: Number(given.timeMs ?? NOW),
        },
        bytes: expect.any(Number),
      })),
    );
  }
});

test("bytes that are cut or flipped never throw and never hang", () => {
  const random = new Random(11);
  const whole = Buffer.from(
    PublishRequest.encode({
      topic: "shop/orders",
      events: [
        event({ key: Buffer.from("k"), payload: Buffer.alloc(200), timeMs: 5n, type: "t" }),
        event({ headers: [{ key: "a", value: Buffer.from("b") }] }),
      ],
    }).finish(),
  );
  for (let length = 0; length < whole.length; length++) {
    decodePublish(whole.subarray(0, length), NOW, 100);
  }
  for (let round = 0; round < 20_000; round++) {
    const bytes = Buffer.from(whole);
    for (let flips = 0; flips < 3; flips++) {
      bytes[Math.floor(random.next() * bytes.length)] = Math.floor(random.next() * 256);
    }
    const decoded = decodePublish(bytes, NOW, 100);
    // What we accept, the generated code accepts too.
    if (decoded.kind === "request") expect(() => PublishRequest.decode(bytes)).not.toThrow();
  }
});

test("a field that reaches past its event makes the request malformed", () => {
  // events (field 2), 2 bytes: payload (field 2) of 9 bytes.
  const bytes = Buffer.concat([Buffer.from([18, 2, 18, 9]), Buffer.alloc(9)]);
  expect(decodePublish(bytes, NOW, 10)).toMatchObject({ kind: "invalid" });
});

test("unknown fields of a newer client are skipped", () => {
  // Field 15 as varint, 64 bit, bytes, 32 bit.
  const bytes = Buffer.from([
    120, 200, 1, 121, 0, 0, 0, 0, 0, 0, 0, 0, 122, 2, 1, 2, 125, 0, 0, 0, 0, 10, 1, 116,
  ]);
  expect(decodePublish(bytes, NOW, 10)).toEqual({ kind: "request", topic: "t", events: [] });
});

test("results are the bytes that the generated code makes", () => {
  const error = {
    name: "INVALID_REQUEST",
    message: "x".repeat(500),
    retryable: false,
    advice: ERRORS.INVALID_REQUEST.advice,
    token: Buffer.alloc(0),
    loss: 0 as const,
    earliest: [],
  };
  const results: WireResult[] = [
    { kind: "position", partition: 0, offset: 0 },
    { kind: "position", partition: 2 ** 31 - 1, offset: Number.MAX_SAFE_INTEGER },
    { kind: "error", error },
    { kind: "position", partition: 127, offset: 128 },
    { kind: "position", partition: 128, offset: 2 ** 35 },
  ];
  const expected = PublishResponse.encode({
    results: results.map((result) =>
      result.kind === "error"
        ? { result: { $case: "error", value: error } }
        : {
            result: {
              $case: "position",
              value: { partition: result.partition, offset: BigInt(result.offset) },
            },
          },
    ),
  }).finish();
  expect(encodeResults(results).toString("hex")).toBe(Buffer.from(expected).toString("hex"));
});
