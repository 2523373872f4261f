/**
 * The two rules of who holds a session (P5, pure). The twin in memory takes them as a parameter, so that
 * tests can break each one on purpose and show that they find the harm; redis-scripts.ts says the same in
 * Lua.
 */
import type { Fence, Holder } from "./session-store.ts";

export interface SessionRules {
  /** T1 to T3: below 0 when `shown` is of an older claim than `stored`, 0 when of the same. */
  compare(shown: Fence, stored: Fence): number;
  /** What a connection that arrives late is judged by; who does not name its instance is nobody's successor. */
  isSameInstance(one: Holder, other: Holder): boolean;
  /** Of one instance, the later connection stays. */
  isLate(arriving: Holder, stored: Holder): boolean;
}

export const SESSION_RULES: SessionRules = {
  // By bytes, as the scripts do: neither a locale nor UTF-16 has a say in it.
  compare: (shown, stored) =>
    shown.generation - stored.generation ||
    Buffer.compare(Buffer.from(shown.claimId), Buffer.from(stored.claimId)),
  isSameInstance: (one, other) => one.instance !== "" && one.instance === other.instance,
  isLate: (arriving, stored) => arriving.attempt < stored.attempt,
};
