/**
 * Freezes the sequencer at work when a batch of it is stamped and all that it sends to Kafka is on its way. The other
 * one takes over; when it sends its first events the frozen one thaws, and what it had sent comes there first. Only
 * the fence keeps that out: to Kafka and to the frozen one itself it is the next batch.
 */
import { pause } from "../../clients/pace.ts";
import type { Field } from "../field.ts";
import type { Seat } from "../seat.ts";
import { within } from "../seat.ts";
import { BAITS } from "./baits.ts";

/** In each event's record. */
const EVENT = Buffer.from("tl-sequence");
const READY_MS = 20_000;
/** A batch that is on its way when its wires are held keeps the next one from being stamped. */
const STAMP_MS = 1000;
const TRIES = 10;
/** Of a takeover; who was frozen for longer gives up by itself. */
const TAKEN_OVER_MS = 10_000;
/** What the thawed one has for a commit. */
const FIRST_MS = 1000;

/** @returns undefined: nothing was on its way, or nobody took over. */
export async function thawLate(field: Field): Promise<string | undefined> {
  const { database, kafka } = field.traps;
  for (let tries = 0; tries < TRIES; tries++) {
    const pair = await pairOf(field);
    if (!pair) return undefined;
    const [seat, other] = pair;
    const letGo = kafka.hold(Buffer.from(seat.name));
    const { leg: _leg, ...stamp } = BAITS.stamp;
    const bait = { ...stamp, among: seat.leg.connections, atAnswer: true };
    if (await database.set(bait, STAMP_MS, () => seat.freeze()))
      return (await comesFirst(field, seat, other, letGo)) ? seat.name : undefined;
    letGo();
  }
  return undefined;
}

/** One that is at work, and one that waits for it. */
async function pairOf({ seats }: Field): Promise<[Seat, Seat] | undefined> {
  const of = (kind: string): Seat | undefined =>
    seats.find(({ standing }) => standing.kind === kind);
  await within(READY_MS, () => of("running") !== undefined && of("standby") !== undefined);
  const [seat, other] = [of("running"), of("standby")];
  return seat && other && [seat, other];
}

/** @param letGo what the frozen one has sent. @returns whether the other one had taken over, and sent. */
async function comesFirst(
  { traps: { kafka } }: Field,
  seat: Seat,
  other: Seat,
  letGo: () => void,
): Promise<boolean> {
  const thaw = (): void => {
    letGo();
    seat.thaw();
  };
  const untilMs = performance.now() + TAKEN_OVER_MS;
  let letOtherGo: (() => void) | undefined;
  while (!letOtherGo && performance.now() < untilMs)
    await kafka.set(
      { way: "up", bytes: EVENT },
      Math.max(0, untilMs - performance.now()),
      (connection, bytes) => {
        if (!bytes.includes(other.name)) return;
        letOtherGo = kafka.hold(Buffer.from(other.name), connection);
        thaw();
      },
    );
  if (!letOtherGo) {
    thaw();
    return false;
  }
  await pause(FIRST_MS);
  letOtherGo();
  return true;
}
