/** Shared sessions over real gRPC, two servers, one store (the twin): P2, P3, P5. */
import type { ServiceError } from "@grpc/grpc-js";
import { afterEach, expect, test } from "@jest/globals";
import { ErrorInfo, type GetSessionResponse } from "../../proto/gen/throughline/v1/throughline.ts";
import { ERROR_TRAILER } from "../../sidecar/failure.ts";
import type { Limits } from "../../sidecar/limits.ts";
import type { MemoryStoreOptions, Trouble } from "../../sidecar/sessions/memory-store.ts";
import { decodeToken } from "../../sidecar/token.ts";
import { SessionBed, type Stream } from "./session-bed.ts";

const EARLIEST = { at: { $case: "earliest", value: {} } } as const;
const SHARED = 2;

let bed: SessionBed;
let trouble: Trouble | undefined;

async function start(
  partitions: number,
  limits: Partial<Limits> = {},
  options: Partial<MemoryStoreOptions> = {},
): Promise<void> {
  trouble = undefined;
  bed = await new SessionBed({ gate: async () => trouble, ...options }, limits).start(partitions);
}

afterEach(() => bed.stop());

function member(server: "A" | "B", instance: string, attempt = 1n): Stream {
  return bed.stream(server, { mode: SHARED, instance, attempt }, { start: EARLIEST });
}

function offsetsIn(token: Buffer): number[] {
  const identity = { deploymentId: "test", topic: "shop/orders", topicId: bed.topic.id };
  const { positions } = decodeToken(token, identity, bed.topic.partitions);
  return positions.map(({ offset }) => offset);
}

function call<T>(ask: (done: (error: ServiceError | null, answer: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    ask((error, answer) => {
      if (!error) return resolve(answer);
      const [info] = error.metadata.get(ERROR_TRAILER);
      reject(new Error(info ? ErrorInfo.decode(info as Buffer).name : error.message));
    });
  });
}

const of = { topic: "orders", session: "worker" };
const get = (): Promise<GetSessionResponse> => call((done) => bed.stubs[0]?.getSession(of, done));

async function storeHas(...offsets: number[]): Promise<void> {
  while (!offsetsIn((await get()).token).every((offset, p) => offset === offsets[p]));
}

/** Acknowledges by position all that comes of these partitions, from now on. */
function acknowledging(stream: Stream): Stream {
  stream.onBatch = ({ events, partition }) =>
    stream.ack(Number(events.at(-1)?.offset ?? 0), partition);
  return stream;
}

test("the first member has all; a second gets its share after the first has acknowledged, unmarked (P3)", async () => {
  await start(4);
  for (let p = 0; p < 4; p++) await bed.publish(2, p);
  const a = member("A", "one");
  expect((await a.next("opened")).session?.storedToken).toEqual(Buffer.alloc(0));
  expect(await a.next("assigned")).toEqual({ partitions: [0, 1, 2, 3] });
  await a.got(8);
  const b = member("B", "two");
  expect(await b.next("assigned")).toEqual({ partitions: [] });
  const { partitions, deadlineMs } = await a.next("revoked");
  expect(partitions).toEqual([2, 3]);
  expect(Number(deadlineMs)).toBeGreaterThan(Date.now());
  for (const p of partitions) a.ack(1, p);
  const got = [...(await b.next("assigned")).partitions];
  while (got.length < 2) got.push(...(await b.next("assigned")).partitions);
  expect(got.toSorted()).toEqual([2, 3]);
  await bed.publish(1, 2);
  await bed.publish(1, 1);
  await b.got(1);
  await a.got(9);
  expect(b.events).toEqual(["8"]);
  expect(a.events[8]).toBe("9");
});
