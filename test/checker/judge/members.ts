/**
 * P2, P3, P5 of one shared session over all its members (pure). A tenure is a run of one member: what it
 * delivered of a partition from Assigned to Revoked, or to its end. Nobody states in which order tenures came
 * into being, so nothing is concluded from two that clients heard of within the bound of P5.
 */
import type { Line } from "../history.ts";
import { ackedOf } from "./acks.ts";
import type { Anomaly } from "./anomaly.ts";
import { nextIn, type Positions, positionsOf } from "./positions.ts";
import { BOUND_MS, MARGIN_MS } from "./sessions.ts";
import { type Delivery, isMember, type Run, type Stream } from "./streams.ts";
import { calmIn, LOST_STORE, type PartitionLog, struck, type World } from "./world.ts";

/** A store that lost the session has it again from its members, who all have come back within this. */
const RESTORED_MS = 10_000;

/** As the servers have it (field.ts): above the time after which a client takes a silent server for lost. */
export const MEMBER_LAPSE_MS = 6000;

/** A member of whose end the store did not hear lapses first; then a renewal gives away what it had. */
const NOBODY_MS = MEMBER_LAPSE_MS + 3000;

interface Tenure {
  readonly stream: Stream;
  readonly run: Run;
}

/** All that the session had of one partition. */
interface Had {
  readonly topicId: string;
  readonly partition: number;
  readonly log: PartitionLog;
  /** Next offset of the session when it was opened first. */
  readonly from: number;
  readonly fromMs: number;
  readonly tenures: readonly Tenure[];
}

function hadOf(streams: readonly Stream[], world: World): Had[] {
  const ids = new Set(streams.flatMap(({ start }) => (start ? [start.topicId] : [])));
  return [...ids].flatMap((topicId) => {
    const first = streams.find(({ start }) => start?.topicId === topicId);
    const logs = world.topics.get(topicId)?.partitions ?? [];
    return logs.map((log, partition) => {
      const isOf = (run: Run): boolean => run.topicId === topicId && run.partition === partition;
      return {
        ...{ topicId, partition, log },
        from: first?.start ? nextIn(first.start, partition) : 0,
        fromMs: Math.max(first?.opened?.at ?? 0, log.seenMs[0] ?? Number.POSITIVE_INFINITY),
        tenures: streams
          .flatMap((stream) => stream.runs.filter(isOf).map((run) => ({ stream, run })))
          .sort((a, b) => a.run.fromMs - b.run.fromMs),
      };
    });
  });
}

/** No more of a partition comes than was assigned, and nothing after Revoked. */
export function unassigned(stream: Stream): Anomaly[] {
  if (!isMember(stream)) return [];
  const held = new Set<number>();
  return stream.lines.flatMap((line) => {
    if (line.kind === "batch" && !held.has(line.partition)) {
      const what = `a batch of partition ${line.partition}, which it was not assigned, or which was revoked`;
      const { client } = stream;
      return [{ class: "unassigned" as const, client, atMs: line.at, what, lines: [line] }];
    }
    if (line.kind !== "notice") return [];
    if (line.notice === "opened again") held.clear();
    for (const partition of line.partitions ?? []) {
      if (line.notice === "assigned") held.add(partition);
      else held.delete(partition);
    }
    return [];
  });
}

/** Whatever a member had of a partition, all before it was delivered to somebody; and at the end all there is. */
export function gapOfAll(streams: readonly Stream[], world: World): Anomaly[] {
  const told = streams.flatMap(({ lines }) =>
    lines.flatMap((line) => (line.kind === "notice" && line.notice === "restarted" ? [line] : [])),
  );
  const end = streams.map(({ lastMs }) => lastMs).reduce((a, b) => Math.max(a, b), 0);
  return hadOf(streams, world).flatMap(({ partition, log, from, tenures }) => {
    const had = new Map<number, Delivery>();
    for (const { run } of tenures) for (const one of run.deliveries) had.set(one.offset, one);
    const isTold = (offset: number): boolean =>
      told.some(
        (line) =>
          line.partition === partition && (line.from ?? 0) <= offset && offset < (line.to ?? 0),
      );
    const last = [...had.keys()].reduce((a, b) => Math.max(a, b), -1);
    const [witness] = streams as [Stream];
    for (let i = log.from(from); i < log.offsets.length; i++) {
      const offset = log.offsets[i] as number;
      if (had.has(offset) || isTold(offset)) continue;
      const isPassed = offset < last;
      const content = log.contents[i] as string;
      if (!isPassed && !world.acknowledged.has(content)) continue;
      const name = log.mayBeGone(offset, end) ? "silent-loss" : isPassed ? "gap" : "undelivered";
      const what = `partition ${partition} offset ${offset} (${content}) was delivered to no member; the last that was is ${last}`;
      const atMs = log.seenMs[i] as number;
      return [{ class: name, client: witness.client, atMs, what, lines: [witness.open] }];
    }
    return [];
  });
}

/** Of the tenures that delivered an event, all but the first mark it. */
export function repeatOfAll(streams: readonly Stream[], world: World): Anomaly[] {
  return hadOf(streams, world).flatMap(({ partition, tenures }) => {
    const first = new Map<number, Tenure & { readonly line: Line }>();
    return tenures.flatMap(({ stream, run }) => {
      let repeated: Anomaly | undefined;
      for (const { offset, marked, line } of run.deliveries) {
        if (marked) continue;
        const before = first.get(offset);
        if (!before) {
          first.set(offset, { stream, run, line });
          continue;
        }
        // What one client wrote down came in this order; two need the bound of P5 between them.
        const boundMs = before.stream.client === stream.client ? 0 : BOUND_MS + MARGIN_MS;
        if (repeated || before.run === run || before.line.at > run.fromMs - boundMs) continue;
        if (struck(world, LOST_STORE, before.line.at - RESTORED_MS, line.at)) continue;
        repeated = {
          ...{ class: "repeat", client: stream.client, atMs: line.at },
          what: `partition ${partition} offset ${offset} was delivered to ${before.stream.client} before, and is not marked`,
          lines: [before.line, stream.open, line],
        };
      }
      return repeated ? [repeated] : [];
    });
  });
}

/** Both go on delivering, longer than the bound after the newer one was assigned the partition and all was up. */
export function twoMembers(streams: readonly Stream[], world: World): Anomaly[] {
  return hadOf(streams, world).flatMap(({ partition, tenures }) =>
    tenures.flatMap(({ stream, run }) => {
      const older = tenures.filter(
        (one) =>
          one.stream !== stream && one.run.fromMs < run.fromMs && one.run.untilMs > run.fromMs,
      );
      for (const { fromMs, toMs } of older.length > 0
        ? calmIn(world, run.fromMs, run.untilMs)
        : []) {
        const lateMs = fromMs + BOUND_MS + MARGIN_MS;
        const late = lineIn(run, lateMs, toMs);
        if (!late) continue;
        for (const other of older) {
          const otherLate = lineIn(other.run, lateMs, toMs);
          if (!otherLate) continue;
          const what = `partition ${partition} was delivered to ${other.stream.client} and to ${stream.client} ${Math.round(otherLate.at - run.fromMs)} ms after the latter was assigned it`;
          const lines = [other.stream.open, stream.open, late, otherLate];
          const { client } = stream;
          return [{ class: "two-members" as const, client, atMs: late.at, what, lines }];
        }
      }
      return [];
    }),
  );
}

function lineIn({ deliveries }: Run, fromMs: number, toMs: number): Line | undefined {
  return deliveries.find(({ line }) => line.at > fromMs && line.at <= toMs)?.line;
}

export function orphaned(streams: readonly Stream[], world: World): Anomaly[] {
  const endMs = streams.map(({ lastMs }) => lastMs).reduce((a, b) => Math.max(a, b), 0);
  const [witness] = streams as [Stream];
  return hadOf(streams, world).flatMap(({ partition, fromMs, tenures }) => {
    const found: Anomaly[] = [];
    const nobody = (sinceMs: number, untilMs: number): void => {
      for (const calm of calmIn(world, sinceMs, untilMs)) {
        const ms = calm.toMs - calm.fromMs;
        if (ms <= NOBODY_MS) continue;
        const what = `nobody had partition ${partition} for ${((untilMs - sinceMs) / 1000).toFixed(1)} s, of which ${(ms / 1000).toFixed(1)} s were calm`;
        const { client, open } = witness;
        found.push({ class: "orphaned", client, atMs: calm.fromMs, what, lines: [open] });
      }
    };
    let sinceMs = fromMs;
    for (const { run } of tenures) {
      if (run.fromMs > sinceMs) nobody(sinceMs, run.fromMs);
      sinceMs = Math.max(sinceMs, run.untilMs);
    }
    if (endMs > sinceMs) nobody(sinceMs, endMs);
    return found;
  });
}

/** What is saved of a partition was acknowledged by then, by whoever. */
export function savedUnacknowledged(streams: readonly Stream[], world: World): Anomaly[] {
  const heard = savedBy(streams).sort((a, b) => a.line.at - b.line.at);
  return hadOf(streams, world).flatMap(({ topicId, partition, log, from }) => {
    const acked = ackedOf(streams, partition);
    for (const { stream, line, saved } of heard) {
      const through = acked(line.at);
      if (saved.topicId !== topicId) continue;
      const offset = log.offsets[log.from(nextIn(saved, partition)) - 1] ?? -1;
      if (offset < from || offset <= through || log.mayBeGone(offset, line.at)) continue;
      const what = `partition ${partition} is saved at ${nextIn(saved, partition)}; nobody acknowledged ${offset}`;
      const { client } = stream;
      return [{ class: "gap" as const, client, atMs: line.at, what, lines: [line] }];
    }
    return [];
  });
}

function savedBy(streams: readonly Stream[]) {
  return streams.flatMap((stream) =>
    stream.lines.flatMap((line) => {
      const token =
        line.kind === "heartbeat" ? line.saved : line.kind === "opened" ? line.stored : "";
      const saved = positionsOf(token);
      return saved ? [{ stream, line, saved }] : [];
    }),
  );
}

/** What one stream hears of the store does not move back, and nor does what GetSession answers. */
export function savedBackward(streams: readonly Stream[], world: World): Anomaly[] {
  const heard = streams.map((stream) =>
    savedBy([stream]).map(({ line, saved }) => ({ ...{ stream, saved, atMs: line.at }, line })),
  );
  return [...heard, askedOf(streams, world)].flatMap((one) => backIn(one, world));
}

interface Saved {
  readonly stream: Stream;
  readonly atMs: number;
  readonly saved: Positions;
  readonly line: Line;
}

function askedOf(streams: readonly Stream[], world: World): Saved[] {
  const [stream] = streams as [Stream];
  const { open } = stream;
  return world.stood.flatMap((one) => {
    const saved = positionsOf(one.token);
    if (!saved || one.topic !== open.topic || one.session !== open.session) return [];
    return [{ stream, atMs: one.atMs, saved, line: open }];
  });
}

/** In the order in which the store said it. */
function backIn(said: readonly Saved[], world: World): Anomaly[] {
  return said.slice(1).flatMap(({ stream, atMs, saved, line }, i) => {
    const before = said[i] as Saved;
    if (before.saved.topicId !== saved.topicId) return [];
    const partition = before.saved.next.findIndex((next, p) => nextIn(saved, p) < next);
    if (partition < 0 || struck(world, LOST_STORE, before.atMs - RESTORED_MS, atMs)) return [];
    const what = `partition ${partition}: stored ${before.saved.next[partition]}, then ${nextIn(saved, partition)}`;
    const lines = before.line === line ? [line] : [before.line, line];
    return [{ class: "stored-backward" as const, client: stream.client, atMs, what, lines }];
  });
}
