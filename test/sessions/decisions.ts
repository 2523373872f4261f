/** What the steps of a session decide: who holds it, and where it stands (P5), whatever store is behind it. */
import { beforeEach, expect, test } from "@jest/globals";
import type {
  ClaimOutcome,
  Held,
  SessionKey,
  SessionStore,
} from "../../sidecar/sessions/session-store.ts";
import { at, claimed, claimOf, type Driver, holder, newKey, saveOf, TOPIC } from "./cases.ts";

const DAY_MS = 86_400_000;

export function decisionCases(driver: () => Driver): void {
  let store: SessionStore;
  let other: SessionStore;
  let key: SessionKey;
  beforeEach(() => {
    ({ store, other } = driver());
    key = newKey();
  });
  test("a claim that is sent again gets the same fence, and is its own holder", async () => {
    await claimed(store, key, claimOf(holder("before")));
    const claim = claimOf(holder("a"));
    const first = await claimed(store, key, claim);
    const again = await claimed(other, key, claim);
    expect(again).toEqual(first);
    expect(await store.save(again.held, saveOf(1, "p1"))).toEqual({ kind: "saved" });
  });

  test("a claim that moved the session and is sent again is answered with where it stood before (T7)", async () => {
    const { held } = await claimed(store, key, claimOf(holder("a")));
    await store.save(held, saveOf(1, "p5"));
    const to = { reposition: at("p2") };
    const first = claimOf(holder("b"), to);
    const unheard = await claimed(store, key, first);
    expect(await claimed(other, key, first)).toEqual(unheard);
    // As its client does, which heard of no claim.
    for (const attempt of [2, 3]) {
      const again = await claimed(other, key, claimOf(holder("b", attempt), to));
      expect(again.position).toEqual(at("p5"));
    }
    expect(await store.read(key)).toMatchObject({ position: at("p2") });
    const foreign = await claimed(other, key, claimOf(holder("c"), to));
    expect(foreign.position).toEqual(at("p2"));
  });

  test("of a new session that is: nowhere (T7)", async () => {
    const to = { reposition: at("p2") };
    await claimed(store, key, claimOf(holder("b"), to));
    const again = await claimed(other, key, claimOf(holder("b", 2), to));
    expect(again.position).toBeUndefined();
  });

  test.each<[string, (held: Held) => Promise<unknown>]>([
    ["something was saved", (held) => store.save(held, saveOf(0, "p2"))],
    ["it was sought", () => store.seek(key, { topicId: TOPIC, position: at("p2"), positions: [] })],
    ["a claim went on by name", () => claimed(store, key, claimOf(holder("b")))],
  ])(
    "once %s a claim to the same place is answered with what is stored (T7)",
    async (_what, heard) => {
      const before = await claimed(store, key, claimOf(holder("a")));
      await store.save(before.held, saveOf(1, "p5"));
      const to = { reposition: at("p2") };
      const { held } = await claimed(store, key, claimOf(holder("b"), to));
      await heard(held);
      const again = await claimed(other, key, claimOf(holder("b"), to));
      expect(again.position).toEqual(at("p2"));
    },
  );

  test("a lower attempt of the same instance is late and changes nothing; a foreign one wins", async () => {
    const newer = await claimed(store, key, claimOf(holder("a", 5)));
    expect(await other.claim(key, claimOf(holder("a", 4), { reposition: at("x") }))).toEqual({
      kind: "late",
      attempt: 5,
    });
    expect(
      await other.claim(key, claimOf(holder("a", 4), { detachedForMs: DAY_MS })),
    ).toMatchObject({
      kind: "late",
    });
    expect(await store.save(newer.held, saveOf(1, "p1"))).toEqual({ kind: "saved" });
    const foreign = await claimed(other, key, claimOf(holder("b", 1)));
    expect(foreign.position).toEqual(at("p1"));
  });

  test("of equal and of higher attempts of one instance the newest wins", async () => {
    const one = await claimed(store, key, claimOf(holder("a", 5)));
    const two = await claimed(store, key, claimOf(holder("a", 5)));
    const three = await claimed(store, key, claimOf(holder("a", 6)));
    const four = await claimed(store, key, claimOf(holder("a", 10)));
    expect(await store.save(four.held, saveOf(1, "p1"))).toEqual({ kind: "saved" });
    for (const { held } of [one, two, three])
      expect((await store.save(held, saveOf(2, "x"))).kind).toBe("superseded");
  });

  test("who does not name an instance is never late", async () => {
    await claimed(store, key, claimOf(holder("", 5)));
    expect((await store.claim(key, claimOf(holder("", 1)))).kind).toBe("claimed");
  });

  test("another topic id is told with the position and changes nothing, until a claim repositions", async () => {
    const { held } = await claimed(store, key, claimOf(holder("a")));
    await store.save(held, saveOf(1, "p1"));
    expect(await other.claim(key, claimOf(holder("b"), { topicId: "topic-2" }))).toEqual({
      kind: "other-topic",
      topicId: TOPIC,
      position: at("p1"),
    });
    expect(await store.save(held, saveOf(2, "p2"))).toEqual({ kind: "saved" });
    const moved = claimOf(holder("b"), { topicId: "topic-2", reposition: at("q0") });
    // T5.
    expect(await claimed(other, key, moved)).toMatchObject({
      position: at("p2"),
      fence: { seeks: 1 },
    });
    expect(await store.read(key)).toMatchObject({
      ...{ topicId: "topic-2", position: at("q0"), fence: { seeks: 1 } },
    });
  });

  test.each(["p0", "p9"])("a claim repositions to %s, backward as forward", async (to) => {
    const { held } = await claimed(store, key, claimOf(holder("a")));
    await store.save(held, saveOf(1, "p5"));
    const moved = await claimed(store, key, claimOf(holder("a", 2), { reposition: at(to) }));
    expect(moved.position).toEqual(at("p5"));
    expect(await other.read(key)).toMatchObject({ position: at(to) });
  });

  test("a save that comes late, or twice, moves nothing back (T2)", async () => {
    const { held } = await claimed(store, key, claimOf(holder("a")));
    await store.save(held, saveOf(0, "p0"));
    await store.save(held, saveOf(2, "p2"));
    for (const late of [saveOf(1, "p1"), saveOf(2, "x"), saveOf(0, "p0", true)]) {
      expect(await store.save(held, late)).toEqual({ kind: "saved" });
      expect(await store.read(key)).toMatchObject({ position: at("p2"), held: true });
    }
    // By number: as text 10 comes before 2.
    await store.save(held, saveOf(10, "p10"));
    expect(await store.read(key)).toMatchObject({ position: at("p10") });
  });

  test("sequences of a claim before do not count for the next", async () => {
    const first = await claimed(store, key, claimOf(holder("a")));
    await store.save(first.held, saveOf(100, "p1"));
    const second = await claimed(store, key, claimOf(holder("a", 2)));
    await store.save(second.held, saveOf(0, "p2"));
    expect(await store.read(key)).toMatchObject({ position: at("p2") });
  });

  test("who holds a session that was sought is told once, and goes on with the new fence", async () => {
    const { held, fence } = await claimed(store, key, claimOf(holder("a")));
    await store.save(held, saveOf(1, "p1"));
    expect(await other.seek(key, { topicId: TOPIC, position: at("s"), positions: [] })).toEqual({
      kind: "sought",
    });
    const told = await store.save(held, saveOf(2, "p2"));
    const sought = { ...fence, seeks: 1 };
    expect(told).toEqual({ kind: "sought", fence: sought, position: at("s") });
    expect(await store.read(key)).toMatchObject({ position: at("s"), fence: sought, held: true });
    expect(await store.save({ ...held, fence: sought }, saveOf(3, "s3"))).toEqual({
      kind: "saved",
    });
    expect(await store.save(held, saveOf(4, "x"))).toMatchObject({ kind: "sought" });
    expect(await store.read(key)).toMatchObject({ position: at("s3") });
    expect((await claimed(other, key, claimOf(holder("b")))).fence.seeks).toBe(1);
  });

  test("a session that is not there cannot be sought or forgotten", async () => {
    const none = { kind: "none" };
    expect(await store.seek(key, { topicId: TOPIC, position: at("s"), positions: [] })).toEqual(
      none,
    );
    expect(await store.forget(key)).toEqual(none);
    expect(await store.read(key)).toEqual({ kind: "none", forgotten: undefined });
  });

  test("a seek that a failover lost is not undone by its holder (T3)", async () => {
    const { held } = await claimed(store, key, claimOf(holder("a")));
    await store.save(held, saveOf(5, "p5"));
    const after = { ...held, fence: { ...held.fence, seeks: 2 } };
    expect(await store.save(after, saveOf(5, "s"))).toEqual({ kind: "saved" });
    expect(await store.read(key)).toMatchObject({ position: at("s"), fence: after.fence });
  });

  test("forgetting ends the holder; only what tells it is left, and expires in a day (T4)", async () => {
    const { held } = await claimed(store, key, claimOf(holder("a")));
    await store.save(held, saveOf(1, "p1"));
    expect(await other.forget(key)).toEqual({ kind: "forgotten" });
    expect(await store.save(held, saveOf(2, "p2"))).toEqual({ kind: "superseded", by: undefined });
    const state = await store.read(key);
    if (state.kind !== "none" || !state.forgotten) throw new Error(JSON.stringify(state));
    expect(state.forgotten.generation).toBeGreaterThan(held.fence.generation);
    expect(await store.seek(key, { topicId: TOPIC, position: at("s"), positions: [] })).toEqual({
      kind: "none",
    });
    expect(await store.forget(key)).toEqual({ kind: "none" });
    expect(await driver().isGoneInADay(key)).toBe(true);
  });

  test("a session that is claimed after it was forgotten begins anew, above, and does not expire (T1, T4)", async () => {
    const { held } = await claimed(store, key, claimOf(holder("a"), { reposition: at("p") }));
    await store.seek(key, { topicId: TOPIC, position: at("s"), positions: [] });
    await store.forget(key);
    const again = await claimed(store, key, claimOf(holder("b")));
    expect(again).toMatchObject({ position: undefined, unclean: false, fence: { seeks: 0 } });
    expect(again.fence.generation).toBeGreaterThan(held.fence.generation + 1);
    expect((await store.save(held, saveOf(9, "x"))).kind).toBe("superseded");
    expect(await driver().isGoneInADay(key)).toBe(false);
  });

  test("of two that made the same session again, the higher generation stays (T3)", async () => {
    const low = await claimed(store, key, claimOf(holder("low")));
    const high = await claimed(other, key, claimOf(holder("high")));
    await driver().empty();
    expect(await store.save(low.held, saveOf(50, "low"))).toEqual({ kind: "saved" });
    expect(await other.save(high.held, saveOf(1, "high"))).toEqual({ kind: "saved" });
    expect(await store.save(low.held, saveOf(51, "x"))).toEqual({
      kind: "superseded",
      by: high.held.holder,
    });
    expect(await store.read(key)).toMatchObject({ position: at("high"), fence: high.fence });
  });

  test("equal generations are told apart by their claims, by bytes", async () => {
    const { held } = await claimed(store, key, claimOf(holder("a")));
    const under = (claimId: string): Held => ({ ...held, fence: { ...held.fence, claimId } });
    await driver().empty();
    // By UTF-16 the last two would change places, by a locale the first two.
    const ascending = ["B", "a", "b", "b1", "é", "漢", "\uff5e", "😀"];
    for (const [i, id] of ascending.entries()) {
      expect(await store.save(under(id), saveOf(1, id))).toEqual({ kind: "saved" });
      expect(await store.read(key)).toMatchObject({ position: at(id), fence: { claimId: id } });
      for (const lower of ascending.slice(0, i))
        expect((await store.save(under(lower), saveOf(2, "x"))).kind).toBe("superseded");
    }
  });

  test("generations keep every digit up to the largest", async () => {
    const { held } = await claimed(store, key, claimOf(holder("a")));
    const generation = Number.MAX_SAFE_INTEGER - 5;
    await store.save({ ...held, fence: { ...held.fence, generation } }, saveOf(1, "p"));
    const next = await claimed(store, key, claimOf(holder("b")));
    expect(next.fence.generation).toBe(generation + 1);
    expect(await other.read(key)).toMatchObject({ fence: { generation: generation + 1 } });
  });

  test("a stream that opened while the store was down claims only where no other instance came since", async () => {
    const stale = await claimed(store, key, claimOf(holder("b", 1, "server-2")));
    const since = await other.claim(key, claimOf(holder("a"), { detachedForMs: 60_000 }));
    expect(since).toEqual({ kind: "superseded", by: stale.held.holder });
    expect((await other.claim(key, claimOf(holder(""), { detachedForMs: 60_000 }))).kind).toBe(
      "superseded",
    );
    expect(await store.save(stale.held, saveOf(1, "p1"))).toEqual({ kind: "saved" });
    // Its own instance came since: that is itself.
    const own = claimOf(holder("b", 2), { detachedForMs: 60_000 });
    expect((await store.claim(key, own)).kind).toBe("claimed");
    // The other came before: once the store's clock has moved on.
    const before = (): Promise<ClaimOutcome> =>
      other.claim(key, claimOf(holder("c"), { detachedForMs: 0, reposition: at("c") }));
    let outcome = await before();
    while (outcome.kind === "superseded") outcome = await before();
    expect(outcome).toMatchObject({ kind: "claimed", position: at("p1") });
    const fresh = claimOf(holder("d"), { detachedForMs: DAY_MS });
    expect((await store.claim(newKey(), fresh)).kind).toBe("claimed");
  });

  test("a released session is clean for the next; one that was not released is not", async () => {
    const first = await claimed(store, key, claimOf(holder("a")));
    await store.save(first.held, saveOf(1, "p1", true));
    expect(await store.read(key)).toMatchObject({ held: false, position: at("p1") });
    const second = await claimed(other, key, claimOf(holder("b")));
    expect(second).toMatchObject({ unclean: false, position: at("p1") });
    expect(await store.read(key)).toMatchObject({ held: true });
    const third = await claimed(store, key, claimOf(holder("c")));
    expect(third.unclean).toBe(true);
  });

  test("positions are bytes", async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_none, i) => i));
    const { held } = await claimed(
      store,
      key,
      claimOf(holder("a"), { reposition: Buffer.alloc(0) }),
    );
    expect(await store.read(key)).toMatchObject({ position: Buffer.alloc(0) });
    await store.save(held, { sequence: 1, position: bytes, release: false });
    expect(await store.read(key)).toMatchObject({ position: bytes });
  });
}
