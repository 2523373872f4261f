/**
 * The mechanisms of handoff, each broken on purpose in a server that is started for it: by replacing one of
 * the product's rules as it is loaded, never a copy of it. A short run of the checker must find the harm.
 */
import { createHash } from "node:crypto";
import { RULES } from "../../../sidecar/dispatch/rules.ts";
import type { Tail } from "../../../sidecar/dispatch/tail.ts";
import { NUMBERING } from "../../../sidecar/publishers/numbering.ts";
import { MEMBER_RULES, type MemberRules } from "../../../sidecar/sessions/membership.ts";
import { SessionMirror } from "../../../sidecar/sessions/mirror.ts";
import { SCRIPTS, type Script } from "../../../sidecar/sessions/redis-scripts.ts";
import { SESSION_RULES } from "../../../sidecar/sessions/rules.ts";

export const VARIANTS: Readonly<Record<string, () => void>> = {
  /** A client joins the main dispatcher before its catch-up has met it. */
  merge: () =>
    Object.assign(RULES, { mayMerge: (main: Tail) => main.length > 0, fellBehind: () => false }),
  /** What a client has already is sent again. */
  position: () => Object.assign(RULES, { firstWanted: () => 0 }),
  /** Any save counts, whoever holds the session. */
  generation: () => {
    Object.assign(SESSION_RULES, { compare: () => 0 });
    const compared =
      "order = tonumber(generation) - tonumber(r.generation)\n  if order == 0 then order = compare(claim, r.claim) end";
    rewrite("save", compared, "order = 0");
  },
  /** A connection that arrives late takes the session from its successor. */
  attempt: () => {
    Object.assign(SESSION_RULES, { isLate: () => false });
    rewrite("claim", "if same and tonumber(attempt) < tonumber(r.attempt) then", "if false then");
  },
  /** Who lost a partition of a shared session saves it, and delivers it, as before. */
  fence: () => {
    const isNewer: MemberRules["isNewer"] = (_, generation) => generation < 0;
    Object.assign(MEMBER_RULES, { fence: () => 0, isNewer });
    rewrite("renew", "if equal then order = compare(id, s.owner) end", "if s then order = 0 end");
  },
  /** What is held is not shown as it moves on. */
  mirror: () => Object.assign(SessionMirror.prototype, { held: () => {} }),
  /** A number that is in the topic already is written again. */
  numbering: () =>
    Object.assign(NUMBERING, {
      judge: (number: number, last: number) => (number > last + 1 ? "jump" : "next"),
    }),
};

function rewrite(step: keyof typeof SCRIPTS, rule: string, broken: string): void {
  const whole = SCRIPTS[step].text;
  if (!whole.includes(rule)) throw new Error(`the rule of ${step} reads differently now`);
  const text = whole.replace(rule, broken);
  const sha1 = createHash("sha1").update(text).digest("hex");
  Object.assign(SCRIPTS[step], { text, sha1 } satisfies Script);
}
