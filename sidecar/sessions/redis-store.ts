/**
 * The session store in Redis or Valkey, alone or as a cluster. One hash per session; each step is one
 * script (redis-scripts.ts), so that no other server comes between. Neighbours: redis-nodes.ts finds the
 * node, redis-link.ts keeps the connections, memory-store.ts is the twin.
 *
 * Each call ends within its time limit, and none throws. After `unavailable` the step may have been done:
 * it is safe to send again, a claim with the same claim id, a save with the same sequence.
 */

import { joinWords, knownWords, membershipOf, placeWords, renewalWords } from "./member-words.ts";
import type { Join, Membership, Renewal } from "./membership.ts";
import { withAdvice } from "./redis-advice.ts";
import type {
  Answer,
  Command,
  RedisAccess,
  RedisAddress,
  RedisWorld,
  Reply,
} from "./redis-link.ts";
import { ClusterNodes, oneNode, type RedisNodes } from "./redis-nodes.ts";
import { SCRIPTS, type Script } from "./redis-scripts.ts";
import type {
  Claim,
  ClaimOutcome,
  Fence,
  Held,
  Holder,
  JoinOutcome,
  RenewOutcome,
  Save,
  SaveOutcome,
  SeekTo,
  SessionKey,
  SessionState,
  SessionStore,
  Unusable,
} from "./session-store.ts";
import { findings } from "./store-settings.ts";

export interface RedisStoreOptions extends RedisAccess {
  /** One; of a cluster as many as are known. */
  readonly addresses: readonly RedisAddress[];
  readonly cluster: boolean;
  readonly clock: RedisWorld["clock"];
  readonly random: () => number;
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 1000;

type Step = readonly [key: SessionKey, script: Script, ...args: (string | Buffer)[]];
/** What a script answers: a word, then its values; a missing one is null. */
type Words = readonly [string, ...(Buffer | null)[]];

/** Connects in the background: a store that is down now does not keep a server from its start. */
export function openRedisStore(options: RedisStoreOptions): SessionStore {
  const { addresses, cluster, clock, random, timeoutMs = TIMEOUT_MS } = options;
  const world = { clock, random, timeoutMs };
  const nodes = cluster
    ? new ClusterNodes(addresses, options, world)
    : oneNode(addresses[0] as RedisAddress, options, world);
  return new RedisStore(nodes, world);
}

class RedisStore implements SessionStore {
  readonly #nodes: RedisNodes;
  readonly #world: RedisWorld;

  constructor(nodes: RedisNodes, world: RedisWorld) {
    this.#nodes = nodes;
    this.#world = world;
  }

  async claim(key: SessionKey, claim: Claim): Promise<ClaimOutcome> {
    const { claimId, topicId, holder, reposition, detachedForMs, known } = claim;
    const answer = await this.#run([
      ...([key, SCRIPTS.claim, claimId, topicId, ...holderWords(holder)] as const),
      ...[reposition ? "1" : "0", reposition ?? ""],
      detachedForMs === undefined ? "" : String(Math.ceil(detachedForMs)),
      ...[known?.topicId ?? "", String(known?.seeks ?? 0), known?.position ?? ""],
    ]);
    if ("kind" in answer) return answer;
    const [word, one, two, three, position, unclean] = answer;
    switch (word) {
      case "claimed":
        return {
          kind: "claimed",
          fence: fenceOf(one, two, three),
          position: position ?? undefined,
          unclean: String(unclean) === "1",
        };
      case "late":
        return { kind: "late", attempt: Number(one) };
      case "other-topic":
        return { kind: "other-topic", topicId: String(one), position: two ?? undefined };
      case "other-mode":
        return { kind: "other-mode" };
      default:
        return { kind: "superseded", by: holderOf(one, two, three) };
    }
  }

  async save({ key, topicId, holder, fence }: Held, save: Save): Promise<SaveOutcome> {
    const { sequence, position, release } = save;
    const answer = await this.#run([
      ...([key, SCRIPTS.save, ...fenceWords(fence), topicId, ...holderWords(holder)] as const),
      ...[String(sequence), position, release ? "0" : "1"],
    ]);
    if ("kind" in answer) return answer;
    const [word, one, two, three, position_] = answer;
    switch (word) {
      case "saved":
        return { kind: "saved" };
      case "sought":
        return {
          kind: "sought",
          fence: fenceOf(one, two, three),
          position: position_ ?? Buffer.alloc(0),
        };
      default:
        return {
          kind: "superseded",
          by: one === undefined ? undefined : holderOf(one, two, three),
        };
    }
  }

  async join(key: SessionKey, join: Join): Promise<JoinOutcome> {
    const answer = await this.#run([key, SCRIPTS.join, ...joinWords(join)]);
    if ("kind" in answer) return answer;
    const [word, ...values] = answer;
    switch (word) {
      case "joined":
        return { kind: "joined", ...membershipOf(values) };
      case "late":
        return { kind: "late", attempt: Number(values[0]) };
      case "other-topic":
        return { kind: "other-topic", membership: membershipOf(values).membership };
      case "other-mode":
        return { kind: "other-mode" };
      default:
        return { kind: "unset" };
    }
  }

  async renew(key: SessionKey, renewal: Renewal): Promise<RenewOutcome> {
    const answer = await this.#run([key, SCRIPTS.renew, ...renewalWords(renewal)]);
    if ("kind" in answer) return answer;
    const [word, ...values] = answer;
    const [instance, attempt, server] = values;
    switch (word) {
      case "renewed":
        return { kind: "renewed", ...membershipOf(values) };
      case "no-member":
        if (instance === undefined) return { kind: "no-member", by: undefined };
        return { kind: "no-member", by: holderOf(plain(instance), attempt, plain(server)) };
      default:
        return { kind: word === "none" ? "none" : "forgotten" };
    }
  }

  async restore(
    key: SessionKey,
    known: Membership,
    lapseMs: number,
  ): Promise<{ readonly kind: "restored" } | Unusable> {
    const answer = await this.#run([key, SCRIPTS.restore, ...knownWords(known, lapseMs)]);
    return "kind" in answer ? answer : { kind: "restored" };
  }

  async read(key: SessionKey): Promise<SessionState> {
    return stateOf(await this.#run([key, SCRIPTS.read]));
  }

  async readMany(keys: readonly SessionKey[]): Promise<readonly SessionState[]> {
    const answers = await this.#runAll(keys.map((key) => [key, SCRIPTS.read]));
    return answers.map(stateOf);
  }

  async seek(
    key: SessionKey,
    { topicId, position, positions }: SeekTo,
  ): Promise<{ readonly kind: "sought" } | { readonly kind: "none" } | Unusable> {
    const answer = await this.#run([
      key,
      SCRIPTS.seek,
      topicId,
      position,
      ...placeWords(positions),
    ]);
    if ("kind" in answer) return answer;
    return { kind: answer[0] === "sought" ? "sought" : "none" };
  }

  async forget(
    key: SessionKey,
  ): Promise<{ readonly kind: "forgotten" } | { readonly kind: "none" } | Unusable> {
    const answer = await this.#run([key, SCRIPTS.forget]);
    if ("kind" in answer) return answer;
    return { kind: answer[0] === "forgotten" ? "forgotten" : "none" };
  }

  inspect(): Promise<readonly string[]> {
    return findings((command) => this.#nodes.askAll(command, this.#until()));
  }

  async close(): Promise<void> {
    this.#nodes.close();
  }

  async #run(step: Step): Promise<Words | Unusable> {
    const [answer] = await this.#runAll([step]);
    return answer as Words | Unusable;
  }

  async #runAll(steps: readonly Step[]): Promise<readonly (Words | Unusable)[]> {
    const untilMs = this.#until();
    const answers = [...(await this.#send("EVALSHA", steps, untilMs))];
    // A store that was restarted, or another node, does not know the scripts yet.
    const unknown = [...answers.keys()].filter((i) => isUnknownScript(answers[i] as Answer));
    if (unknown.length > 0) {
      const again = unknown.map((i) => steps[i] as Step);
      const got = await this.#send("EVAL", again, untilMs);
      for (const [at, i] of unknown.entries()) answers[i] = got[at] as Answer;
    }
    const outcomes = answers.map(wordsOf);
    // Not at once: who asks again and again would let nothing else run.
    if (outcomes.some((outcome) => "kind" in outcome))
      await new Promise<void>((resolve) => this.#world.clock.setTimer(0, resolve));
    return outcomes;
  }

  #send(how: "EVALSHA" | "EVAL", steps: readonly Step[], untilMs: number) {
    const commands = steps.map(([sessionKey, { sha1, text }, ...args]) => {
      const key = keyOf(sessionKey);
      const command: Command = [how, how === "EVAL" ? text : sha1, "1", key, ...args];
      return { key, command };
    });
    return this.#nodes.ask(commands, untilMs);
  }

  #until(): number {
    return this.#world.clock.now() + this.#world.timeoutMs;
  }
}

/** Each part percent-encoded, so that no two sessions share a key and no part ends the hash tag. */
function keyOf({ deploymentId, caller, topic, session }: SessionKey): string {
  const parts = [deploymentId, caller, topic, session];
  return `throughline:{${parts.map((part) => encodeURIComponent(part.toWellFormed())).join("/")}}`;
}

function holderWords({ instance, attempt, server }: Holder): [string, string, string] {
  return [instance, String(attempt), server];
}

function fenceWords({ generation, claimId, seeks }: Fence): [string, string, string] {
  return [String(generation), claimId, String(seeks)];
}

type Word = Buffer | null | undefined;

function plain(word: Word): Buffer {
  return Buffer.from(decodeURIComponent(String(word ?? "")));
}

function fenceOf(generation: Word, claimId: Word, seeks: Word): Fence {
  return { generation: Number(generation), claimId: String(claimId), seeks: Number(seeks) };
}

function holderOf(instance: Word, attempt: Word, server: Word): Holder {
  return { instance: String(instance), attempt: Number(attempt), server: String(server) };
}

function stateOf(answer: Words | Unusable): SessionState {
  if ("kind" in answer) return answer;
  if (answer[0] === "shared") return { kind: "shared", ...membershipOf(answer.slice(1) as Word[]) };
  const [word, generation, claimId, seeks, topicId, position, ...rest] = answer;
  if (word === "none") {
    const forgotten = generation === undefined ? undefined : fenceOf(generation, claimId, seeks);
    return { kind: "none", forgotten };
  }
  const [instance, attempt, server, held, changed] = rest;
  return {
    kind: "session",
    topicId: String(topicId),
    position: position ?? undefined,
    fence: fenceOf(generation, claimId, seeks),
    holder: holderOf(instance, attempt, server),
    held: String(held) === "1",
    changedMs: Number(changed),
  };
}

function isUnknownScript(answer: Answer): boolean {
  return answer.kind === "error" && answer.message.startsWith("NOSCRIPT");
}

function wordsOf(answer: Answer): Words | Unusable {
  if (answer.kind === "unavailable")
    return { kind: "unavailable", reason: `the session store cannot be used: ${answer.reason}` };
  if (answer.kind === "error")
    return {
      kind: "unavailable",
      reason: `the session store refused: ${withAdvice(answer.message)}`,
    };
  const [word, ...values] = answer.reply as readonly [Reply, ...(Buffer | null)[]];
  if (String(word) !== "unreadable") return [String(word), ...values];
  return {
    kind: "unreadable",
    reason:
      `under the session's key the store has ${values[0]}, which this release cannot read; it is left as ` +
      "it is. Another program uses this store, or a newer release wrote it: give Throughline a store " +
      "of its own, or update this server",
  };
}
