/**
 * Freezes the server of a member that is losing a partition, from the moment when the store says so to the one
 * that joins, until that one has had the partition, acknowledged events of it and left again. Then the old
 * member has the partition as before, by another hand-over, and has not heard of either; its own client's
 * acknowledgements come a little later still, so that what its server says then is what it had. It has not
 * lapsed (field.ts), and its client has not given it up (raw-client.ts: 2.5 s).
 */
import { pause } from "../clients/pace.ts";
import { PASSER } from "../clients/roster.ts";
import type { Field, Seat } from "../field.ts";
import { nowMs } from "../history.ts";
import { freeze } from "./wire.ts";

const JOINED = Buffer.from("$6\r\njoined\r\n");
/** A few joins of the passing member. */
const WITHIN_MS = 8000;
/** What a leave takes on a busy machine. */
const LEFT_MS = 120;
const UNHEARD_MS = 800;

/** @returns whom it hit; undefined when nobody lost anything to that member. */
export async function freezeLoser(field: Field): Promise<string | undefined> {
  const untilMs = nowMs() + WITHIN_MS;
  let frozen: Promise<string> | undefined;
  while (!frozen && nowMs() < untilMs) {
    const bait = { way: "down", bytes: JOINED } as const;
    await field.traps.store.set(bait, untilMs - nowMs(), (connection, answer) => {
      const server = loserIn(answer.toString("latin1"), PASSER.name);
      const seat = field.seats.find(({ name }) => name === server);
      // The one that joins is to go on.
      if (seat && !seat.ending && !seat.store.connections.has(connection)) frozen = strike(seat);
    });
  }
  return frozen;
}

async function strike(seat: Seat): Promise<string> {
  const frozen = freeze(seat, PASSER.holdMs + LEFT_MS);
  seat.clients.fault({ kind: "freeze" });
  const name = await frozen;
  await pause(UNHEARD_MS);
  seat.clients.heal();
  return name;
}

/** Of a share: owner and target. Of a member: id, instance, server. See member-scripts.ts. */
const SHARE = /\r\n\d+ (\S+) (\S+) \d+ [01] [01] \d+ -?\d+(?=\r\n)/g;
const MEMBER = /\r\n(\S+)\r\n\$\d+\r\n\d+ \d+ -?\d+ (\S*) (\S*)(?=\r\n)/g;

/**
 * @param answer of the store to a join
 * @param winner what the instance begins with of the member that is to have a partition
 * @returns the server of the member that has it still
 */
export function loserIn(answer: string, winner: string): string | undefined {
  const members = [...answer.matchAll(MEMBER)].map(([, id, instance = "", server]) => {
    return { id, isWinner: instance.startsWith(`${winner}-`), server };
  });
  for (const [, owner, target] of answer.matchAll(SHARE)) {
    if (owner === target || !members.some(({ id, isWinner }) => isWinner && id === target))
      continue;
    return members.find(({ id }) => id === owner)?.server;
  }
  return undefined;
}
