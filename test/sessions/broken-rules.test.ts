/** Each rule of who holds a session (P5), broken on purpose, does the harm that it is there against. */
import { expect, test } from "@jest/globals";
import { MemoryStore } from "../../sidecar/sessions/memory-store.ts";
import { SESSION_RULES, type SessionRules } from "../../sidecar/sessions/rules.ts";
import { claimed, claimOf, holder, newKey, saveOf } from "./cases.ts";

interface Harm {
  readonly harm: string;
  readonly broken: Partial<SessionRules>;
  /** True when it happened. */
  happens(store: MemoryStore): Promise<boolean>;
}

const HARMS: readonly Harm[] = [
  {
    harm: "who lost a session moves its position",
    broken: { compare: () => 0 },
    happens: async (store) => {
      const key = newKey();
      const { held } = await claimed(store, key, claimOf(holder("a")));
      await claimed(store, key, claimOf(holder("b")));
      return (await store.save(held, saveOf(1, "x"))).kind === "saved";
    },
  },
  {
    harm: "two holders of one generation overwrite each other for ever",
    broken: { compare: (shown, stored) => shown.generation - stored.generation },
    happens: async (store) => {
      const { held } = await claimed(store, newKey(), claimOf(holder("a")));
      const twin = { ...held, fence: { ...held.fence, claimId: "~" } };
      store.empty();
      await store.save(twin, saveOf(1, "x"));
      return (await store.save(held, saveOf(2, "y"))).kind === "saved";
    },
  },
  {
    harm: "a connection that arrives late ends its successor",
    broken: { isSameInstance: () => false },
    happens: lateWins,
  },
  {
    harm: "a connection that arrives late ends its successor, though known as such",
    broken: { isLate: () => false },
    happens: lateWins,
  },
  {
    harm: "a client without an instance is refused for a stranger's sake",
    broken: { isSameInstance: (one, other) => one.instance === other.instance },
    happens: async (store) => {
      const key = newKey();
      await claimed(store, key, claimOf(holder("", 5)));
      return (await store.claim(key, claimOf(holder("", 1)))).kind === "late";
    },
  },
];

async function lateWins(store: MemoryStore): Promise<boolean> {
  const key = newKey();
  await claimed(store, key, claimOf(holder("a", 2)));
  return (await store.claim(key, claimOf(holder("a", 1)))).kind === "claimed";
}

test.each(HARMS)("$harm: only when the rule is broken", async ({ broken, happens }) => {
  let nowMs = 1;
  const store = (rules: SessionRules): MemoryStore =>
    new MemoryStore({ now: () => ++nowMs, rules });
  expect(await happens(store(SESSION_RULES))).toBe(false);
  expect(await happens(store({ ...SESSION_RULES, ...broken }))).toBe(true);
});

test("an answer may be lost before its step or after it, as its user says", async () => {
  let isDone = false;
  let down = false;
  const gate = async () => (down ? { reason: "down", isDone } : undefined);
  const store = new MemoryStore({ now: () => 5, gate });
  const key = newKey();
  const { held } = await claimed(store, key, claimOf(holder("a")));
  for (isDone of [false, true]) {
    down = true;
    const lost = { kind: "unavailable", reason: "down" };
    expect(await store.save(held, saveOf(1, "p1"))).toEqual(lost);
    expect(await store.readMany([key, key])).toEqual([lost, lost]);
    down = false;
    const position = isDone ? Buffer.from("p1") : undefined;
    expect(await store.read(key)).toMatchObject({ kind: "session", position });
  }
});
