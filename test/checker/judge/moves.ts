/**
 * SeekSession and ForgetSession: who has the session hears of it within the bound of P5, and who opens it next
 * begins there (pure). A call whose answer was lost may have been done at any time since.
 */
import type { Line } from "../history.ts";
import type { Anomaly } from "./anomaly.ts";
import { BOUND_MS, isCalm, isMovedIn, MARGIN_MS } from "./sessions.ts";
import type { Stream } from "./streams.ts";
import { LOST_STORE, type Move, movesOf, struck, type World } from "./world.ts";

export function unheeded(streams: readonly Stream[], world: World): Anomaly[] {
  return movesOf(world, streams).flatMap((move) => {
    if (!move.isDone || isMovedIn(world, streams, move.fromMs, move.toMs, move)) return [];
    return [...ofHolder(streams, move, world), ...ofNext(streams, move, world)];
  });
}

function anomaly(stream: Stream, line: Line, what: string): Anomaly {
  const { client, open } = stream;
  return { class: "unheeded", client, atMs: line.at, what, lines: [open, line] };
}

/** The stream that had the session. */
function ofHolder(streams: readonly Stream[], move: Move, world: World): Anomaly[] {
  const boundMs = move.toMs + BOUND_MS + MARGIN_MS;
  return streams.flatMap((stream) => {
    const { opened, lines } = stream;
    if (!opened?.generation || opened.at > move.fromMs) return [];
    const late = lines.find(
      ({ kind, at }) => (kind === "batch" || kind === "heartbeat") && at > boundMs,
    );
    if (!late || !isCalm(world, move.fromMs, late.at)) return [];
    if (isMovedIn(world, streams, move.toMs, late.at, move)) return [];
    const isTold = lines.some(
      (line) =>
        line.kind === "notice" &&
        line.notice === "repositioned" &&
        line.at >= move.fromMs &&
        line.token === move.token,
    );
    if (isTold) return [];
    const ms = Math.round(late.at - move.toMs);
    const what = `was heard ${ms} ms after ${move.kind}, which it was not told of`;
    return [anomaly(stream, late, what)];
  });
}

/** The stream that opened it next, when nobody had it meanwhile. */
function ofNext(streams: readonly Stream[], move: Move, world: World): Anomaly[] {
  const next = streams.find(({ open, opened }) => open.at > move.toMs && opened !== undefined);
  const opened = next?.opened;
  if (!next || !opened?.generation || typeof next.open.start === "object") return [];
  const isAlone = streams.every(
    (other) => other === next || other.lastMs < move.fromMs || other.open.at > opened.at,
  );
  if (!isAlone || struck(world, LOST_STORE, move.fromMs, opened.at)) return [];
  if (isMovedIn(world, streams, move.toMs, opened.at, move) || opened.stored === move.token)
    return [];
  const what = `opened after ${move.kind} and found another position stored than that`;
  return [anomaly(next, opened, what)];
}
