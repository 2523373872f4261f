/**
 * Events as Kafka records (pure): order value, commit id and commit time are headers of eight bytes, which
 * servers lift into the Event's own fields; the type is ce_type, as in the CloudEvents Kafka binding.
 */
import type { NewRecord } from "../kafka/log.ts";
import type { CommittedEvent } from "./intake.ts";
import type { Commit } from "./pgoutput.ts";
import type { Sequenced } from "./plan.ts";

const MS_2000 = 946_684_800_000;

/**
 * Made as they are asked for, so that none lives longer than it takes to write it down.
 * @param nowMs a record is not later: brokers refuse what their clock does not know yet.
 */
export function* recordsOf(events: readonly Sequenced[], nowMs: number): Generator<NewRecord> {
  let commit: Commit | undefined;
  let timeMs = 0;
  let id: Header = ["tl-commit-id", 0n];
  let time: Header = ["tl-commit-time", 0n];
  for (const { event, sequence } of events) {
    if (event.commit !== commit) {
      commit = event.commit;
      timeMs = commitTimeMs(commit);
      id = ["tl-commit-id", commit.id];
      time = ["tl-commit-time", BigInt(timeMs)];
    }
    const headers: Header[] = [["tl-sequence", BigInt(sequence)], id, time];
    if (event.type.length > 0) headers.push(["ce_type", event.type]);
    if (event.headers) headers.push(...ownHeaders(event.headers));
    yield { key: event.key, value: event.payload, headers, timeMs: Math.min(timeMs, nowMs) };
  }
}

type Header = NewRecord["headers"][number];

/** Milliseconds since 1970. */
export function commitTimeMs({ timeUs }: CommittedEvent["commit"]): number {
  return MS_2000 + Math.floor(Number(timeUs) / 1000);
}

function ownHeaders(json: Buffer): Header[] {
  const read = JSON.parse(json.toString("utf8")) as Readonly<Record<string, unknown>>;
  return Object.entries(read).map(([name, value]) => [
    name,
    Buffer.from(typeof value === "string" ? value : JSON.stringify(value)),
  ]);
}
