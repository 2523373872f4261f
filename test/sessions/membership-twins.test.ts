/** What the scripts at the store say of shared sessions is what membership.ts says, on random cases. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type EmbeddedStore, startStore } from "../../local/embedded-store.ts";
import { assign } from "../../sidecar/sessions/assignment.ts";
import { ASSIGN, COMPARE } from "../../sidecar/sessions/member-scripts.ts";
import type { Holding, Membership } from "../../sidecar/sessions/membership.ts";
import { MemoryStore } from "../../sidecar/sessions/memory-store.ts";
import type { SessionStore } from "../../sidecar/sessions/session-store.ts";
import { Random } from "../sim/random.ts";
import { newKey } from "./cases.ts";
import { holding, joined, joinOf, Speaker } from "./memberships.ts";
import { openPlain, openStore, type Plain, SLOW_MS } from "./real-store.ts";

let directory: string;
let redis: EmbeddedStore;
let plain: Plain;
let store: SessionStore;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "throughline-members-"));
  redis = await startStore({ directory });
  plain = await openPlain(redis.port);
  store = openStore(redis.port);
}, SLOW_MS);
afterAll(async () => {
  await store?.close();
  plain?.close();
  await redis?.stop();
  await rm(directory, { recursive: true, force: true });
}, SLOW_MS);

test(
  "the assignment, on 1000 random cases",
  async () => {
    const script = `${COMPARE}${ASSIGN}
      local members, current, n = {}, {}, tonumber(ARGV[1])
      for i = 2, n + 1 do members[#members + 1] = ARGV[i] end
      for i = n + 2, #ARGV do current[#current + 1] = ARGV[i] end
      return assign(members, current)`;
    const names = ["A", "a", "aa", "b", "Z", "é", "漢", "z9", "0", "😀"];
    const random = new Random(11);
    for (let round = 0; round < 1000; round++) {
      const members = names
        .filter(() => random.chance(0.4))
        .sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)));
      if (members.length === 0) continue;
      const was = [...names, ""];
      const current = Array.from(
        { length: random.int(1, 20) },
        () => was[random.int(0, was.length - 1)] as string,
      );
      const words = [String(members.length), ...members, ...current];
      const answer = (await plain.ask("EVAL", script, "0", ...words)) as Buffer[];
      expect(answer.map(String)).toEqual(assign(members, current));
    }
  },
  SLOW_MS,
);

/** All but times and generations, which are each store's own. */
function shapeOf({ members, shares, seeks, topicId }: Membership) {
  return {
    ...{ seeks, topicId },
    members: members.map(({ id, instance, attempt, sequence }) => ({
      id,
      instance,
      attempt,
      sequence,
    })),
    shares: shares.map(({ owner, target, deadlineMs, dirty, unclean, position }) => ({
      ...{ owner, target, isMoving: deadlineMs > 0, dirty, unclean, position },
    })),
  };
}

test(
  "1500 random steps of members that join, return, renew, let go and leave",
  async () => {
    const random = new Random(5);
    let key = newKey();
    let twin = new MemoryStore({ now: Date.now });
    let members: { redis: Speaker; twin: Speaker }[] = [];
    let counter = 0;
    for (let step = 0; step < 1500; step++) {
      if (step % 100 === 0) {
        key = newKey();
        twin = new MemoryStore({ now: Date.now });
        members = [];
      }
      const kind = members.length === 0 ? 0 : random.int(0, 9);
      const one = members[random.int(0, Math.max(0, members.length - 1))];
      let seen: Membership[];
      if (kind <= 1 || !one) {
        const id = `m${++counter}`;
        const returns = one && random.chance(0.3);
        const instance = returns ? `of-${one.redis.id}` : `of-${id}`;
        const by = joinOf(id, { instance, attempt: step, partitions: random.int(4, 7) });
        seen = [await joined(store, key, by), await joined(twin, key, by)];
        members.push({ redis: new Speaker(store, key, id), twin: new Speaker(twin, key, id) });
      } else {
        const leaves = kind === 2;
        const said: Pick<Holding, "isClean" | "letsGo">[] = [];
        const offsets: number[] = [];
        for (let p = 0; p < 7; p++) {
          said.push({ isClean: random.chance(0.5), letsGo: random.chance(0.3) });
          offsets.push(step + p);
        }
        const renew = async (speaker: Speaker, from: SessionStore) => {
          const state = await from.read(key);
          if (state.kind !== "shared") throw new Error(state.kind);
          const { membership } = state;
          const has = membership.shares.flatMap(({ owner }, p) =>
            // Now and then of one that it has not.
            owner === speaker.id || (p + step) % 17 === 0
              ? [{ ...holding(membership, p, offsets[p] ?? 0), ...said[p] }]
              : [],
          );
          const outcome = await speaker.renew(has, { leaves });
          const again = await from.read(key);
          if (again.kind !== "shared") throw new Error(again.kind);
          return { kind: outcome.kind, membership: again.membership };
        };
        const answers = [await renew(one.redis, store), await renew(one.twin, twin)];
        expect(answers[0]?.kind).toBe(answers[1]?.kind);
        if (leaves) members = members.filter((other) => other !== one);
        seen = answers.map(({ membership }) => membership);
      }
      const [real, memory] = seen.map(shapeOf);
      expect({ step, ...real }).toEqual({ step, ...memory });
    }
  },
  SLOW_MS,
);
