/** The client's publisher without a name and servers that break, drain or fall silent, in virtual time (P7). */
import { EventEmitter } from "node:events";
import { type ServiceError, status } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, jest, test } from "@jest/globals";
import { lost, ThroughlineError } from "../../client/errors.ts";
import type { Dialled } from "../../client/named-publisher.ts";
import { UnnamedPublisher } from "../../client/unnamed-publisher.ts";
import {
  ErrorInfo,
  type NewEvent,
  type PublishStreamRequest,
  type PublishStreamResponse,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { ERROR_TRAILER } from "../../sidecar/failure.ts";

const SILENCE_MS = 5000;
const TIMEOUT_MS = 12_000;

class FakeCall extends EventEmitter {
  /** Payloads of each message, after its first number. */
  readonly sent: string[] = [];
  readonly opens: PublishStreamRequest[] = [];
  isCancelled = false;

  write(request: PublishStreamRequest): boolean {
    if (request.kind?.$case === "events") {
      const { firstNumber, events } = request.kind.value;
      this.sent.push(`${firstNumber}: ${events.map(({ payload }) => payload).join(" ")}`);
    } else this.opens.push(request);
    return true;
  }

  cancel(): void {
    this.isCancelled = true;
  }

  opened(): void {
    const value = { lastNumber: 0n, lastInstance: "" };
    this.#say({ $case: "opened", value });
  }

  heartbeat(): void {
    this.#say({ $case: "heartbeat", value: {} });
  }

  answer(firstNumber: number, count: number): void {
    const position = (i: number) => ({ partition: 0, offset: BigInt(firstNumber + i) });
    const results = Array.from({ length: count }, (_, i) => ({
      result: { $case: "position" as const, value: position(i) },
    }));
    this.#say({ $case: "results", value: { firstNumber: BigInt(firstNumber), results } });
  }

  fails(name: string): void {
    const error = lost(name);
    const info = ErrorInfo.encode({
      ...{ name, message: "", retryable: true, advice: "", token: Buffer.alloc(0) },
      ...{ loss: 0, earliest: [] },
    });
    error.metadata.set(ERROR_TRAILER, Buffer.from(info.finish()));
    this.emit("error", error);
  }

  breaks(error: ServiceError = lost("read ECONNRESET")): void {
    this.emit("error", error);
  }

  #say(kind: NonNullable<PublishStreamResponse["kind"]>): void {
    this.emit("data", { kind });
  }
}

let calls: FakeCall[];
let left: string[];
let closed: number;
let publisher: UnnamedPublisher;

beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ["queueMicrotask"] });
  calls = [];
  left = [];
  closed = 0;
  publisher = new UnnamedPublisher({
    ...{ topic: "orders", timeoutMs: TIMEOUT_MS },
    dial: () => ({
      address: `server ${calls.length}`,
      publishStream: () => {
        const call = new FakeCall();
        calls.push(call);
        return call as EventEmitter as ReturnType<Dialled["publishStream"]>;
      },
    }),
    leave: (address) => left.push(address),
    onClosed: () => closed++,
  });
});

afterEach(() => {
  publisher.close();
  jest.useRealTimers();
});

function event(text: string): NewEvent {
  return {
    ...{ key: undefined, headers: [], type: "", timeMs: undefined },
    payload: Buffer.from(text),
  };
}

/** What became of each call: its offsets, or an error's name. */
function publish(...texts: string[]): { now: string } {
  const call = { now: "waits" };
  publisher.publish(texts.map(event)).then(
    (results) => {
      call.now = results
        .map(({ result }) => (result?.$case === "position" ? result.value.offset : "error"))
        .join(" ");
    },
    (error) => {
      call.now = error instanceof ThroughlineError ? error.error : String(error);
    },
  );
  return call;
}

async function settled(): Promise<void> {
  await jest.advanceTimersByTimeAsync(0);
}

async function opened(): Promise<FakeCall> {
  await settled();
  const call = calls.at(-1) as FakeCall;
  call.opened();
  await settled();
  return call;
}

test("nothing is sent before opened; then calls of one turn travel together, each answered alone", async () => {
  const first = publish("a");
  const second = publish("b", "c");
  await settled();
  expect([calls.length, calls[0]?.sent]).toEqual([1, []]);
  expect(calls[0]?.opens[0]?.kind).toMatchObject({ value: { publisher: "", heartbeatMs: 1000 } });
  const call = await opened();
  expect(call.sent).toEqual(["1: a b c"]);
  const third = publish("d");
  await settled();
  expect(call.sent).toEqual(["1: a b c", "4: d"]);
  call.answer(1, 2);
  await settled();
  expect([first.now, second.now, third.now]).toEqual(["1", "waits", "waits"]);
  call.answer(3, 2);
  await settled();
  expect([first.now, second.now, third.now]).toEqual(["1", "2 3", "4"]);
});

test("a large call travels alone, in its place", async () => {
  const large = "x".repeat(300_000);
  publish("a");
  const call = await opened();
  publish(large);
  publish("b");
  await settled();
  expect(call.sent).toEqual(["1: a"]);
  call.answer(1, 1);
  expect(call.sent).toEqual(["1: a", `2: ${large}`]);
  call.answer(2, 1);
  expect(call.sent).toEqual(["1: a", `2: ${large}`, "3: b"]);
});

test("P7: a stream that breaks before opened: nothing was sent", async () => {
  const one = publish("a");
  await settled();
  calls[0]?.breaks();
  await settled();
  expect([one.now, left, closed]).toEqual(["UNREACHABLE", ["server 0"], 1]);
});

test("P7: a stream that breaks after it: what was sent is unknown, what was not is said to be unsent", async () => {
  const one = publish("a");
  const call = await opened();
  Object.assign(call, { writableNeedDrain: true });
  const two = publish("b");
  await settled();
  call.breaks();
  await settled();
  expect([one.now, two.now, left]).toEqual(["OUTCOME_UNKNOWN", "UNREACHABLE", ["server 0"]]);
  const three = publish("c");
  expect((await opened()).sent).toEqual(["1: c"]);
  expect(three.now).toBe("waits");
});

test("a stream that drains: what has no answer is sent again on the next server, in order", async () => {
  const one = publish("a");
  const call = await opened();
  const two = publish("b");
  await settled();
  const three = publish("c");
  call.answer(1, 1);
  call.fails("DRAINING");
  expect(left).toEqual(["server 0"]);
  const next = await opened();
  const four = publish("d");
  await settled();
  expect(next.sent).toEqual(["1: b c", "3: d"]);
  next.answer(1, 3);
  await settled();
  expect([one, two, three, four].map(({ now }) => now)).toEqual(["1", "1", "2", "3"]);
});

test("servers that all drain are asked again until the call's time is over: unsent", async () => {
  const one = publish("a");
  await settled();
  calls[0]?.fails("DRAINING");
  await settled();
  expect(calls.length).toBe(1);
  await jest.advanceTimersByTimeAsync(100);
  expect([calls.length, one.now]).toEqual([2, "waits"]);
  while (one.now === "waits") {
    calls.at(-1)?.fails("DRAINING");
    await jest.advanceTimersByTimeAsync(1000);
  }
  expect(one.now).toBe("UNREACHABLE");
  expect(calls.length).toBeLessThan(20);
});

test("P10: what the server refuses by name before opened is every call's error", async () => {
  const [one, two] = [publish("a"), publish("b")];
  await settled();
  calls[0]?.fails("TOPIC_NOT_FOUND");
  await settled();
  expect([one.now, two.now, calls.length]).toEqual(["TOPIC_NOT_FOUND", "TOPIC_NOT_FOUND", 1]);
});

test("P10: after opened it is the first call's without an answer; those behind it are sent again", async () => {
  const calling = [publish("a")];
  const call = await opened();
  calling.push(publish("b"), publish("c"));
  await settled();
  call.answer(1, 1);
  call.fails("INVALID_REQUEST");
  const next = await opened();
  expect(next.sent).toEqual(["1: c"]);
  next.answer(1, 1);
  await settled();
  expect(calling.map(({ now }) => now)).toEqual(["1", "INVALID_REQUEST", "1"]);
});

test("P7: a message that gRPC refuses for its size is named", async () => {
  const one = publish("x".repeat(300_000));
  const call = await opened();
  const details = "Received message larger than max (5000000 vs 4194304)";
  call.breaks(Object.assign(lost(details), { code: status.RESOURCE_EXHAUSTED }));
  await settled();
  expect(one.now).toBe("PAYLOAD_TOO_LARGE");
});

test.each([
  ["before opened", false, "UNREACHABLE"],
  ["after it", true, "OUTCOME_UNKNOWN"],
])("a server that is silent for 5 s, %s, is left", async (_when, opens, error) => {
  const one = publish("a");
  await settled();
  if (opens) calls[0]?.opened();
  await jest.advanceTimersByTimeAsync(SILENCE_MS - 1);
  expect([one.now, left]).toEqual(["waits", []]);
  await jest.advanceTimersByTimeAsync(1);
  expect([one.now, left, calls[0]?.isCancelled]).toEqual([error, ["server 0"], true]);
});

test.each([
  ["not sent", false, "UNREACHABLE"],
  ["sent", true, "OUTCOME_UNKNOWN"],
])(
  "P7: a call that was %s ends after its time, also on a server that beats",
  async (_what, opens, error) => {
    const one = publish("a");
    await settled();
    if (opens) calls[0]?.opened();
    for (let ms = 0; ms < TIMEOUT_MS; ms += 1000) {
      expect(one.now).toBe("waits");
      calls[0]?.heartbeat();
      await jest.advanceTimersByTimeAsync(1000);
    }
    expect([one.now, left]).toEqual([error, ["server 0"]]);
  },
);

test("the answer to a call that timed out harms no other, and it is not sent again", async () => {
  publish("a");
  const call = await opened();
  publish("late");
  await settled();
  for (let ms = 0; ms < TIMEOUT_MS; ms += 1000) {
    call.heartbeat();
    await jest.advanceTimersByTimeAsync(1000);
  }
  const two = publish("b");
  await settled();
  call.answer(1, 1);
  await settled();
  expect(two.now).toBe("waits");
  call.fails("DRAINING");
  expect((await opened()).sent).toEqual(["1: b"]);
});

test("a stream that is not used is closed within a second, and the next call opens another", async () => {
  publish("a");
  const call = await opened();
  await jest.advanceTimersByTimeAsync(1000);
  expect(call.isCancelled).toBe(false);
  call.answer(1, 1);
  await jest.advanceTimersByTimeAsync(1000);
  expect([call.isCancelled, closed, jest.getTimerCount()]).toEqual([true, 1, 0]);
  publish("b");
  expect((await opened()).sent).toEqual(["1: b"]);
});

test("close ends it at once: what was sent is unknown", async () => {
  const one = publish("a");
  const call = await opened();
  publisher.close();
  await settled();
  expect([one.now, call.isCancelled, jest.getTimerCount()]).toEqual(["OUTCOME_UNKNOWN", true, 0]);
});
