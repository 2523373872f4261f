/** P2, P10: where events are gone it is said, and it is said only there (pure). */
import type { Anomaly } from "./anomaly.ts";
import { type Compared, named } from "./delivery.ts";
import { nextIn, type Positions, positionsOf } from "./positions.ts";
import type { Stream } from "./streams.ts";
import type { World } from "./world.ts";

export function silentLoss(compared: Compared): Anomaly[] {
  return named("silent-loss", compared, ({ kind, mayBeGone }) => {
    return kind === "missing" && mayBeGone;
  });
}

/** A stream goes on in another incarnation than its position counts in. */
export function silentRecreation({ client, open, opened, start, lines }: Stream): Anomaly[] {
  if (!opened || !start || open.broken) return [];
  const asked = positionsOf(typeof open.start === "object" ? open.start.token : opened.stored);
  const isTold = lines.some((line) => line.kind === "notice" && line.notice === "restarted");
  if (!asked || isTold || asked.topicId === start.topicId) return [];
  // Nothing came yet: the notice may have been on its way.
  if (!lines.some((line) => line.kind === "batch")) return [];
  const what = `the position is of incarnation ${asked.topicId}, the stream of ${start.topicId}`;
  return [{ class: "silent-loss", client, atMs: opened.at, what, lines: [open, opened] }];
}

/** A stream opens within this after a recreation, however often it takes. */
const RESENT_MS = 15_000;

/** What a sound position of a Topic that exists is never answered with. */
const NEVER = new Set(["INVALID_TOKEN", "SESSION_UNREADABLE", "LOG_CORRUPT", "EVENT_TOO_LARGE"]);

export function falseAlarm(stream: Stream, world: World): Anomaly[] {
  const { client, open, end, lines } = stream;
  const found: Anomaly[] = [];
  const alarm = (line: (typeof lines)[number], what: string): void => {
    found.push({ class: "false-alarm", client, atMs: line.at, what, lines: [open, line] });
  };
  // Where recovery was applied at the opening, Opened is after it already.
  const { opened } = stream;
  let asked = positionsOf(typeof open.start === "object" ? open.start.token : opened?.stored);
  let last = stream.start ?? asked;
  for (const line of lines) {
    if (line.kind === "batch") asked = undefined;
    if (line.kind === "batch" || line.kind === "heartbeat") last = positionsOf(line.token) ?? last;
    if (line.kind !== "notice" || line.notice !== "restarted") continue;
    const { partition = 0, from = 0 } = line;
    const before = [last, asked].filter((position) => position !== undefined);
    const isTrue =
      before.some((position) => isGone(world, position, line.at, [[partition, from]])) ||
      (asked !== undefined && wasRecreated(world, open.topic, line.at));
    if (!isTrue) {
      alarm(line, `Restarted: partition ${partition} had ${from} still`);
    }
    // Of all partitions of a topic that is gone each is told by itself.
    const to = positionsOf(line.token);
    if (to && last && to.topicId === last.topicId) last = to;
  }
  if (!end || open.broken) return found;
  if (NEVER.has(end.error)) alarm(end, `${end.error}: ${end.message}`);
  // Without a token nobody but the server knows the position.
  if (end.error === "POSITION_LOST" && last) {
    const all = last.next.map((next, partition) => [partition, next] as const);
    if (!isGone(world, last, end.at, all)) alarm(end, `POSITION_LOST: ${end.message}`);
  }
  return found;
}

function isGone(
  world: World,
  { topicId }: Positions,
  atMs: number,
  positions: readonly (readonly [number, number])[],
): boolean {
  const incarnation = world.topics.get(topicId);
  if (!incarnation) return true;
  if (incarnation.goneMs !== undefined && incarnation.goneMs <= atMs) return true;
  return positions.some(([partition, next]) =>
    incarnation.partitions[partition]?.mayBeGone(next, atMs),
  );
}

/**
 * A claim whose answer was lost is sent again, and finds stored what it stored itself: of a session that came
 * from the incarnation before it is not known where that stood.
 */
function wasRecreated(world: World, topic: string, atMs: number): boolean {
  return [...world.topics.values()].some(
    ({ topic: name, goneMs = Number.POSITIVE_INFINITY }) =>
      name === topic && goneMs <= atMs && goneMs > atMs - RESENT_MS,
  );
}

/** A damaged token, or one of another topic, is refused. */
export function brokenToken({ client, open, opened }: Stream): Anomaly[] {
  if (!open.broken || !opened) return [];
  const what = "a stream was opened with a token that is damaged or foreign";
  return [{ class: "broken-token", client, atMs: opened.at, what, lines: [open, opened] }];
}

/** Of every partition of the incarnation: see finished in liveness.ts. */
export function positionAtEnd(stream: Stream): (partition: number) => number {
  const last = new Map<number, number>();
  let token = stream.start;
  for (const line of stream.lines) {
    if (line.kind === "batch" || line.kind === "heartbeat")
      token = positionsOf(line.token) ?? token;
  }
  for (const run of stream.runs) {
    const end = run.deliveries.at(-1);
    last.set(run.partition, end ? end.offset + 1 : run.from);
  }
  return (partition) => Math.max(last.get(partition) ?? 0, token ? nextIn(token, partition) : 0);
}
