/**
 * What Kafka shows of an exclusive session beside what its clients acknowledged and heard to be saved (pure):
 * never ahead, never back within a generation, and there soon while nothing is being done to anything.
 */
import { ackedOf } from "./acks.ts";
import type { Anomaly } from "./anomaly.ts";
import { nextIn, positionsOf } from "./positions.ts";
import { isCalm } from "./sessions.ts";
import type { Stream } from "./streams.ts";
import { LOST_STORE, type Shown, struck, type World } from "./world.ts";

/** A beat of the mirror, a beat of the watch, and what a commit takes on a busy machine. */
const CAUGHT_UP_MS = 4000;
/** A server that was frozen may commit so late what another has passed. */
const LATE_MS = 5000;
/**
 * A commit that was held up on its way lands behind later ones: the next beat mends it where events flow, else
 * the mirror's second showing after half a minute.
 */
const MENDED_MS = 40_000;
const RESTORED_MS = 10_000;

export function mirror(streams: readonly Stream[], world: World): Anomaly[] {
  const opened = streams.filter(({ start }) => start !== undefined);
  const { topic, session } = opened[0]?.open ?? {};
  const shown = world.shown.filter((one) => one.topic === topic && one.session === session);
  if (shown.length === 0) return [];
  return [
    ...ahead(opened, shown, world),
    ...back(opened, shown, world),
    ...behind(opened, shown, world),
  ];
}

function anomaly(stream: Stream, { atMs }: Shown, what: string): Anomaly {
  return { class: "mirror", client: stream.client, atMs, what, lines: [stream.open] };
}

function isClaimed(streams: readonly Stream[], fromMs: number, toMs: number): boolean {
  return streams.some(({ opened }) => opened && opened.at >= fromMs && opened.at <= toMs);
}

function ahead(streams: readonly Stream[], shown: readonly Shown[], world: World): Anomaly[] {
  const [first] = streams as [Stream];
  const { start } = first;
  const logs = (start && world.topics.get(start.topicId)?.partitions) ?? [];
  return logs.flatMap((log, partition) => {
    const acked = ackedOf(streams, partition);
    for (const one of shown) {
      const through = acked(one.atMs);
      const next = one.next[partition] ?? -1;
      const offset = log.offsets[log.from(next) - 1] ?? -1;
      if (offset <= through || (start && offset < nextIn(start, partition))) continue;
      const what = `partition ${partition} is shown at ${next}; nobody acknowledged ${offset}`;
      return [anomaly(first, one, what)];
    }
    return [];
  });
}

function back(streams: readonly Stream[], shown: readonly Shown[], world: World): Anomaly[] {
  const [first] = streams as [Stream];
  return shown.slice(1).flatMap((one, i) => {
    const before = shown[i] as Shown;
    const partition = before.next.findIndex((next, p) => (one.next[p] ?? -1) < next);
    if (partition < 0 || isClaimed(streams, before.atMs - LATE_MS, one.atMs)) return [];
    if (struck(world, LOST_STORE, before.atMs - RESTORED_MS, one.atMs)) return [];
    const reached = before.next[partition] as number;
    const mends = ({ atMs, next }: Shown): boolean =>
      atMs > one.atMs && atMs - one.atMs < MENDED_MS && (next[partition] ?? -1) >= reached;
    if (shown.some(mends)) return [];
    const what = `partition ${partition} was shown at ${before.next[partition]}, then at ${one.next[partition]}`;
    return [anomaly(first, one, what)];
  });
}

function behind(streams: readonly Stream[], shown: readonly Shown[], world: World): Anomaly[] {
  return streams.flatMap((stream) =>
    stream.lines.flatMap((line) => {
      const saved = line.kind === "heartbeat" ? positionsOf(line.saved) : undefined;
      if (!saved) return [];
      const later = shown.find(({ atMs }) => atMs >= line.at + CAUGHT_UP_MS);
      if (!later || !isCalm(world, line.at, later.atMs)) return [];
      if (isClaimed(streams, line.at, later.atMs)) return [];
      const partition = saved.next.findIndex((next, p) => (later.next[p] ?? -1) < next);
      if (partition < 0) return [];
      const what = `partition ${partition} is shown at ${later.next[partition]}; ${Math.round(later.atMs - line.at)} ms before ${saved.next[partition]} was saved`;
      return [anomaly(stream, later, what)];
    }),
  );
}
