/** What the clients of one session acknowledged of a partition, over time (pure). */
import type { Stream } from "./streams.ts";

/** @returns the last offset that anybody had acknowledged by then; ask with rising times. */
export function ackedOf(streams: readonly Stream[], partition: number): (atMs: number) => number {
  const acks = streams
    .flatMap(({ role, lines }) =>
      lines.flatMap((line) => {
        if (line.kind === "ack") {
          const mine = line.positions.filter(([of]) => of === partition);
          return mine.map(([, offset]) => ({ offset, atMs: line.at }));
        }
        // An app of the library acknowledges what it was given.
        const isTaken = role === "once" && line.kind === "batch" && line.partition === partition;
        return isTaken ? [{ offset: line.offsets.at(-1) ?? -1, atMs: line.at }] : [];
      }),
    )
    .sort((a, b) => a.atMs - b.atMs);
  let acked = -1;
  let next = 0;
  return (atMs) => {
    for (; (acks[next]?.atMs ?? Number.POSITIVE_INFINITY) <= atMs; next++)
      acked = Math.max(acked, acks[next]?.offset ?? -1);
    return acked;
  };
}
