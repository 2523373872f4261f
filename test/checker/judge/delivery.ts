/**
 * P1, P2, P3 of one stream: what it delivered is what comes after its position, once, in order (pure).
 * A difference in the very first event after a resume, and one where a catch-up met the live stream, have
 * classes of their own: they tell which mechanism is broken.
 */
import type { Anomaly, Class } from "./anomaly.ts";
import { compare, type Difference } from "./compare.ts";
import { nextIn, positionsOf } from "./positions.ts";
import type { Run, Stream } from "./streams.ts";
import type { World } from "./world.ts";

export interface Compared {
  readonly stream: Stream;
  readonly run: Run;
  readonly differences: readonly Difference[];
}

export function comparedOf(stream: Stream, world: World): Compared[] {
  return stream.runs.map((run) => ({ stream, run, differences: compare(stream, run, world) }));
}

export function gap(compared: Compared): Anomaly[] {
  return named("gap", compared, ({ kind, zone, mayBeGone }) => {
    return kind === "missing" && zone === "later" && !mayBeGone;
  });
}

export function repeat(compared: Compared): Anomaly[] {
  return named("repeat", compared, ({ kind, zone }) => {
    return (kind === "again" && zone === "later") || (kind === "below" && zone !== "first");
  });
}

export function backward(compared: Compared): Anomaly[] {
  return named("backward", compared, ({ kind }) => kind === "back");
}

export function merge(compared: Compared): Anomaly[] {
  return named("merge", compared, ({ kind, zone, mayBeGone }) => {
    return zone === "merge" && (kind === "again" || (kind === "missing" && !mayBeGone));
  });
}

/** The first event of each partition is the one after the stated position. */
export function resume(compared: Compared): Anomaly[] {
  return named("resume", compared, ({ kind, zone, mayBeGone }) => {
    return zone === "first" && (kind === "below" || (kind === "missing" && !mayBeGone));
  });
}

/** The stated position is the one that was asked for. */
export function resumedElsewhere(stream: Stream): Anomaly[] {
  const { open, opened, start, client, lines } = stream;
  if (!opened || !start || open.broken) return [];
  const asked = positionsOf(typeof open.start === "object" ? open.start.token : opened.stored);
  if (!asked || lines.some((line) => line.kind === "notice" && line.notice === "restarted")) {
    return [];
  }
  // Another incarnation: loss.ts.
  if (asked.topicId !== start.topicId) return [];
  return start.next.flatMap((next, partition) => {
    const wanted = nextIn(asked, partition);
    if (next === wanted) return [];
    const what = `partition ${partition}: asked for ${wanted}, opened at ${next}`;
    return [{ class: "resume" as const, client, atMs: opened.at, what, lines: [open, opened] }];
  });
}

export function phantom(compared: Compared): Anomaly[] {
  return named("phantom", compared, ({ kind }) => kind === "not-in-log");
}

export function disagree(compared: Compared): Anomaly[] {
  return named("disagree", compared, ({ kind }) => kind === "other-content");
}

export function filter(compared: Compared): Anomaly[] {
  return named("filter", compared, ({ kind }) => kind === "not-admitted");
}

export function named(
  name: Class,
  { stream, run, differences }: Compared,
  holds: (difference: Difference) => boolean,
): Anomaly[] {
  return differences.filter(holds).map(({ kind, offset, zone, shown }) => ({
    class: name,
    client: stream.client,
    atMs: shown.line.at,
    what: `${stream.open.topic} (${run.topicId}) partition ${run.partition} offset ${offset}: ${kind}, ${zone}; the run begins at ${run.from}; shown by offset ${shown.offset}`,
    lines: [stream.open, ...(stream.opened ? [stream.opened] : []), shown.line],
  }));
}
