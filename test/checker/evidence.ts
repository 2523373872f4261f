/** What a run leaves for the judge: the world as it was, and every client's history from its file. */
import { join } from "node:path";
import {
  type ClientSpec,
  groupsOf,
  PROCESSES,
  processName,
  type SubscriberSpec,
} from "./clients/roster.ts";
import { type History, readHistory } from "./history.ts";
import type { Crash, Deed, Incarnation, Move, Sample, Shown, Stood, World } from "./judge/world.ts";

/** Answers that say that nothing has changed. */
const NOTHING_DONE = new Set(["SESSION_NOT_FOUND"]);

/** A call whose answer was lost has been done by then, or is not done any more. */
const UNKNOWN_MS = 10_000;

const CLIENTS: readonly ClientSpec[] = PROCESSES.flat();

function historyOf(folder: string, name: string): History {
  return { name, lines: readHistory(join(folder, `${name}.jsonl`)) };
}

/** One group after the other: a long run's histories need not be in memory at once. */
export function* historiesIn(folder: string): Generator<History[]> {
  for (const names of groupsOf(CLIENTS)) yield names.map((name) => historyOf(folder, name));
}

export function worldOf(
  folder: string,
  seen: {
    readonly topics: ReadonlyMap<string, Incarnation>;
    readonly deeds: readonly Deed[];
    readonly samples: readonly Sample[];
    readonly crashes: readonly Crash[];
    readonly shown: readonly Shown[];
    readonly stood: readonly Stood[];
    readonly rssCapBytes: number;
  },
): World {
  const sentMs = new Map<string, number>();
  const acknowledged = new Set<string>();
  for (const { name, kind } of CLIENTS) {
    if (kind !== "publisher" && kind !== "named" && kind !== "resender") continue;
    for (const line of historyOf(folder, name).lines) {
      // A named publisher that was killed sends again what was not answered.
      if (line.kind === "sent") for (const event of line.events) sentMs.set(event, line.at);
      if (line.kind === "acknowledged") acknowledged.add(line.event);
    }
  }
  const moves = CLIENTS.flatMap((spec) => (spec.kind === "mover" ? movesIn(folder, spec) : []));
  const processes = new Map(
    PROCESSES.flatMap((clients, index) => clients.map(({ name }) => [name, processName(index)])),
  );
  return { ...seen, sentMs, acknowledged, moves, processes };
}

function movesIn(folder: string, { name, topic, session = "" }: SubscriberSpec): Move[] {
  const { lines } = historyOf(folder, name);
  return lines.flatMap((line, i): Move[] => {
    if (line.kind !== "moves") return [];
    const answer = lines[i + 1];
    const known = answer?.kind === "moved" ? answer : undefined;
    if (known?.error !== undefined && NOTHING_DONE.has(known.error)) return [];
    const isDone = known !== undefined && known.error === undefined;
    const toMs = isDone ? known.at : line.at + UNKNOWN_MS;
    const of = { kind: line.move, topic, session, fromMs: line.at, toMs };
    return [{ ...of, isDone, token: known?.token ?? "" }];
  });
}

/** What clients did by themselves; see kinds.ts. */
export function clientsOwn(folder: string): Map<string, number> {
  const counts = new Map<string, number>();
  const add = (name: string): void => void counts.set(name, (counts.get(name) ?? 0) + 1);
  for (const spec of CLIENTS) {
    if (spec.kind !== "raw" && spec.kind !== "prober") continue;
    const newest = spec.tokenOf === undefined ? undefined : historyOf(folder, spec.tokenOf).lines;
    let at = 0;
    let last = "";
    for (const line of historyOf(folder, spec.name).lines) {
      if (line.kind === "batch" && spec.slowMs !== undefined) add("slow reader");
      if (line.kind !== "open") continue;
      if (line.broken) add("broken token");
      if (!newest || typeof line.start !== "object") continue;
      for (; at < newest.length && (newest[at]?.at ?? 0) <= line.at; at++) {
        const other = newest[at];
        if (other && "token" in other && other.token) last = other.token;
      }
      add(line.start.token === last ? "two connections with one token" : "old token");
    }
  }
  return counts;
}
