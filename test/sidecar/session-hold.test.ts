/** P5: what a hold does between its claim and the stream's beginning, when the server looks at the store. */
import { expect, test } from "@jest/globals";
import { MemoryStore } from "../../sidecar/sessions/memory-store.ts";
import { SessionHold, type SessionStream } from "../../sidecar/sessions/session-hold.ts";
import { claimed, claimOf, holder, newKey } from "../sessions/cases.ts";

async function claimedHold(isHeld: boolean) {
  const store = new MemoryStore({ now: () => 1000 });
  const key = newKey();
  const { held } = await claimed(store, key, claimOf(holder("a")));
  const { topicId } = held;
  const clock = { now: () => 1000, setTimer: () => () => {} };
  const claimDetached = () => Promise.resolve({ kind: "unavailable", reason: "down" } as const);
  const metrics = { sessionSaved: () => {}, sessionSuperseded: () => {} };
  const hold = new SessionHold(
    { store, clock, key, topicId, holder: holder("a"), strict: false, claimDetached, metrics },
    isHeld ? held.fence : undefined,
    Buffer.from("stored"),
  );
  return { store, key, held, hold };
}

test.each([true, false])(
  "before its stream begins a hold is left alone (held: %p)",
  async (isHeld) => {
    const { hold } = await claimedHold(isHeld);
    expect(() => hold.retry()).not.toThrow();
    expect(() => hold.changed()).not.toThrow();
  },
);

test("one that was superseded before its stream began is told so at the next look", async () => {
  const { store, key, held, hold } = await claimedHold(true);
  await claimed(store, key, claimOf(holder("b")));
  hold.seen(held.fence, await store.read(key));
  const told: string[] = [];
  const stream: SessionStream = {
    position: () => Buffer.from("stored"),
    outstanding: () => false,
    superseded: (by) => told.push(`superseded by ${by?.instance}`),
    sought: () => {},
    unverified: () => {},
    failed: () => {},
  };
  await hold.begin(stream);
  hold.seen(held.fence, await store.read(key));
  expect(told).toEqual(["superseded by b"]);
});
