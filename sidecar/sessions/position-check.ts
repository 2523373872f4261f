/**
 * Is there still all that comes after a position to which a session is to be moved? Asked before it is moved:
 * afterwards the place where it stood is overwritten, and the loss is told to nobody who could go back.
 * Neighbours: session-calls.ts (SeekSession) and sessions.ts (an open with a token) ask.
 *
 * It is a look ahead. What a stream finds when it reads from there is judged by its dispatcher, whatever was
 * said here.
 */
import type { Log, LogLoss, Position, TopicInfo } from "../../kafka/log.ts";
import { Failure } from "../failure.ts";
import { LOSSES, lookUp } from "../open.ts";

/**
 * POSITION_LOST, if it is not; `field` of the request named the positions, one per partition.
 * @throws Failure when Kafka does not tell what is the earliest.
 */
export async function lossAt(
  log: Log,
  info: TopicInfo,
  positions: readonly Position[],
  field: string,
): Promise<Failure | undefined> {
  const [starts, ends] = await Promise.all([
    lookUp(log, info, "earliest"),
    Promise.all(positions.map((_, p) => log.offset(info, p, "latest"))),
  ]);
  const earliest = starts.map(({ offset }, p) => ({ partition: p, offset: BigInt(offset) }));
  const lost = (partition: number, loss: LogLoss["kind"], what: string): Failure => {
    const at = `${field}: offset ${positions[partition]?.offset} of partition ${partition}`;
    return new Failure("POSITION_LOST", `${at} ${what}.`, { loss: LOSSES[loss], earliest });
  };
  for (const [p, { offset }] of positions.entries()) {
    const start = starts[p]?.offset ?? 0;
    if (offset >= start) continue;
    const what = `was removed by retention; the earliest event there is at ${start}`;
    return lost(p, "before-earliest", what);
  }
  for (const [p, position] of positions.entries()) {
    const end = ends[p];
    if (end?.kind !== "offset" || position.offset <= end.offset) continue;
    // An open transaction, or a leader that is new, answers less than there is: what was delivered may lie
    // above that. Past the end is only what the leader refuses to read.
    const loss = await readAt(log, info, p, position);
    if (loss === "unknown") return undefined;
    if (loss) return lost(p, loss, `lies past the end of the log, which is at ${end.offset}`);
  }
  return undefined;
}

/** What the leader says of a position that seems to be past the end. */
async function readAt(
  log: Log,
  info: TopicInfo,
  partition: number,
  position: Position,
): Promise<"past-end" | "truncated" | "unknown" | undefined> {
  const reader = log.openReader(info, partition);
  const outcome = await reader.fetch(position, 1, 0);
  reader.close();
  if (outcome.kind === "fetched") {
    outcome.release();
    return undefined;
  }
  const loss = outcome.kind === "loss" ? outcome.loss.kind : undefined;
  return loss === "past-end" || loss === "truncated" ? loss : "unknown";
}
