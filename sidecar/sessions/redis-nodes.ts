/**
 * Which node of the session store is asked: the only one, or in a Redis Cluster the one that holds the
 * key. A cluster's map of slots is read from any node that answers, again when a node says that a key has
 * moved or does not answer; one node that is away leaves the sessions of the others alone.
 */
import {
  type Answer,
  type Command,
  nameOf,
  type RedisAccess,
  type RedisAddress,
  RedisLink,
  type RedisWorld,
  type Reply,
} from "./redis-link.ts";

export interface KeyedCommand {
  readonly key: string;
  readonly command: Command;
}

export interface RedisNodes {
  /** One round trip to each node that is concerned; answers in the order of the commands. */
  ask(commands: readonly KeyedCommand[], untilMs: number): Promise<readonly Answer[]>;
  /** The same command to every node that holds sessions. */
  askAll(
    command: Command,
    untilMs: number,
  ): Promise<readonly { readonly node: string; readonly answer: Answer }[]>;
  close(): void;
}

const SLOTS = 16_384;
const MAX_HOPS = 4;
/** A cluster that is being mended is not asked for its map at every call. */
const MAP_REST_MS = 100;

const ASKING: Command = ["ASKING"];

/** A command on its way through the cluster. */
interface Call {
  readonly slot: number;
  readonly command: Command;
  /** The node that takes it for this once. */
  asking: string | undefined;
  answer: Answer;
}

export function oneNode(address: RedisAddress, access: RedisAccess, world: RedisWorld): RedisNodes {
  const link = new RedisLink(address, access, world);
  return {
    ask: (commands, untilMs) =>
      link.ask(
        commands.map(({ command }) => command),
        untilMs,
      ),
    askAll: async (command, untilMs) => {
      const [answer] = await link.ask([command], untilMs);
      return [{ node: link.name, answer: answer as Answer }];
    },
    close: () => link.close(),
  };
}

export class ClusterNodes implements RedisNodes {
  readonly #seeds: readonly RedisAddress[];
  readonly #access: RedisAccess;
  readonly #world: RedisWorld;
  readonly #links = new Map<string, RedisLink>();
  /** Node of each slot; empty until the map was read once. */
  #slots: (string | undefined)[] = [];
  #reading: Promise<string> | undefined;
  #readMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(seeds: readonly RedisAddress[], access: RedisAccess, world: RedisWorld) {
    this.#seeds = seeds;
    this.#access = access;
    this.#world = world;
    for (const seed of seeds) this.#link(seed);
  }

  async ask(commands: readonly KeyedCommand[], untilMs: number): Promise<readonly Answer[]> {
    const missing = this.#slots.length === 0 ? await this.#readMap(untilMs) : "";
    const nowhere: Answer = {
      kind: "unavailable",
      reason: missing || "the cluster has no node for this session's slot",
    };
    const calls = commands.map(({ key, command }): Call => {
      return { slot: slotOf(key), command, asking: undefined, answer: nowhere };
    });
    let open = calls;
    for (let hop = 0; open.length > 0 && hop <= MAX_HOPS; hop++) {
      await Promise.all(Array.from(this.#byNode(open), (sent) => this.#send(...sent, untilMs)));
      // Not awaited: these calls go on where they are sent.
      if (open.some(isStale)) void this.#readMap(this.#world.clock.now() + this.#world.timeoutMs);
      open = open.filter((call) => this.#isSentOn(call));
    }
    return calls.map(({ answer }) => answer);
  }

  #byNode(calls: readonly Call[]): Map<string, Call[]> {
    const byNode = new Map<string, Call[]>();
    for (const call of calls) {
      const node = call.asking ?? this.#slots[call.slot];
      if (node === undefined) continue;
      const known = byNode.get(node);
      if (known) known.push(call);
      else byNode.set(node, [call]);
    }
    return byNode;
  }

  async #send(node: string, calls: readonly Call[], untilMs: number): Promise<void> {
    const sent = calls.flatMap(({ command, asking }) => (asking ? [ASKING, command] : [command]));
    const got = await this.#link(addressOf(node)).ask(sent, untilMs);
    const answers = got.filter((_answer, i) => sent[i] !== ASKING);
    for (const [i, call] of calls.entries()) call.answer = answers[i] as Answer;
  }

  /** A node said who has the session instead: for good, or for this one call while it is on its way. */
  #isSentOn(call: Call): boolean {
    const [code, , address] = call.answer.kind === "error" ? call.answer.message.split(" ") : [];
    if (address === undefined || (code !== "ASK" && code !== "MOVED")) return false;
    const node = nameOf(addressOf(address));
    call.asking = code === "ASK" ? node : undefined;
    if (code === "MOVED") this.#slots[call.slot] = node;
    return true;
  }

  async askAll(
    command: Command,
    untilMs: number,
  ): Promise<readonly { readonly node: string; readonly answer: Answer }[]> {
    const missing = this.#slots.length === 0 ? await this.#readMap(untilMs) : "";
    if (missing) {
      const node = this.#seeds.map(nameOf).join(", ");
      return [{ node, answer: { kind: "unavailable", reason: missing } }];
    }
    const nodes = [...new Set(this.#slots.filter((node) => node !== undefined))];
    return Promise.all(
      nodes.map(async (node) => {
        const [answer] = await this.#link(addressOf(node)).ask([command], untilMs);
        return { node, answer: answer as Answer };
      }),
    );
  }

  close(): void {
    this.#closed = true;
    for (const link of this.#links.values()) link.close();
  }

  #link(address: RedisAddress): RedisLink {
    const name = nameOf(address);
    const known = this.#links.get(name);
    if (known) return known;
    const link = new RedisLink(address, this.#access, this.#world);
    this.#links.set(name, link);
    if (this.#closed) link.close();
    return link;
  }

  /** @returns why there is no map; empty when it was read. */
  #readMap(untilMs: number): Promise<string> {
    const isRested = this.#world.clock.now() >= this.#readMs + MAP_REST_MS;
    if (this.#reading === undefined && this.#slots.length > 0 && !isRested)
      return Promise.resolve("");
    this.#reading ??= this.#readFromAny(untilMs).finally(() => {
      this.#reading = undefined;
      this.#readMs = this.#world.clock.now();
    });
    return this.#reading;
  }

  /** The first node that knows the map. All are asked: one that is frozen must not hold up the others. */
  async #readFromAny(untilMs: number): Promise<string> {
    const reasons: string[] = [];
    const attempts = [...this.#links.values()].map(async (link) => {
      const [answer] = await link.ask([["CLUSTER", "SLOTS"]], untilMs);
      const slots = answer?.kind === "reply" ? slotsOf(answer.reply, link.address.host) : [];
      if (slots.length > 0) return slots;
      if (answer?.kind === "unavailable") reasons.push(answer.reason);
      else if (answer?.kind === "error") reasons.push(`${link.name}: ${answer.message}`);
      else reasons.push(`${link.name} is in a cluster without slots; finish its set-up`);
      throw new Error();
    });
    try {
      this.#slots = await Promise.any(attempts);
    } catch {
      return reasons.join("; ");
    }
    const used = new Set([...this.#slots, ...this.#seeds.map(nameOf)]);
    for (const [name, link] of this.#links) {
      if (used.has(name)) continue;
      link.close();
      this.#links.delete(name);
    }
    return "";
  }
}

function isStale({ answer }: Call): boolean {
  return (
    answer.kind === "unavailable" || (answer.kind === "error" && /^MOVED /.test(answer.message))
  );
}

/** @param asked stands for a node that does not know its own name. */
function slotsOf(reply: Reply, asked: string): (string | undefined)[] {
  const ranges = reply as readonly [number, number, readonly [Buffer | null, number]][];
  const slots: (string | undefined)[] = [];
  for (const [from, to, [host, port]] of ranges) {
    const node = nameOf({ host: host?.toString() || asked, port });
    for (let slot = from; slot <= to; slot++) slots[slot] = node;
  }
  return slots;
}

function addressOf(node: string): RedisAddress {
  const colon = node.lastIndexOf(":");
  return {
    host: node.slice(0, colon).replace(/^\[|\]$/g, ""),
    port: Number(node.slice(colon + 1)),
  };
}

const CRC16 = Uint16Array.from({ length: 256 }, (_none, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0);
  return crc;
});

/** CRC16 (XMODEM) of what is between the braces, as Redis Cluster specifies. */
function slotOf(key: string): number {
  let crc = 0;
  for (const byte of Buffer.from(key.slice(key.indexOf("{") + 1, key.indexOf("}"))))
    crc = ((crc << 8) & 0xffff) ^ (CRC16[(crc >> 8) ^ byte] as number);
  return crc % SLOTS;
}
