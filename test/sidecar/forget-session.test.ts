/** ForgetSession over real gRPC, two servers, one store (the twin). */
import type { ServiceError } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { ErrorInfo } from "../../proto/gen/throughline/v1/throughline.ts";
import { ERROR_TRAILER } from "../../sidecar/failure.ts";
import { SessionBed } from "./session-bed.ts";

const EARLIEST = { at: { $case: "earliest", value: {} } } as const;
const NAMES = { topic: "orders", session: "worker" };

let bed: SessionBed;

beforeEach(async () => {
  bed = await new SessionBed().start();
});

afterEach(() => bed.stop());

/** @returns the name of its failure. */
function forget(): Promise<string | undefined> {
  return new Promise((resolve) => {
    bed.stubs[1]?.forgetSession(NAMES, (error: ServiceError | null) => {
      const [info] = error?.metadata.get(ERROR_TRAILER) ?? [];
      resolve(info && ErrorInfo.decode(info as Buffer).name);
    });
  });
}

test("it ends the holder, and the session begins anew", async () => {
  await bed.publish(3);
  const a = bed.stream("A", {}, { start: EARLIEST });
  await a.got(3);
  expect(await forget()).toBeUndefined();
  expect(await a.failure()).toMatchObject({ name: "SUPERSEDED" });
  expect(await forget()).toBe("SESSION_NOT_FOUND");
  const b = bed.stream("B", {}, { start: EARLIEST });
  await b.got(3);
  expect(b.events).toEqual(["0", "1", "2"]);
});

test("it removes what makes a session SESSION_UNREADABLE, as the error advises", async () => {
  const key = { deploymentId: "test", caller: "shop", topic: "shop/orders", session: "worker" };
  bed.store.spoil(key, "a string");
  expect(await bed.stream("A", {}).failure()).toMatchObject({ name: "SESSION_UNREADABLE" });
  expect(await forget()).toBeUndefined();
  await bed.stream("A", {}).next("opened");
});
