/**
 * What becomes of a session that the store lost while nobody had it, whatever store is behind it (P2, P3; T6
 * of sidecar/sessions/session-store.ts).
 */
import { beforeEach, expect, test } from "@jest/globals";
import type { Known, SessionKey, SessionStore } from "../../sidecar/sessions/session-store.ts";
import { at, claimed, claimOf, type Driver, holder, newKey, saveOf, TOPIC } from "./cases.ts";
import { joined, joinOf, ownersOf } from "./memberships.ts";

const KNOWN: Known = {
  ...{ topicId: TOPIC, position: at("k"), seeks: 3 },
  positions: [5, 15, 25, 35].map((offset) => ({ offset, epoch: 2 })),
};
const NEWER = { topicId: "topic-2" };

export function lostCases(driver: () => Driver): void {
  let store: SessionStore;
  let other: SessionStore;
  let key: SessionKey;
  beforeEach(() => {
    ({ store, other } = driver());
    key = newKey();
  });

  test("a claim finds what its client knows where the store has nothing, in doubt; also when sent again", async () => {
    const claim = claimOf(holder("a"), { known: KNOWN });
    const first = await claimed(store, key, claim);
    expect(first).toMatchObject({ position: at("k"), unclean: true, fence: { seeks: 3 } });
    expect(await claimed(other, key, claim)).toEqual(first);
    expect(await other.read(key)).toMatchObject({ position: at("k"), fence: first.fence });
    expect(await store.save(first.held, saveOf(1, "p1"))).toEqual({ kind: "saved" });
    // T1: by the store's time.
    const fresh = await claimed(store, newKey(), claimOf(holder("a")));
    expect(Math.abs(fresh.fence.generation - first.fence.generation)).toBeLessThan(60_000);
  });

  test("a claim believes the store before its client, also where no position was saved yet", async () => {
    await claimed(store, key, claimOf(holder("a")));
    const claim = claimOf(holder("b"), { known: KNOWN });
    expect(await claimed(other, key, claim)).toMatchObject({
      ...{ position: undefined, unclean: true, fence: { seeks: 0 } },
    });
  });

  test("a claim after ForgetSession knows nothing: the session begins anew (T4)", async () => {
    await claimed(store, key, claimOf(holder("a"), { reposition: at("p") }));
    await store.forget(key);
    const claim = claimOf(holder("b"), { known: KNOWN });
    expect(await claimed(other, key, claim)).toMatchObject({
      ...{ position: undefined, unclean: false, fence: { seeks: 0 } },
    });
  });

  test("a claim that repositions, or comes for a stream that was detached, moves it on from what was known", async () => {
    for (const more of [{}, { detachedForMs: 60_000 }]) {
      const one = newKey();
      const claim = claimOf(holder("a"), { known: KNOWN, reposition: at("r"), ...more });
      expect(await claimed(store, one, claim)).toMatchObject({
        ...{ position: at("k"), fence: { seeks: 3 } },
      });
      expect(await other.read(one)).toMatchObject({ position: at("r") });
    }
  });

  test("what a claim knows of a topic before it was recreated is told so, and nothing is claimed (T5)", async () => {
    const claim = claimOf(holder("a"), { known: KNOWN, ...NEWER });
    expect(await store.claim(key, claim)).toEqual({
      ...{ kind: "other-topic", topicId: TOPIC, position: at("k") },
    });
    expect(await other.read(key)).toEqual({ kind: "none", forgotten: undefined });
    const anew = claimOf(holder("a"), { known: KNOWN, ...NEWER, reposition: at("q") });
    expect(await claimed(store, key, anew)).toMatchObject({ fence: { seeks: 4 } });
    expect(await other.read(key)).toMatchObject({ ...NEWER, position: at("q") });
  });

  test("the first member makes what it knows, in doubt; the next one's is not asked for", async () => {
    const { start: _, ...byName } = joinOf("a", { known: KNOWN });
    const made = await joined(store, key, byName);
    expect(made).toMatchObject({ topicId: TOPIC, seeks: 3 });
    expect(ownersOf(made)).toEqual(["a", "a", "a", "a"]);
    expect(made.shares.every(({ unclean }) => unclean)).toBe(true);
    expect(made.shares.map(({ position }) => position)).toEqual(KNOWN.positions);
    expect(new Set(made.shares.map(({ generation }) => generation)).size).toBe(4);
    const later = { ...KNOWN, seeks: 9, positions: KNOWN.positions.slice(2) };
    const second = await joined(other, key, joinOf("b", { known: later }));
    expect(second.seeks).toBe(3);
    expect(second.shares.map(({ position }) => position)).toEqual(KNOWN.positions);
  });

  test("a member after ForgetSession knows nothing: it is asked for a start", async () => {
    await joined(store, key, joinOf("a"));
    await store.forget(key);
    const { start, ...byName } = joinOf("b", { known: KNOWN });
    expect(await other.join(key, byName)).toEqual({ kind: "unset" });
    const made = await joined(other, key, { ...byName, start: start ?? [] });
    expect(made).toMatchObject({ seeks: 0 });
    expect(made.shares.map(({ position }) => position)).toEqual(start);
    expect(made.shares.some(({ unclean }) => unclean)).toBe(false);
  });

  test("what a member knows of a topic before it was recreated is told so, and nothing is made (T5)", async () => {
    const { start, ...byName } = joinOf("a", { known: KNOWN, ...NEWER });
    const told = await store.join(key, byName);
    if (told.kind !== "other-topic") throw new Error(JSON.stringify(told));
    expect(told.membership.shares.map(({ position }) => position)).toEqual(KNOWN.positions);
    expect(await other.read(key)).toEqual({ kind: "none", forgotten: undefined });
    const anew = await joined(store, key, { ...byName, start: start ?? [], anew: true });
    expect(anew).toMatchObject({ ...NEWER, seeks: 4 });
    expect(anew.shares.map(({ position }) => position)).toEqual(start);
    expect(anew.shares.some(({ unclean }) => unclean)).toBe(false);
  });
}
