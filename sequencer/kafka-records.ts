/**
 * Events as Kafka records (pure): order value, commit id and commit time are headers of eight bytes, which
 * servers lift into the Event's own fields; the type is ce_type, as in the CloudEvents Kafka binding.
 */
import type { NewRecord } from "../kafka/log.ts";
import type { CommittedEvent } from "./intake.ts";
import type { Commit } from "./pgoutput.ts";
import type { Sequenced } from "./plan.ts";

const MS_2000 = 946_684_800_000;

/** Makes records, keeping what the events of one commit share. */
export class KafkaRecords {
  #commit: Commit | undefined;
  #timeMs = 0;
  #id: readonly [string, Buffer] = ["tl-commit-id", Buffer.alloc(8)];
  #time: readonly [string, Buffer] = ["tl-commit-time", Buffer.alloc(8)];

  /** @param nowMs a record is not later: brokers refuse what their clock does not know yet. */
  of({ event, sequence }: Sequenced, nowMs: number): NewRecord {
    if (event.commit !== this.#commit) this.#begin(event.commit);
    const headers: (readonly [string, Buffer])[] = [
      ["tl-sequence", int64(BigInt(sequence))],
      this.#id,
      this.#time,
    ];
    if (event.type.length > 0) headers.push(["ce_type", event.type]);
    if (event.headers) headers.push(...ownHeaders(event.headers));
    return {
      key: event.key,
      value: event.payload,
      headers,
      timeMs: Math.min(this.#timeMs, nowMs),
    };
  }

  #begin(commit: Commit): void {
    this.#commit = commit;
    this.#timeMs = commitTimeMs(commit);
    this.#id = ["tl-commit-id", int64(commit.id)];
    this.#time = ["tl-commit-time", int64(BigInt(this.#timeMs))];
  }
}

/** Milliseconds since 1970. */
export function commitTimeMs({ timeUs }: CommittedEvent["commit"]): number {
  return MS_2000 + Math.floor(Number(timeUs) / 1000);
}

function int64(value: bigint): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigInt64BE(value);
  return bytes;
}

function ownHeaders(json: Buffer): (readonly [string, Buffer])[] {
  const read = JSON.parse(json.toString("utf8")) as Readonly<Record<string, unknown>>;
  return Object.entries(read).map(([name, value]) => [
    name,
    Buffer.from(typeof value === "string" ? value : JSON.stringify(value)),
  ]);
}
