/** What the steps of a shared session keep (P5; M1 to M4 of membership.ts), whatever store is behind it. */
import { beforeEach, expect, test } from "@jest/globals";
import type { Position } from "../../kafka/log.ts";
import type { Holding, Join, Membership, Renewal } from "../../sidecar/sessions/membership.ts";
import type { SessionKey, SessionStore } from "../../sidecar/sessions/session-store.ts";
import { at, claimed, claimOf, type Driver, holder, newKey, saveOf, TOPIC } from "./cases.ts";

const START: Position[] = [0, 1, 2, 3].map((p) => ({ offset: 10 * p, epoch: 1 }));
const HOUR_MS = 3_600_000;
const TIMES = { lapseMs: HOUR_MS, revokeMs: HOUR_MS };

export function joinOf(id: string, more: Partial<Join> = {}): Join {
  const by = { id, topicId: TOPIC, instance: `of-${id}`, attempt: 1, server: `server of ${id}` };
  return { ...by, ...TIMES, partitions: START.length, start: START, ...more };
}

export async function joined(store: SessionStore, key: SessionKey, join: Join) {
  const outcome = await store.join(key, join);
  if (outcome.kind !== "joined") throw new Error(JSON.stringify(outcome));
  return outcome.membership;
}

/** One member, as a server would speak for it. */
export class Speaker {
  sequence = 0;
  seeks = 0;
  readonly id: string;
  readonly #store: SessionStore;
  readonly #key: SessionKey;

  constructor(store: SessionStore, key: SessionKey, id: string) {
    this.#store = store;
    this.#key = key;
    this.id = id;
  }

  renew(holdings: readonly Holding[], more: Partial<Renewal> = {}) {
    const { id, seeks } = this;
    const said = { id, topicId: TOPIC, instance: `of-${id}`, seeks, sequence: ++this.sequence };
    const rest = { partitions: START.length, leaves: false, holdings, ...TIMES };
    return this.#store.renew(this.#key, { ...said, ...rest, ...more });
  }

  async renewed(holdings: readonly Holding[], more: Partial<Renewal> = {}): Promise<Membership> {
    const outcome = await this.renew(holdings, more);
    if (outcome.kind !== "renewed") throw new Error(JSON.stringify(outcome));
    return outcome.membership;
  }
}

export function holding(
  membership: Membership,
  partition: number,
  offset: number,
  more: Partial<Holding> = {},
): Holding {
  const generation = membership.shares[partition]?.generation ?? 0;
  const position = { offset, epoch: 2 };
  return { partition, generation, position, isClean: false, letsGo: false, ...more };
}

export const ownersOf = ({ shares }: Membership): string[] => shares.map(({ owner }) => owner);
const targetsOf = ({ shares }: Membership): string[] => shares.map(({ target }) => target);
const offsetsOf = ({ shares }: Membership): number[] =>
  shares.map(({ position }) => position.offset);

export function membershipCases(driver: () => Driver): void {
  let store: SessionStore;
  let other: SessionStore;
  let key: SessionKey;
  const now = async (): Promise<Membership> => {
    const state = await other.read(key);
    if (state.kind !== "shared") throw new Error(JSON.stringify(state));
    return state.membership;
  };
  beforeEach(() => {
    ({ store, other } = driver());
    key = newKey();
  });

  test("a new session waits for a start, then the first member has all of it", async () => {
    expect(await store.join(key, { ...joinOf("a"), start: undefined as never })).toEqual({
      kind: "unset",
    });
    expect((await store.read(key)).kind).toBe("none");
    const made = await joined(store, key, joinOf("a", { instance: "ü 漢 %", server: "" }));
    expect(ownersOf(made)).toEqual(["a", "a", "a", "a"]);
    expect(made.members).toMatchObject([{ id: "a", instance: "ü 漢 %", attempt: 1, server: "" }]);
    expect(made.shares.map(({ position }) => position)).toEqual(START);
    expect(made.shares.every(({ unclean, dirty }) => !unclean && dirty)).toBe(true);
    expect(new Set(made.shares.map(({ generation }) => generation)).size).toBe(4);
    expect(await now()).toEqual(made);
  });

  test("a join that is sent again is the same member; of one instance a lower attempt is late", async () => {
    const first = await joined(store, key, joinOf("a", { attempt: 5 }));
    expect(ownersOf(await joined(other, key, joinOf("a", { attempt: 5 })))).toEqual(
      ownersOf(first),
    );
    expect((await now()).shares).toEqual(first.shares);
    const late = joinOf("b", { instance: "of-a", attempt: 4 });
    expect(await store.join(key, late)).toEqual({ kind: "late", attempt: 5 });
    expect(await store.join(key, { ...late, instance: "" })).toMatchObject({ kind: "joined" });
  });

  test("a partition that moves is its owner's until that lets go, and then at once the next one's (M1)", async () => {
    const a = new Speaker(store, key, "a");
    const first = await joined(store, key, joinOf("a"));
    const second = await joined(other, key, joinOf("b"));
    expect(ownersOf(second)).toEqual(["a", "a", "a", "a"]);
    expect(targetsOf(second)).toEqual(["a", "a", "b", "b"]);
    expect(second.shares.map(({ deadlineMs }) => deadlineMs > 0)).toEqual([
      false,
      false,
      true,
      true,
    ]);
    await a.renewed([holding(first, 2, 25)]);
    expect(offsetsOf(await now())).toEqual([0, 10, 25, 30]);
    const third = await a.renewed([
      holding(first, 2, 27, { letsGo: true, isClean: true }),
      holding(first, 3, 33, { letsGo: true }),
    ]);
    expect(ownersOf(third)).toEqual(["a", "a", "b", "b"]);
    expect(offsetsOf(third)).toEqual([0, 10, 27, 33]);
    expect(third.shares.map(({ unclean }) => unclean)).toEqual([false, false, false, true]);
    // The one before moves it no more.
    const after = await a.renewed([holding(first, 2, 99)]);
    expect(offsetsOf(after)).toEqual([0, 10, 27, 33]);
    expect(ownersOf(after)).toEqual(["a", "a", "b", "b"]);
  });

  test("a partition whose deadline is over is taken, in doubt, by whoever comes next", async () => {
    const first = await joined(store, key, joinOf("a", { revokeMs: 0 }));
    await joined(other, key, joinOf("b", { revokeMs: 0 }));
    const a = new Speaker(store, key, "a");
    const b = new Speaker(other, key, "b");
    let seen = await b.renewed([], { revokeMs: 0 });
    while (ownersOf(seen)[2] !== "b") seen = await b.renewed([], { revokeMs: 0 });
    expect(seen.shares[2]).toMatchObject({ unclean: true, position: { offset: 20 } });
    expect(seen.shares[2]?.generation).toBeGreaterThan(first.shares[3]?.generation ?? 0);
    await a.renewed([holding(first, 2, 99, { letsGo: true })]);
    expect((await now()).shares[2]).toEqual(seen.shares[2]);
  });

  test("who is silent for too long is no member any more; what it had is in doubt (M2)", async () => {
    await joined(store, key, joinOf("a", { lapseMs: 0 }));
    const b = new Speaker(other, key, "b");
    let seen = await joined(other, key, joinOf("b"));
    while (ownersOf(seen)[0] !== "b") seen = await b.renewed([]);
    expect(seen.members.map(({ id }) => id)).toEqual(["b"]);
    expect(seen.shares.every(({ owner, unclean }) => owner === "b" && unclean)).toBe(true);
    expect(await new Speaker(store, key, "a").renew([])).toEqual({
      kind: "no-member",
      by: undefined,
    });
  });

  test("who leaves gives all away at once, clean where it says so", async () => {
    const first = await joined(store, key, joinOf("a"));
    await joined(other, key, joinOf("b"));
    await joined(other, key, joinOf("c"));
    const left = await new Speaker(store, key, "a").renewed(
      [0, 1, 2, 3].map((p) => holding(first, p, 50 + p, { isClean: p !== 1 })),
      { leaves: true },
    );
    expect(left.members.map(({ id }) => id)).toEqual(["b", "c"]);
    expect(ownersOf(left).toSorted()).toEqual(["b", "b", "c", "c"]);
    expect(left.shares.map(({ unclean }) => unclean)).toEqual([false, true, false, false]);
    expect(offsetsOf(left)).toEqual([50, 51, 52, 53]);
  });

  test("who returns under its instance has all it had at once, and its old stream moves nothing", async () => {
    const first = await joined(store, key, joinOf("a"));
    const old = new Speaker(store, key, "a");
    await old.renewed([holding(first, 0, 5, { isClean: true }), holding(first, 1, 15)]);
    const back = await joined(other, key, joinOf("a2", { instance: "of-a", attempt: 2 }));
    expect(ownersOf(back)).toEqual(["a2", "a2", "a2", "a2"]);
    expect(back.shares.map(({ unclean }) => unclean)).toEqual([false, true, true, true]);
    expect(offsetsOf(back)).toEqual([5, 15, 20, 30]);
    const by = { instance: "of-a", attempt: 2, server: "server of a2" };
    expect(await old.renew([holding(first, 0, 9)])).toMatchObject({ kind: "no-member", by });
    expect(offsetsOf(await now())).toEqual([5, 15, 20, 30]);
  });

  test("a renewal that comes late, or twice, does nothing (M3)", async () => {
    const first = await joined(store, key, joinOf("a"));
    const a = new Speaker(store, key, "a");
    await a.renewed([holding(first, 0, 5)]);
    for (const sequence of [1, 0])
      await a.renewed([holding(first, 0, 3, { letsGo: true })], { sequence, leaves: true });
    expect((await now()).shares[0]).toMatchObject({ owner: "a", position: { offset: 5 } });
  });

  test("more members than partitions leave some idle; the topic grows, and they have the new ones", async () => {
    for (const id of ["a", "b", "c", "d", "e"])
      await joined(store, key, joinOf(id, { lapseMs: HOUR_MS }));
    expect(new Set(targetsOf(await now())).size).toBe(4);
    const e = new Speaker(other, key, "e");
    const grown = await e.renewed([], { partitions: 6 });
    expect(grown.shares[5]).toMatchObject({ position: { offset: 0, epoch: -1 }, unclean: false });
    expect(new Set(targetsOf(grown)).size).toBe(5);
    expect(grown.shares.slice(4).some(({ owner }) => owner === "e")).toBe(true);
    // A server that does not know yet takes none away.
    expect((await e.renewed([])).shares).toHaveLength(6);
  });

  test("after the store lost everything, members bring it back as they have it (M4, T3)", async () => {
    const first = await joined(store, key, joinOf("a"));
    const a = new Speaker(store, key, "a");
    const second = await joined(other, key, joinOf("b"));
    const b = new Speaker(other, key, "b");
    const third = await a.renewed([2, 3].map((p) => holding(first, p, 40 + p, { letsGo: true })));
    await driver().empty();
    expect(await a.renew([])).toEqual({ kind: "none" });
    // As it was before the hand-over: the other knows better.
    expect(await store.restore(key, second, HOUR_MS)).toEqual({ kind: "restored" });
    expect(ownersOf(await now())).toEqual(["a", "a", "a", "a"]);
    expect(await other.restore(key, third, HOUR_MS)).toEqual({ kind: "restored" });
    expect(ownersOf(await now())).toEqual(["a", "a", "a", "a"]);
    const mended = await b.renewed([holding(third, 2, 47), holding(third, 3, 48)]);
    expect(ownersOf(mended)).toEqual(["a", "a", "b", "b"]);
    expect(offsetsOf(mended)).toEqual([0, 10, 47, 48]);
    const after = await a.renewed([holding(first, 0, 5), holding(first, 2, 99)]);
    expect(offsetsOf(after)).toEqual([5, 10, 47, 48]);
  });

  test("a seek moves every partition; saves from before it move nothing", async () => {
    const first = await joined(store, key, joinOf("a"));
    const a = new Speaker(store, key, "a");
    await a.renewed([holding(first, 0, 5)]);
    const positions = START.map(() => ({ offset: 1, epoch: -1 }));
    expect(await other.seek(key, { topicId: TOPIC, position: at("t"), positions })).toEqual({
      kind: "sought",
    });
    const told = await a.renewed([holding(first, 0, 6)]);
    expect(told).toMatchObject({ seeks: 1 });
    expect(offsetsOf(told)).toEqual([1, 1, 1, 1]);
    a.seeks = 1;
    expect(offsetsOf(await a.renewed([holding(first, 0, 2)]))).toEqual([2, 1, 1, 1]);
  });

  test("forgetting ends all members; the session begins anew above what was given", async () => {
    const first = await joined(store, key, joinOf("a"));
    expect(await other.forget(key)).toEqual({ kind: "forgotten" });
    expect(await new Speaker(store, key, "a").renew([])).toEqual({ kind: "forgotten" });
    expect(await driver().isGoneInADay(key)).toBe(true);
    const again = await joined(store, key, joinOf("b"));
    expect(again.shares[0]?.generation).toBeGreaterThan(first.generation);
    expect(await driver().isGoneInADay(key)).toBe(false);
  });

  test("another topic id is told and changes nothing, until a join begins anew", async () => {
    const first = await joined(store, key, joinOf("a"));
    const b = joinOf("b", { topicId: "topic-2" });
    expect(await other.join(key, b)).toEqual({ kind: "other-topic", membership: first });
    expect(await now()).toEqual(first);
    const anew = await joined(other, key, {
      ...b,
      anew: true,
      start: START.slice(0, 2),
      partitions: 2,
    });
    expect(ownersOf(anew)).toEqual(["b", "b"]);
    // T5.
    expect([anew.topicId, anew.seeks]).toEqual(["topic-2", first.seeks + 1]);
    expect((await new Speaker(store, key, "a").renew([holding(first, 0, 5)])).kind).toBe(
      "no-member",
    );
    expect(await now()).toEqual(anew);
  });

  test.each(["text", "newer"] as const)(
    "other data under the key (%s) is unreadable to every step, and stays as it is",
    async (as) => {
      const known = await joined(store, newKey(), joinOf("a"));
      await driver().spoil(key, as);
      const before = await driver().raw(key);
      for (const outcome of [
        await store.join(key, joinOf("a")),
        await new Speaker(store, key, "a").renew([holding(known, 0, 5)]),
        await store.restore(key, known, HOUR_MS),
      ])
        expect(outcome).toMatchObject({ kind: "unreadable", reason: expect.any(String) });
      expect(await driver().raw(key)).toEqual(before);
    },
  );

  test("one name has one mode", async () => {
    await joined(store, key, joinOf("a"));
    expect(await other.claim(key, claimOf(holder("x")))).toEqual({ kind: "other-mode" });
    const before = await now();
    const fence = { generation: Number.MAX_SAFE_INTEGER - 1, claimId: "z", seeks: 0 };
    const held = { key, topicId: TOPIC, holder: holder("x"), fence };
    expect(await other.save(held, saveOf(1, "x"))).toMatchObject({ kind: "superseded" });
    expect(await now()).toEqual(before);
    const exclusive = newKey();
    await claimed(store, exclusive, claimOf(holder("x")));
    expect(await store.join(exclusive, joinOf("a"))).toEqual({ kind: "other-mode" });
    expect(await new Speaker(store, exclusive, "a").renew([])).toEqual({ kind: "forgotten" });
  });
}
