/**
 * A client's history as streams, and each stream as runs (pure). A run is what a stream delivers of one
 * partition from one stated position on: it begins with Opened, with a partition's first event, or with a
 * notice that says that the stream goes on elsewhere. Of a member of a shared session it begins with Assigned,
 * at a position that nobody states, and ends with Revoked.
 *
 * A client of the library opens again by itself and gives its app one unbroken sequence: all of one life of
 * its process is one stream.
 */
import type { History, Line, Role, What } from "../history.ts";
import { nextIn, type Positions, positionsOf } from "./positions.ts";

type Of<Kind extends What["kind"]> = Extract<Line, { readonly kind: Kind }>;

export interface Delivery {
  readonly offset: number;
  readonly content: string;
  readonly marked: boolean;
  readonly line: Of<"batch">;
}

export interface Run {
  readonly partition: number;
  readonly topicId: string;
  /** Next offset where it begins, as the server said; of a member that of its first event. */
  from: number;
  readonly fromMs: number;
  /** When it was over, as far as its client knows. */
  untilMs: number;
  readonly deliveries: Delivery[];
}

export interface Stream {
  readonly client: string;
  readonly role: Role;
  readonly open: Of<"open">;
  readonly opened: Of<"opened"> | undefined;
  readonly start: Positions | undefined;
  readonly lines: readonly Line[];
  readonly end: Of<"end"> | undefined;
  readonly runs: readonly Run[];
  /** When it was last heard of, or sent anything. */
  readonly lastMs: number;
}

export function streamsOf({ name, lines }: History): Stream[] {
  const streams: Stream[] = [];
  let role: Role = "raw";
  let current: Line[] | undefined;
  const finish = (): void => {
    if (current) streams.push(streamOf(name, role, current));
    current = undefined;
  };
  for (const line of lines) {
    if (line.kind === "client") {
      finish();
      role = line.role;
    } else if (line.kind === "open") {
      finish();
      current = [line];
    } else current?.push(line);
    if (line.kind === "end") finish();
  }
  finish();
  return streams;
}

function streamOf(client: string, role: Role, lines: readonly Line[]): Stream {
  const opened = lines.find((line) => line.kind === "opened");
  const start = positionsOf(opened?.token);
  return {
    ...{ client, role, lines, opened, start },
    open: lines[0] as Of<"open">,
    end: lines.find((line) => line.kind === "end"),
    runs: start ? runsOf(start, lines) : [],
    lastMs: lines.at(-1)?.at ?? 0,
  };
}

export function isMember({ open }: Pick<Stream, "open">): boolean {
  return open.mode === "shared";
}

function runsOf(start: Positions, lines: readonly Line[]): Run[] {
  const [open] = lines as readonly [Of<"open">];
  const isShared = isMember({ open });
  const openedMs = lines.find(({ kind }) => kind === "opened")?.at ?? open.at;
  const runs: Run[] = [];
  const live = new Map<number, Run>();
  const endMs = lines.at(-1)?.at ?? openedMs;
  const begin = (partition: number, topicId: string, from: number, fromMs: number): Run => {
    over(partition, fromMs);
    const run = { partition, topicId, from, fromMs, untilMs: endMs, deliveries: [] };
    runs.push(run);
    live.set(partition, run);
    return run;
  };
  const over = (partition: number, untilMs: number): void => {
    const run = live.get(partition);
    if (run) run.untilMs = untilMs;
    live.delete(partition);
  };
  for (const line of lines) {
    if (line.kind === "batch") {
      const { partition, marked } = line;
      const [first = 0] = line.offsets;
      const from = isShared ? first : nextIn(start, partition);
      const run = live.get(partition) ?? begin(partition, start.topicId, from, openedMs);
      if (isShared && run.deliveries.length === 0) run.from = first;
      for (const [i, offset] of line.offsets.entries()) {
        run.deliveries.push({ offset, content: line.events[i] ?? "", marked, line });
      }
    } else if (line.kind === "notice") {
      const to = positionsOf(line.token);
      if (line.notice === "assigned") {
        for (const partition of line.partitions ?? []) begin(partition, start.topicId, 0, line.at);
      } else if (line.notice === "revoked") {
        for (const partition of line.partitions ?? []) over(partition, line.at);
      } else if (line.notice === "opened again" && isShared) {
        for (const partition of [...live.keys()]) over(partition, line.at);
      } else if (line.notice === "restarted" && line.partition !== undefined && to) {
        if (!isShared || live.has(line.partition))
          begin(line.partition, to.topicId, line.to ?? 0, line.at);
      } else if (line.notice === "repositioned" && to) {
        for (const [partition, next] of to.next.entries()) {
          if (!isShared || live.has(partition)) begin(partition, to.topicId, next, line.at);
        }
      }
    }
  }
  return runs;
}
