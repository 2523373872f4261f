/** Each rule of a shared session (P5), broken on purpose, does the harm that it is there against. */
import { expect, test } from "@jest/globals";
import { MEMBER_RULES, type MemberRules } from "../../sidecar/sessions/membership.ts";
import { MemoryStore } from "../../sidecar/sessions/memory-store.ts";
import { newKey } from "./cases.ts";
import { holding, joined, joinOf, ownersOf, Speaker } from "./memberships.ts";

interface Harm {
  readonly harm: string;
  readonly broken: Partial<MemberRules>;
  /** True when it happened. */
  happens(store: MemoryStore): Promise<boolean>;
}

/** A partition goes from one member to the other; then the first shows what it had. */
async function handedOver(store: MemoryStore) {
  const key = newKey();
  const first = await joined(store, key, joinOf("z"));
  await joined(store, key, joinOf("a"));
  const z = new Speaker(store, key, "z");
  const gone = first.shares.map((_share, p) => holding(first, p, 50 + p, { letsGo: p >= 2 }));
  const before = await z.renewed(gone);
  const after = await z.renewed([holding(first, 2, 99), holding(first, 3, 99)]);
  return { before, after };
}

const HARMS: readonly Harm[] = [
  {
    harm: "who lost a partition moves its position",
    broken: { fence: () => 0 },
    happens: async (store) => (await handedOver(store)).after.shares[2]?.position.offset === 99,
  },
  {
    harm: "who lost a partition has it again by asking: two deliver it",
    broken: { fence: (_holding, id, share) => (id === share.owner ? 0 : 1) },
    happens: async (store) => {
      const { before, after } = await handedOver(store);
      return ownersOf(before).join() !== ownersOf(after).join();
    },
  },
  {
    harm: "a hand-over is not told from the one before it by the same member",
    broken: { fence: (_holding, id, share) => (id === share.owner ? 0 : -1) },
    happens: async (store) => {
      const key = newKey();
      const first = await joined(store, key, joinOf("a"));
      const a = new Speaker(store, key, "a");
      await a.renewed([holding(first, 0, 5, { letsGo: true })]);
      return (await a.renewed([holding(first, 0, 99)])).shares[0]?.position.offset === 99;
    },
  },
  {
    harm: "a member waits for ever while another has too many",
    broken: { assign: (members, current) => current.map((id) => id || (members[0] as string)) },
    happens: async (store) => {
      const key = newKey();
      await joined(store, key, joinOf("a"));
      const { shares } = await joined(store, key, joinOf("b"));
      return shares.every(({ target }) => target === "a");
    },
  },
];

test.each(HARMS)("$harm: only when the rule is broken", async ({ broken, happens }) => {
  let nowMs = 1;
  const store = (memberRules: MemberRules): MemoryStore =>
    new MemoryStore({ now: () => ++nowMs, memberRules });
  expect(await happens(store(MEMBER_RULES))).toBe(false);
  expect(await happens(store({ ...MEMBER_RULES, ...broken }))).toBe(true);
});
