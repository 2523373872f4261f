/**
 * What the metrics say of the sessions that a server holds. Pure: taken when they are scraped.
 *
 * Sums and the maximum, and no series per session: session names are the apps' own, a gateway may hold
 * thousands, and each that ever was would stay in Prometheus. The lag of a single one is in GetSession, and
 * in its group's offsets (mirror.ts), where lag exporters look for it and choose by name what they keep.
 */
import type { Catalog } from "../catalog.ts";
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
}

/** @param endOf the last stable offset, from the main dispatcher; negative when it is not known. */
export function sessionFigures(
  held: Iterable<FiguredSession>,
  catalog: Pick<Catalog, "get">,
  endOf: (topicId: string, partition: number) => number,
): SessionFigures {
  const figures = { held: 0, unverified: 0, lag: 0, maxLag: 0 };
  for (const session of held) {
    figures.held++;
    if (session.isUnverified) figures.unverified++;
    const saved = savedPositions(catalog, session);
    if (!saved) continue;
    const ends = saved.positions.map((_, partition) => endOf(session.topicId, partition));
    const lag = lagBehind(saved.positions, ends) ?? 0;
    figures.lag += lag;
    figures.maxLag = Math.max(figures.maxLag, lag);
  }
  return figures;
}
