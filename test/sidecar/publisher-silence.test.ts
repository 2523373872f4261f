/** A named publisher and a server that falls silent, in virtual time. */
import { EventEmitter } from "node:events";
import { afterEach, beforeEach, expect, jest, test } from "@jest/globals";
import { type Dialled, NamedPublisher } from "../../client/named-publisher.ts";
import type {
  PublishStreamRequest,
  PublishStreamResponse,
} from "../../proto/gen/throughline/v1/throughline.ts";

const SILENCE_MS = 5000;

type Down = NonNullable<PublishStreamResponse["kind"]>;

class FakeCall extends EventEmitter {
  readonly up: PublishStreamRequest[] = [];
  isCancelled = false;

  write(request: PublishStreamRequest): boolean {
    this.up.push(request);
    return true;
  }

  cancel(): void {
    this.isCancelled = true;
  }

  say(kind: Down): void {
    this.emit("data", { kind });
  }
}

const OPENED: Down = { $case: "opened", value: { lastNumber: 0n, lastInstance: "" } };
const HEARTBEAT: Down = { $case: "heartbeat", value: {} };

let calls: FakeCall[];
let breaks: string[];
let publisher: NamedPublisher;

beforeEach(() => {
  jest.useFakeTimers();
  calls = [];
  breaks = [];
  const dial = (): Dialled => ({
    address: `server ${calls.length}`,
    publishStream: () => {
      const call = new FakeCall();
      calls.push(call);
      return call as EventEmitter as ReturnType<Dialled["publishStream"]>;
    },
  });
  publisher = new NamedPublisher(dial, {
    ...{ topic: "orders", name: "p" },
    onBreak: ({ error }, address) => breaks.push(`${error} ${address}`),
  });
});

afterEach(() => {
  publisher.close();
  jest.useRealTimers();
});

test("it asks for heartbeats, well within what it bears", () => {
  expect(calls[0]?.up[0]?.kind).toMatchObject({ value: { heartbeatMs: 1000 } });
});

test.each([
  ["that never opens", (): void => {}],
  ["that is open and idle", (): void => calls[0]?.say(OPENED)],
  [
    "that owes an answer",
    (): void => {
      calls[0]?.say(OPENED);
      const event = {
        key: undefined,
        payload: undefined,
        headers: [],
        type: "",
        timeMs: undefined,
      };
      publisher.publish([event]).catch(() => {});
    },
  ],
])("a server %s is given up after 5 s of silence, for the next one", async (_what, before) => {
  before();
  await jest.advanceTimersByTimeAsync(SILENCE_MS - 1);
  expect(breaks).toEqual([]);
  await jest.advanceTimersByTimeAsync(2);
  expect(breaks).toEqual(["UNREACHABLE server 0"]);
  expect([calls.length, calls[0]?.isCancelled]).toEqual([2, true]);
});

test("heartbeats keep a server that has nothing else to say, before and after opened", async () => {
  for (let i = 0; i < 10; i++) {
    await jest.advanceTimersByTimeAsync(SILENCE_MS - 1);
    calls[0]?.say(i === 5 ? OPENED : HEARTBEAT);
  }
  expect([breaks, calls.length]).toEqual([[], 1]);
});
