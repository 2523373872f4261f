/** Who takes part in a run: Topics, and the clients of each process. */
import type { Admission } from "../judge/admission.ts";

export interface TopicSpec {
  readonly name: string;
  readonly partitions: number;
}

/** By what the schedule does to them; see faults/. */
export const TOPICS: readonly TopicSpec[] = [
  { name: "orders", partitions: 6 },
  { name: "audit", partitions: 1 },
  { name: "growing", partitions: 2 },
  { name: "short", partitions: 3 },
  { name: "phoenix", partitions: 2 },
];

export interface SubscriberSpec {
  readonly kind: "raw" | "library" | "prober" | "latecomer" | "mover";
  readonly name: string;
  readonly topic: string;
  /** 1 fail, 2 earliest. */
  readonly recovery: 1 | 2;
  readonly admission?: Admission;
  readonly session?: string;
  /** A member of a shared session; without it the session is exclusive. */
  readonly shared?: true;
  readonly acks?: "explicit" | "credits";
  /** Ends rather than go on unverified. */
  readonly strict?: true;
  /** Where a new session begins; earliest unless said. */
  readonly start?: "latest";
  /** Waits so long before it returns credit, and has little. */
  readonly slowMs?: number;
  /** Comes and goes: opens with the current or an old token of that client of its process. */
  readonly tokenOf?: string;
  /** Comes late for that client of its process. */
  readonly lateFor?: string;
  /** Comes and goes. A member leaves in order. */
  readonly holdMs?: number;
  readonly awayMs?: number;
}

export interface PublisherSpec {
  readonly kind: "publisher" | "named" | "resender";
  readonly name: string;
  readonly topic: string;
  readonly batch: number;
  readonly everyMs: number;
  /** Publishes at this server only. The others go where their last server sent them, often all to one. */
  readonly at?: number;
}

export type ClientSpec = SubscriberSpec | PublisherSpec;

const EVEN = { by: "type", types: ["even"] } as const;
const KEYS = { by: "key", keys: ["key-1", "key-2", "key-3"] } as const;

function raw(
  name: string,
  topic: string,
  more: Partial<Omit<SubscriberSpec, "kind">> = {},
): SubscriberSpec {
  return { kind: "raw", name, topic, recovery: 1, ...more };
}

function library(
  name: string,
  topic: string,
  named: Pick<SubscriberSpec, "session" | "shared"> = {},
): SubscriberSpec {
  return { kind: "library", name, topic, recovery: 2, ...named };
}

function member(name: string, topic: string, session: string, holdMs?: number): SubscriberSpec {
  const base = raw(name, topic, { session, shared: true, acks: "explicit" });
  return holdMs === undefined ? base : { ...base, holdMs, awayMs: holdMs };
}

function publisher(kind: PublisherSpec["kind"], name: string, topic: string): PublisherSpec {
  return { kind, name, topic, batch: kind === "named" ? 10 : 24, everyMs: 90 };
}

/**
 * A member that joins, has a partition for a moment (field.ts: within half a second) and leaves in order.
 * The other three have the six partitions evenly: what it leaves goes back to whoever lost it.
 */
export const PASSER = { name: "member-6", holdMs: 1200 } as const;

/** One process each. */
export const PROCESSES: readonly (readonly ClientSpec[])[] = [
  [
    raw("token-1", "orders"),
    raw("token-2", "audit", { recovery: 2 }),
    raw("token-3", "growing"),
    raw("token-4", "short"),
    raw("filtered-1", "orders", { admission: EVEN }),
    raw("filtered-2", "growing", { admission: KEYS }),
    raw("slow-1", "orders", { slowMs: 200 }),
    member("member-1", "orders", "split"),
  ],
  [
    raw("session-1", "orders", { session: "one", acks: "explicit" }),
    raw("session-2", "audit", { session: "two", acks: "credits" }),
    raw("session-3", "growing", { session: "three", acks: "explicit" }),
    raw("session-4", "phoenix", { session: "four", acks: "explicit", recovery: 2 }),
    {
      ...{ kind: "latecomer", name: "late", topic: "growing", recovery: 1, awayMs: 2000 },
      ...{ session: "three", lateFor: "session-3" },
    },
    library("library-1", "orders", { session: "library" }),
    library("library-2", "audit"),
    raw("strict-1", "orders", { session: "strict", strict: true, acks: "explicit" }),
    raw("sought-1", "orders", { session: "sought", start: "latest", acks: "explicit" }),
    member("member-2", "orders", "split"),
    member("member-4", "growing", "grown"),
    raw("slow-2", "short", { slowMs: 300, session: "slow", acks: "explicit", recovery: 2 }),
  ],
  [
    raw("token-5", "phoenix"),
    raw("token-6", "phoenix", { recovery: 2 }),
    raw("filtered-3", "short", { admission: EVEN, recovery: 2 }),
    library("library-3", "short", { session: "library" }),
    library("member-3", "orders", { session: "split", shared: true }),
    member("member-5", "growing", "grown"),
    raw("pair-a", "orders"),
    raw("pair-b", "orders", { tokenOf: "pair-a", holdMs: 1500, awayMs: 500 }),
    raw("pair-c", "short", { tokenOf: "token-8", holdMs: 2000, awayMs: 500 }),
    raw("token-8", "short", { recovery: 2 }),
    { kind: "mover", name: "mover", topic: "orders", recovery: 1, session: "sought", awayMs: 5000 },
    { kind: "prober", name: "prober", topic: "orders", recovery: 1, awayMs: 1000 },
  ],
  [
    raw("rival-1", "orders", { session: "one", acks: "explicit", holdMs: 3000, awayMs: 4000 }),
    raw("rival-2", "audit", { session: "two", acks: "credits", holdMs: 2000, awayMs: 5000 }),
    raw("slow-3", "audit", { slowMs: 250, recovery: 2 }),
    member(PASSER.name, "orders", "split", PASSER.holdMs),
    member("member-7", "growing", "grown", 8000),
    raw("token-7", "growing", { recovery: 2 }),
  ],
  [
    publisher("named", "named-1", "orders"),
    publisher("named", "named-2", "audit"),
    publisher("named", "named-3", "growing"),
    { kind: "resender", name: "named-4", topic: "orders", batch: 10, everyMs: 200 },
    publisher("publisher", "plain-1", "short"),
    publisher("publisher", "plain-2", "phoenix"),
    // Whichever server is frozen, events come.
    { ...publisher("publisher", "plain-3", "orders"), batch: 12, at: 0 },
    { ...publisher("publisher", "plain-4", "orders"), batch: 12, at: 1 },
  ],
];

export function processName(index: number): string {
  return `process ${index + 1}`;
}

/** Exclusive sessions whose positions are watched as Kafka shows them. */
export const MIRRORED: readonly { readonly topic: string; readonly session: string }[] = [
  { topic: "orders", session: "one" },
  { topic: "orders", session: "library" },
  { topic: "audit", session: "two" },
  { topic: "growing", session: "three" },
];

/** Shared sessions, which are asked for where they stand. */
export const ASKED: readonly { readonly topic: string; readonly session: string }[] = [
  { topic: "orders", session: "split" },
  { topic: "growing", session: "grown" },
];

/** Clients whose histories are judged together: those of one session. */
export function groupsOf(clients: readonly ClientSpec[]): readonly (readonly string[])[] {
  const groups = new Map<string, string[]>();
  for (const client of clients) {
    const session = "session" in client ? client.session : undefined;
    const group = session === undefined ? client.name : `${client.topic}/${session}`;
    groups.set(group, [...(groups.get(group) ?? []), client.name]);
  }
  return [...groups.values()];
}

/** What a process is started with, as JSON. */
export interface Order {
  readonly folder: string;
  readonly addresses: readonly string[];
  readonly clients: readonly ClientSpec[];
  /** No publisher sends to these until told. */
  readonly paused: readonly string[];
}

/** What it is told later. `settle`: publishers stop, slow readers hurry. */
export type Told =
  | { readonly tell: "pause" | "resume"; readonly topic: string }
  | { readonly tell: "settle" }
  | { readonly tell: "finish" };

export type Answered = { readonly done: Told["tell"] };
