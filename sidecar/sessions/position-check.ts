/**
 * Is there still all that comes after a position to which a session is to be moved? Asked before it is moved:
 * afterwards the place where it stood is overwritten, and the loss is told to nobody who could go back.
 * Neighbours: session-calls.ts (SeekSession) and sessions.ts (an open with a token) ask.
 *
 * It is a look ahead. What a stream finds when it reads from there is judged by its dispatcher, whatever was
 * said here.
 */
import type { Log, Position, TopicInfo } from "../../kafka/log.ts";
import { Failure } from "../failure.ts";
import { LOSSES, lookUp } from "../open.ts";

/**
 * POSITION_LOST, if it is; `field` of the request named the position.
 * @throws Failure when Kafka does not tell.
 */
export async function lossAt(
  log: Log,
  info: TopicInfo,
  positions: readonly Position[],
  field: string,
): Promise<Failure | undefined> {
  const earliest = await lookUp(log, info, "earliest");
  const lost = positions.findIndex(({ offset }, p) => offset < (earliest[p]?.offset ?? 0));
  if (lost < 0) return undefined;
  return new Failure(
    "POSITION_LOST",
    `${field}: retention removed offset ${positions[lost]?.offset} of partition ${lost}; the earliest event there is at ${earliest[lost]?.offset}.`,
    {
      loss: LOSSES["before-earliest"],
      earliest: earliest.map(({ offset }, partition) => ({ partition, offset: BigInt(offset) })),
    },
  );
}
