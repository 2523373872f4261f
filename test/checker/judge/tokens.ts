/** P3, P4: every token that a stream hands out is exactly the position after what it delivered (pure). */
import type { Line } from "../history.ts";
import type { Anomaly, Class } from "./anomaly.ts";
import { passedOver } from "./compare.ts";
import { nextIn, type Positions, positionsOf } from "./positions.ts";
import { isMember, type Stream } from "./streams.ts";
import type { World } from "./world.ts";

export function tokenInside(stream: Stream, world: World): Anomaly[] {
  return tokensOf(stream, world).filter((anomaly) => anomaly.class === "token-inside");
}

export function heartbeatAhead(stream: Stream, world: World): Anomaly[] {
  return tokensOf(stream, world).filter((anomaly) => anomaly.class === "heartbeat-ahead");
}

interface At {
  readonly topicId: string;
  next: number;
}

function tokensOf(stream: Stream, world: World): Anomaly[] {
  const { start, lines, client, role } = stream;
  // An app of the library has its batches later than the library has.
  if (!start || role === "once") return [];
  const isShared = isMember(stream);
  const found: Anomaly[] = [];
  const positions = new Map<number, At>();
  const at = (partition: number): At | undefined => {
    const known = positions.get(partition);
    // Of what it does not deliver a member's token says what is saved.
    if (known || isShared) return known;
    const made = { topicId: start.topicId, next: nextIn(start, partition) };
    positions.set(partition, made);
    return made;
  };
  const check = (line: Line, token: Positions, name: Class): void => {
    for (let partition = 0; partition < token.next.length; partition++) {
      const here = at(partition);
      if (!here) continue;
      const next = nextIn(token, partition);
      const log = world.topics.get(here.topicId)?.partitions[partition];
      if (here.topicId !== token.topicId || !log || next === here.next) continue;
      const ahead = passedOver(stream, log, here.next, next, line.at);
      const behind = next < here.next;
      if (ahead === undefined && !behind) here.next = next;
      else {
        const wrong = behind ? "is behind it" : `passes ${ahead}, which was not delivered`;
        const what = `partition ${partition}: delivered up to ${here.next}, the token says ${next}: it ${wrong}`;
        found.push({
          class: behind ? "token-inside" : name,
          client,
          atMs: line.at,
          what,
          lines: [line],
        });
      }
    }
  };
  for (const line of lines) {
    if (line.kind === "notice") moved(line, positions, isShared);
    if (line.kind !== "batch" && line.kind !== "heartbeat") continue;
    if (line.kind === "batch") {
      const next = (line.offsets.at(-1) ?? -1) + 1;
      const here = at(line.partition);
      if (here) here.next = Math.max(here.next, next);
      else positions.set(line.partition, { topicId: start.topicId, next });
    }
    const token = positionsOf(line.token);
    if (token) check(line, token, line.kind === "batch" ? "token-inside" : "heartbeat-ahead");
  }
  return found;
}

function moved(
  line: Extract<Line, { kind: "notice" }>,
  positions: Map<number, At>,
  isShared: boolean,
): void {
  for (const partition of line.partitions ?? []) positions.delete(partition);
  const token = positionsOf(line.token);
  if (!token) return;
  const { topicId } = token;
  if (line.notice === "restarted" && line.partition !== undefined) {
    positions.set(line.partition, { topicId, next: line.to ?? 0 });
  } else if (line.notice === "repositioned") {
    if (isShared) positions.clear();
    else
      for (const [partition, next] of token.next.entries())
        positions.set(partition, { topicId, next });
  }
}
