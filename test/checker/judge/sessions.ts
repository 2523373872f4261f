/**
 * P3, P5 of one exclusive session over all its clients (pure). Streams are taken in the order of their generations.
 * A stream that was opened while the store was down owns nothing and is told no generation; where one is
 * near, and where the store was emptied, nothing is concluded from what is stored.
 * Neighbour: members.ts, of shared sessions.
 */
import type { Line } from "../history.ts";
import { admits } from "./admission.ts";
import type { Anomaly } from "./anomaly.ts";
import { nextIn, positionsOf } from "./positions.ts";
import type { Stream } from "./streams.ts";
import { calmIn, LOST_STORE, type Move, movesOf, struck, type World } from "./world.ts";

/** The bound of P5, and what a line may take from the server to the history of a busy process. */
export const BOUND_MS = 1000;
export const MARGIN_MS = 500;

interface Pair {
  readonly before: Stream;
  readonly after: Stream;
}

/** Claims that followed one another. */
function pairsOf(streams: readonly Stream[]): Pair[] {
  const claims = streams
    .filter(({ opened }) => opened !== undefined && opened.generation > 0)
    .sort((a, b) => (a.opened?.generation ?? 0) - (b.opened?.generation ?? 0));
  return claims.slice(1).map((after, i) => ({ before: claims[i] as Stream, after }));
}

/** Nothing else can have moved what is stored between the two. */
function isPlain({ before, after }: Pair, streams: readonly Stream[], world: World): boolean {
  const from = before.open.at;
  const to = after.opened?.at ?? from;
  return (
    !struck(world, LOST_STORE, from, to) &&
    !isMovedIn(world, streams, from, to) &&
    !streams.some(
      ({ open, opened, lastMs }) =>
        (opened === undefined || opened.generation === 0) && open.at < to && lastMs > from,
    )
  );
}

/** The session may have been sought or forgotten, other than by this call. */
export function isMovedIn(
  world: World,
  streams: readonly Stream[],
  fromMs: number,
  toMs: number,
  but?: Move,
): boolean {
  return movesOf(world, streams).some(
    (move) => move !== but && move.fromMs <= toMs && move.toMs >= fromMs,
  );
}

/** A strict stream ends instead. */
export function unverified({ client, open, lines }: Stream): Anomaly[] {
  const told = lines.find((line) => line.kind === "notice" && line.notice === "unverified");
  if (!open.strict || !told) return [];
  const what = "was told that it is unverified, and opened as strict";
  return [{ class: "unverified", client, atMs: told.at, what, lines: [open, told] }];
}

export function twoStreams(streams: readonly Stream[], world: World): Anomaly[] {
  return pairsOf(streams).flatMap(({ before, after }) => {
    const since = after.opened?.at ?? 0;
    const late = before.lines.find(
      ({ kind, at }) =>
        (kind === "batch" || kind === "heartbeat") && at > since + BOUND_MS + MARGIN_MS,
    );
    if (!late || !isCalm(world, after.open.at, late.at)) return [];
    const what = `generation ${before.opened?.generation} was heard ${Math.round(late.at - since)} ms after generation ${after.opened?.generation} was opened by ${after.client}`;
    const lines = [before.open, after.opened as Line, late];
    return [{ class: "two-streams" as const, client: before.client, atMs: late.at, what, lines }];
  });
}

/** Of one instance, a lower attempt is refused once a higher one was opened. */
export function lateWins(streams: readonly Stream[], world: World): Anomaly[] {
  return streams.flatMap(({ client, open, opened }) => {
    if (!opened?.generation) return [];
    const successor = streams.find(
      (other) =>
        other.open.instance === open.instance &&
        (other.open.attempt ?? 0) > (open.attempt ?? 0) &&
        other.opened !== undefined &&
        other.opened.generation > 0 &&
        other.opened.at < open.at &&
        !struck(world, LOST_STORE, other.opened.at, opened.at),
    );
    if (!successor) return [];
    const what = `attempt ${open.attempt} was opened after attempt ${successor.open.attempt} of its instance`;
    const lines = [successor.open, open, opened];
    return [{ class: "late-wins" as const, client, atMs: opened.at, what, lines }];
  });
}

export function isCalm(world: World, fromMs: number, toMs: number): boolean {
  const [calm] = calmIn(world, fromMs, toMs);
  return calm !== undefined && calm.toMs - calm.fromMs === toMs - fromMs;
}

/**
 * From then on it may go on for the bound of P5, while it cannot reach the store for longer, but delivers for itself
 * only. A stream that was opened detached has no generation in its history: it claims when it has the store again.
 */
function supersededMs(stream: Stream, streams: readonly Stream[]): number {
  const generation = stream.opened?.generation ?? 0;
  const told = stream.lines.find((line) => line.kind === "notice" && line.notice === "superseded");
  const newer = streams.filter(({ open, opened }) => {
    if (!opened) return false;
    if (opened.generation > 0) return opened.generation > generation;
    return told?.kind === "notice" && told.by === open.instance && open.at < told.at;
  });
  return Math.min(...newer.map(({ open }) => open.at));
}

/** What was delivered before a resume by name, and comes again, is marked. */
export function repeatAcross(streams: readonly Stream[], world: World): Anomaly[] {
  const found: Anomaly[] = [];
  for (const after of streams) {
    if (typeof after.open.start === "object" || !after.opened?.generation) continue;
    // What it opened with was read by then.
    const readMs = after.opened.at;
    const earlier = streams.filter(
      ({ open, opened }) =>
        opened !== undefined &&
        opened.generation > 0 &&
        open.at < after.open.at &&
        !struck(world, LOST_STORE, open.at, readMs) &&
        !isMovedIn(world, streams, open.at, after.lastMs),
    );
    const had = new Set<string>();
    for (const stream of earlier) {
      const untilMs = supersededMs(stream, streams);
      for (const { topicId, partition, deliveries } of stream.runs) {
        for (const { offset, line } of deliveries) {
          if (line.at < Math.min(untilMs, after.open.at))
            had.add(`${topicId}/${partition}/${offset}`);
        }
      }
    }
    for (const { topicId, partition, deliveries } of after.runs) {
      const again = deliveries.find(
        ({ offset, marked }) => !marked && had.has(`${topicId}/${partition}/${offset}`),
      );
      if (!again) continue;
      found.push({
        class: "repeat",
        client: after.client,
        atMs: again.line.at,
        what: `partition ${partition} offset ${again.offset} was delivered to this session before, and is not marked`,
        lines: [after.open, after.opened, again.line],
      });
    }
  }
  return found;
}

interface Acked {
  readonly offset: number;
  readonly line: Line;
}

function ackedBy(stream: Stream, partition: number): Acked[] {
  return stream.lines.flatMap((line) => {
    if (line.kind !== "ack") return [];
    return line.positions
      .filter(([of]) => of === partition)
      .map(([, offset]) => ({ offset, line }));
  });
}

/**
 * What the newest stream found stored is what the one before it acknowledged, and nothing more: not what an
 * older one acknowledged when it had the session no more, nor what nobody did.
 */
export function movedBySuperseded(streams: readonly Stream[], world: World): Anomaly[] {
  return passed(streams, world).filter((anomaly) => anomaly.class === "superseded-moves");
}

export function passedUnacknowledged(streams: readonly Stream[], world: World): Anomaly[] {
  return passed(streams, world).filter((anomaly) => anomaly.class === "gap");
}

function passed(streams: readonly Stream[], world: World): Anomaly[] {
  const found: Anomaly[] = [];
  for (const pair of pairsOf(streams)) {
    const { before, after } = pair;
    const stored = positionsOf(after.opened?.stored);
    const { start } = before;
    if (!stored || !start || stored.topicId !== start.topicId || before.role === "once") continue;
    const isMoved = before.lines.some(
      (line) => line.kind === "notice" && /^(restarted|repositioned)$/.test(line.notice),
    );
    if (isMoved || !isPlain(pair, streams, world)) continue;
    for (const [partition, next] of stored.next.entries()) {
      const log = world.topics.get(stored.topicId)?.partitions[partition];
      const acked = ackedBy(before, partition).reduce(
        (max, { offset }) => Math.max(max, offset),
        -1,
      );
      if (!log) continue;
      for (let i = log.from(Math.max(nextIn(start, partition), acked + 1)); ; i++) {
        const offset = log.offsets[i];
        if (offset === undefined || offset >= next) break;
        if (!admits(before.open.admission, log.contents[i] as string)) continue;
        const by = streams.find(
          (other) =>
            other !== before &&
            other !== after &&
            ackedBy(other, partition).some((ack) => ack.offset >= offset),
        );
        const name = by ? "superseded-moves" : "gap";
        const who = by ? `${by.client} acknowledged it when it was superseded` : "nobody did";
        found.push({
          ...{ class: name, client: after.client, atMs: after.opened?.at ?? 0 },
          what: `the stored position ${next} of partition ${partition} passed ${offset}, which ${before.client} did not acknowledge; ${who}`,
          lines: [before.open, after.open, after.opened as Line],
        });
        break;
      }
    }
  }
  return found;
}

export function storedBackward(streams: readonly Stream[], world: World): Anomaly[] {
  const found: Anomaly[] = [];
  const compare = (client: string, earlier: Line, older: string, line: Line, newer: string) => {
    const [a, b] = [positionsOf(older), positionsOf(newer)];
    if (!a || !b || a.topicId !== b.topicId) return;
    const partition = a.next.findIndex((next, p) => nextIn(b, p) < next);
    if (partition < 0) return;
    const what = `partition ${partition}: stored ${nextIn(a, partition)}, then ${nextIn(b, partition)}`;
    const lines = [earlier, line];
    found.push({ class: "stored-backward", client, atMs: line.at, what, lines });
  };
  const lastSaved = new Map<Stream, Extract<Line, { kind: "heartbeat" }>>();
  for (const stream of streams) {
    let last: Extract<Line, { kind: "heartbeat" }> | undefined;
    for (const line of stream.lines) {
      if (line.kind === "notice" && line.notice !== "moving") last = undefined;
      if (line.kind !== "heartbeat" || !line.saved) continue;
      if (last) compare(stream.client, last, last.saved, line, line.saved);
      last = line;
    }
    if (last) lastSaved.set(stream, last);
  }
  for (const pair of pairsOf(streams)) {
    const { before, after } = pair;
    const last = lastSaved.get(before);
    // Heard after the claim, it may be older than what the newer stream was told.
    if (!last || last.at > after.open.at || !isPlain(pair, streams, world)) continue;
    const opened = after.opened as Extract<Line, { kind: "opened" }>;
    compare(after.client, last, last.saved, opened, opened.stored);
  }
  return found;
}
