/**
 * One run beside the log (pure): everything in which they differ, each difference once. What a difference is
 * called depends on where it is and on what the schedule did; that is decided in delivery.ts and loss.ts.
 */
import { admits } from "./admission.ts";
import type { Delivery, Run, Stream } from "./streams.ts";
import type { PartitionLog, World } from "./world.ts";

export interface Difference {
  readonly kind:
    | "missing"
    /** Delivered before, in this run. */
    | "again"
    /** After one of a higher offset, and not delivered before. */
    | "back"
    /** Before the position where the run begins. */
    | "below"
    | "not-in-log"
    | "other-content"
    | "not-admitted";
  readonly offset: number;
  /** The delivery that shows it. */
  readonly shown: Delivery;
  readonly zone: "first" | "merge" | "later";
  /** It may have been deleted by then. */
  readonly mayBeGone: boolean;
}

/** Nothing for an incarnation that the witness does not know: that is said elsewhere. */
export function compare(stream: Stream, run: Run, world: World): Difference[] {
  const log = world.topics.get(run.topicId)?.partitions[run.partition];
  if (!log) return [];
  const { admission } = stream.open;
  const found: Difference[] = [];
  const missing = new Map<number, Difference>();
  const seen = new Set<number>();
  let expected = log.from(run.from);
  const beganBehind =
    expected < log.offsets.length && (log.seenMs[expected] as number) < run.fromMs;
  let hasMet = !beganBehind;
  let last = -1;
  for (const shown of run.deliveries) {
    const { offset, content } = shown;
    const zone = last < 0 ? "first" : hasMet ? "later" : "merge";
    const differs = (kind: Difference["kind"], at = offset): Difference => ({
      ...{ kind, shown, zone, offset: at },
      mayBeGone: log.mayBeGone(at, shown.line.at),
    });
    const index = log.at(offset);
    if (index < 0 && goneUnread(world, run, log, shown)) continue;
    if (index < 0) {
      found.push(differs("not-in-log"));
      continue;
    }
    if (log.contents[index] !== content) found.push(differs("other-content"));
    if (!admits(admission, log.contents[index] as string)) {
      found.push(differs("not-admitted"));
      continue;
    }
    if (seen.has(offset)) found.push(differs("again"));
    else if (offset < run.from) found.push(differs("below"));
    else if (offset < last) {
      found.push(differs("back"));
      missing.delete(offset);
    } else {
      for (; expected < index; expected++) {
        const at = log.offsets[expected] as number;
        if (admits(admission, log.contents[expected] as string)) {
          missing.set(at, differs("missing", at));
        }
      }
      expected = index + 1;
      last = offset;
      hasMet ||= (log.seenMs[index] as number) >= run.fromMs;
    }
    seen.add(offset);
  }
  return [...found, ...missing.values()];
}

/**
 * What a server that was killed had on its way may come to a topic behind the mark up to which the witness holds it,
 * and go with the topic: nobody can say then whether it was in the log. No publish of it was acknowledged.
 */
function goneUnread(
  world: World,
  run: Run,
  log: PartitionLog,
  { offset, content }: Delivery,
): boolean {
  const isGone = world.topics.get(run.topicId)?.goneMs !== undefined;
  const isSent = world.sentMs.has(content) && !world.acknowledged.has(content);
  return isGone && isSent && offset > (log.offsets.at(-1) ?? -1);
}

/** The first event at or after `from` and before `to` that the stream should have had and has not. */
export function passedOver(
  stream: Stream,
  log: PartitionLog,
  from: number,
  to: number,
  atMs: number,
): number | undefined {
  for (let i = log.from(from); i < log.offsets.length; i++) {
    const offset = log.offsets[i] as number;
    if (offset >= to) return undefined;
    if (!admits(stream.open.admission, log.contents[i] as string)) continue;
    if (!log.mayBeGone(offset, atMs)) return offset;
  }
  return undefined;
}
