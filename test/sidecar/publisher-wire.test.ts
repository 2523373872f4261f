/** The messages of named publishers by hand, held equal to the generated code. */
import { expect, test } from "@jest/globals";
import {
  type NewEvent,
  PublishStreamRequest,
  PublishStreamResponse,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { Failure, toErrorInfo } from "../../sidecar/failure.ts";
import {
  decodeStreamRequest,
  encodeAnswers,
  type NumberedAnswer,
} from "../../sidecar/publishers/wire.ts";
import { Random } from "../sim/random.ts";

const NOW = 1_700_000_000_000;

function event(payload: string): NewEvent {
  return {
    ...{ key: undefined, headers: [], type: "", timeMs: undefined },
    payload: Buffer.from(payload),
  };
}

function bytesOf(kind: PublishStreamRequest["kind"]): Buffer {
  return Buffer.from(PublishStreamRequest.encode({ kind }).finish());
}

test.each([1, 127, 128, 2 ** 31, 2 ** 32 + 5, 2 ** 50 + 1])("first_number %p", (number) => {
  const events = [event("a"), event("b")];
  const decoded = decodeStreamRequest(
    bytesOf({ $case: "events", value: { firstNumber: BigInt(number), events } }),
    NOW,
    10,
  );
  expect(decoded).toMatchObject({ kind: "events", firstNumber: number });
  if (decoded.kind !== "events") throw new Error(decoded.kind);
  expect(decoded.events.map((one) => one.kind === "record" && String(one.record.value))).toEqual([
    "a",
    "b",
  ]);
});

test.each([
  ["nothing", Buffer.alloc(0), "open or events"],
  ["an unknown field alone", Buffer.from([0x28, 1]), "open or events"],
  ["bytes", Buffer.from("hello there"), "do not parse"],
  ["a length past the end", Buffer.from([18, 200, 1, 8, 1]), "do not parse"],
  ["an open that does not parse", Buffer.from([10, 2, 10, 9]), "do not parse"],
  [
    "number 2^64 - 1",
    bytesOf({ $case: "events", value: { firstNumber: 2n ** 64n - 1n, events: [event("a")] } }),
    "first_number",
  ],
])("P10: %s is refused with a reason", (_what, bytes, words) => {
  expect(decodeStreamRequest(bytes, NOW, 10)).toMatchObject({
    ...{ kind: "invalid", message: expect.stringContaining(words) },
  });
});

test("any cut or damage of a message gives a request or a reason, never an exception", () => {
  const random = new Random(7);
  const whole = bytesOf({
    ...{ $case: "events", value: { firstNumber: 300n, events: [event("abc"), event("d")] } },
  });
  for (let i = 0; i < 5000; i++) {
    const bytes = Buffer.from(whole.subarray(0, random.int(0, whole.length)));
    if (bytes.length > 0) bytes[random.int(0, bytes.length - 1)] = random.int(0, 255);
    expect(["open", "events", "invalid"]).toContain(decodeStreamRequest(bytes, NOW, 10).kind);
  }
});

test("answers travel in runs, and the generated code reads them as they were meant", () => {
  const error = toErrorInfo(new Failure("NUMBER_JUMPED", "number 9: the next number is 5."));
  const answers: NumberedAnswer[] = [
    { number: 1, kind: "already-there" },
    { number: 2, kind: "already-there" },
    { number: 3, kind: "position", partition: 0, offset: 0 },
    { number: 4, kind: "position", partition: 300, offset: 2 ** 40 },
    { number: 9, kind: "error", error },
    { number: 10, kind: "error", error },
    { number: 5, kind: "position", partition: 1, offset: 7 },
  ];
  const kinds = encodeAnswers(answers).map((bytes) => PublishStreamResponse.decode(bytes).kind);
  const position = (partition: number, offset: bigint) => ({
    result: { $case: "position", value: { partition, offset } },
  });
  const refusal = { result: { $case: "error", value: error } };
  expect(kinds).toEqual([
    { $case: "alreadyThere", value: { firstNumber: 1n, count: 2n } },
    {
      $case: "results",
      value: { firstNumber: 3n, results: [position(0, 0n), position(300, 2n ** 40n)] },
    },
    { $case: "results", value: { firstNumber: 9n, results: [refusal, refusal] } },
    { $case: "results", value: { firstNumber: 5n, results: [position(1, 7n)] } },
  ]);
});
