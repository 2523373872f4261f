/** What every session store keeps (P5; T1 to T4 of sidecar/sessions/session-store.ts), whatever is behind it. */
import { beforeEach, expect, test } from "@jest/globals";
import type {
  Claim,
  ClaimOutcome,
  Held,
  Holder,
  Save,
  SessionKey,
  SessionStore,
} from "../../sidecar/sessions/session-store.ts";

export interface Driver {
  readonly store: SessionStore;
  /** Another server's way to the same sessions. */
  readonly other: SessionStore;
  /** Loses everything. */
  empty(): Promise<void>;
  /** Puts other data under the key: of another kind, or of a format to come. */
  spoil(key: SessionKey, as: "text" | "newer"): Promise<void>;
  /** What is under the key, to see that it stays as it is; undefined where nothing can be seen. */
  raw(key: SessionKey): Promise<unknown>;
  /** Whether it is gone in a day, by the store's own time. */
  isGoneInADay(key: SessionKey): Promise<boolean>;
}

export const TOPIC = "topic-1";
export const at = (text: string): Buffer => Buffer.from(text);

let counter = 0;
export function newKey(): SessionKey {
  counter++;
  return { deploymentId: "d", caller: "shop", topic: "shop/orders", session: `s-${counter}` };
}

export function holder(instance: string, attempt = 1, server = "server-1"): Holder {
  return { instance, attempt, server };
}

export function claimOf(by: Holder, more: Partial<Claim> = {}): Claim {
  counter++;
  return { claimId: `claim-${counter}`, topicId: TOPIC, holder: by, ...more };
}

export function saveOf(sequence: number, position: string, release = false): Save {
  return { sequence, position: at(position), release };
}

export async function claimed(
  store: SessionStore,
  key: SessionKey,
  claim: Claim,
): Promise<Extract<ClaimOutcome, { kind: "claimed" }> & { readonly held: Held }> {
  const outcome = await store.claim(key, claim);
  if (outcome.kind !== "claimed") throw new Error(`not claimed: ${JSON.stringify(outcome)}`);
  const { holder, topicId } = claim;
  return { ...outcome, held: { key, topicId, holder, fence: outcome.fence } };
}

/** Enough to see that the way to the store is right, not only its scripts. */
export function essentialCases(driver: () => Driver): void {
  let store: SessionStore;
  let other: SessionStore;
  let key: SessionKey;
  beforeEach(() => {
    ({ store, other } = driver());
    key = newKey();
  });

  test("a new session has no position, and its first save is what the next claim begins from", async () => {
    const before = await store.read(key);
    expect(before).toEqual({ kind: "none", forgotten: undefined });
    const first = await claimed(store, key, claimOf(holder("a")));
    expect(first).toMatchObject({ position: undefined, unclean: false, fence: { seeks: 0 } });
    expect(await store.save(first.held, saveOf(1, "p1"))).toEqual({ kind: "saved" });
    const state = await other.read(key);
    const changedMs = state.kind === "session" ? state.changedMs : 0;
    // T1: by the store's time, so that it is above what a store that lost its data once gave.
    expect(Math.abs(first.fence.generation - changedMs)).toBeLessThan(60_000);
    const second = await claimed(other, key, claimOf(holder("b")));
    expect(second.position).toEqual(at("p1"));
  });

  test("a claim over a holder raises the generation, and the save of the one before is told by whom", async () => {
    const first = await claimed(store, key, claimOf(holder("a")));
    const winner = holder("b", 7, "server-2");
    const second = await claimed(other, key, claimOf(winner));
    expect(second.fence.generation).toBeGreaterThan(first.fence.generation);
    expect(second.unclean).toBe(true);
    expect(await store.save(first.held, saveOf(1, "old"))).toEqual({
      kind: "superseded",
      by: winner,
    });
    expect(await store.read(key)).toMatchObject({ kind: "session", position: undefined });
  });

  test("200 claims at once: each has a generation of its own, and the highest is stored", async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 200 }, (_none, i) =>
        claimed(i % 2 ? store : other, key, claimOf(holder(`racer-${i}`))),
      ),
    );
    const generations = outcomes.map(({ fence }) => fence.generation);
    expect(new Set(generations).size).toBe(200);
    const highest = outcomes.find(({ fence }) => fence.generation === Math.max(...generations));
    expect(await store.read(key)).toMatchObject({ fence: highest?.fence });
    const saves = outcomes.map(({ held }) => store.save(held, saveOf(1, held.holder.instance)));
    const kinds = (await Promise.all(saves)).map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === "saved")).toHaveLength(1);
    expect(await other.read(key)).toMatchObject({
      position: at(highest?.held.holder.instance ?? ""),
    });
  });

  test("many are read together, in the order asked", async () => {
    const keys = Array.from({ length: 60 }, newKey);
    await Promise.all(
      keys
        .filter((_key, i) => i % 3 !== 0)
        .map((one) =>
          claimed(store, one, claimOf(holder("m"), { reposition: at(`at ${one.session}`) })),
        ),
    );
    await driver().spoil(keys[59] as SessionKey, "text");
    const states = await other.readMany(keys);
    expect(
      states.map((state) => ("position" in state ? String(state.position) : state.kind)),
    ).toEqual(
      keys.map((one, i) => (i === 59 ? "unreadable" : i % 3 === 0 ? "none" : `at ${one.session}`)),
    );
    expect(await store.readMany([])).toEqual([]);
  });

  test("parts of a key may hold any character, and no two sessions meet under one key", async () => {
    const parts = ["a/b", "a%2Fb", "{a}", "}{", "", "ü 漢\n\0", "*?[x]", 'a"b\\'];
    const keys = parts.flatMap((one) => [
      { ...key, session: one },
      { ...key, topic: one },
      { ...key, caller: one },
    ]);
    for (const [i, one] of keys.entries())
      await claimed(store, one, claimOf(holder("k"), { reposition: at(`p${i}`) }));
    const states = await other.readMany(keys);
    expect(
      states.map((state) => ("position" in state ? String(state.position) : state.kind)),
    ).toEqual(keys.map((_key, i) => `p${i}`));
  });

  test.each(["text", "newer"] as const)(
    "forgetting removes other data under the key (%s), as its user asked; then a session may be made there",
    async (as) => {
      await driver().spoil(key, as);
      expect(await store.forget(key)).toEqual({ kind: "forgotten" });
      const state = await other.read(key);
      if (state.kind !== "none" || !state.forgotten) throw new Error(JSON.stringify(state));
      const { held, ...first } = await claimed(other, key, claimOf(holder("a")));
      expect(first).toMatchObject({ position: undefined, unclean: false, fence: { seeks: 0 } });
      expect(held.fence.generation).toBeGreaterThan(state.forgotten.generation);
      expect(await store.save(held, saveOf(1, "p1"))).toEqual({ kind: "saved" });
    },
  );

  test.each(["text", "newer"] as const)(
    "other data under the key (%s) is unreadable to every other step, and stays as it is",
    async (as) => {
      await driver().spoil(key, as);
      const before = await driver().raw(key);
      const held: Held = {
        key,
        topicId: TOPIC,
        holder: holder("a"),
        fence: { generation: Number.MAX_SAFE_INTEGER - 1, claimId: "z", seeks: 0 },
      };
      for (const outcome of [
        await store.claim(key, claimOf(holder("a"), { reposition: at("x") })),
        await store.save(held, saveOf(1, "x")),
        await store.read(key),
        (await store.readMany([key]))[0],
        await store.seek(key, { topicId: TOPIC, position: at("x"), positions: [] }),
      ])
        expect(outcome).toMatchObject({ kind: "unreadable", reason: expect.any(String) });
      expect(await driver().raw(key)).toEqual(before);
    },
  );

  test("after the store lost everything, the holder's save makes the session again (T3)", async () => {
    const { held } = await claimed(store, key, claimOf(holder("a", 3, "server-9")));
    await store.save(held, saveOf(1, "p1"));
    await driver().empty();
    expect(await store.save(held, saveOf(2, "p2"))).toEqual({ kind: "saved" });
    expect(await other.read(key)).toEqual({
      kind: "session",
      topicId: TOPIC,
      position: at("p2"),
      fence: held.fence,
      holder: held.holder,
      held: true,
      changedMs: expect.any(Number),
    });
  });
}
