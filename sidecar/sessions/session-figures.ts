/**
 * What the metrics say of the sessions that a server holds. Pure: taken when they are scraped.
 *
 * Sums and the maximum, and no series per session: session names are the apps' own, a gateway may hold
 * thousands, and each that ever was would stay in Prometheus. The lag of a single one is in GetSession, and
 * in its group's offsets (mirror.ts), where lag exporters look for it and choose by name what they keep.
 */
import type { Catalog } from "../catalog.ts";
import { mirrorGroup } from "./mirror-group.ts";
import { lagBehind, type SavedToken, savedPositions } from "./saved-position.ts";

export interface SessionFigures {
  readonly held: number;
  readonly unverified: number;
  /** Of those whose saved position and whose log's ends are known. */
  readonly lag: number;
  readonly maxLag: number;
}

export interface FiguredSession extends SavedToken {
  readonly isUnverified: boolean;
  /** A member of a shared session has some of its partitions: the sum over all servers is of all. */
  has(partition: number): boolean;
}

/** @param endOf the last stable offset, from the main dispatcher; negative when it is not known. */
export function sessionFigures(
  held: Iterable<FiguredSession>,
  catalog: Pick<Catalog, "get">,
  endOf: (topicId: string, partition: number) => number,
): SessionFigures {
  const sessions = new Map<string, { isUnverified: boolean; lag: number }>();
  for (const session of held) {
    const name = mirrorGroup(session.key);
    const known = sessions.get(name) ?? { isUnverified: false, lag: 0 };
    sessions.set(name, known);
    known.isUnverified ||= session.isUnverified;
    const saved = savedPositions(catalog, session);
    if (!saved) continue;
    const had = [...saved.positions.entries()].filter(([partition]) => session.has(partition));
    const ends = had.map(([partition]) => endOf(session.topicId, partition));
    known.lag +=
      lagBehind(
        had.map(([, position]) => position),
        ends,
      ) ?? 0;
  }
  const figured = [...sessions.values()];
  return {
    held: figured.length,
    unverified: figured.filter(({ isUnverified }) => isUnverified).length,
    lag: figured.reduce((sum, { lag }) => sum + lag, 0),
    maxLag: figured.reduce((most, { lag }) => Math.max(most, lag), 0),
  };
}
