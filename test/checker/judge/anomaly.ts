/** What the judge finds (pure), and the names of all it looks for. */
import type { Line } from "../history.ts";

export const CLASSES = {
  gap: "an event between two that the client received is missing",
  repeat: "an event came again without the mark",
  backward: "an event came after one of a higher offset",
  resume: "the first event after a resume is not the one after the position",
  merge: "a repeat or a gap where a catch-up met the live stream",
  lost: "an acknowledged publish is not in the log, or elsewhere than was said",
  undelivered: "an acknowledged publish never reached a client that was there to the end",
  phantom: "an event that is not in the committed log",
  disagree: "an offset that clients have with another content than the log",
  "heartbeat-ahead": "a heartbeat's token is ahead of what was delivered",
  "silent-loss": "events went with retention, recreation or truncation, and nothing was said",
  "false-alarm": "the server says that it cannot go on, and the data is there",
  "broken-token": "a damaged or foreign token was taken",
  "superseded-moves": "a stream that had been superseded moved the session's position",
  "two-streams": "two streams of one session, past the bound of P5",
  "two-members": "two members of one session delivered one partition, past the bound of P5",
  unassigned: "an event of a partition that the member did not have",
  orphaned: "9 s in which no member had a partition while every part was up",
  unheeded: "a session that was sought or forgotten went on as if it had not been",
  unverified: "a strict stream went on without the store",
  "late-wins": "a connection that arrived late took the session from its successor",
  stuck: "5 s without event or heartbeat while every part was up (8 s for a member that opens)",
  filter: "an event that the filter does not admit",
  "token-inside": "a batch's token is not the position after the batch",
  "stored-backward": "the stored position moved back within a generation",
  mirror: "group offsets that are ahead of what was acknowledged, moved back, or did not catch up",
  rss: "a server's memory is above its cap",
  harm: "events come later than 1 s to one client while another misbehaves",
  lag: "events come later than 1 s, 30 s after everything was healed",
  duplicate: "a named publisher's event is in the log twice, or out of order",
  crash: "a server process ended by itself",
  internal: "the server says that it has a bug",
} as const;

export type Class = keyof typeof CLASSES;

export interface Anomaly {
  readonly class: Class;
  readonly client: string;
  readonly atMs: number;
  readonly what: string;
  /** Of the client's history. */
  readonly lines: readonly Line[];
}
