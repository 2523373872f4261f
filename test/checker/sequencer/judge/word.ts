/**
 * The database's own word (pure): what test_decoding prints of its log, as transactions in the order of their
 * commits. All that the judge holds against the sequencer comes from there: events, and every order value that was
 * ever stamped, also of what was cleaned away since.
 */
import { lsnOf } from "../../../../sequencer/lsn.ts";
import { contentOf } from "../../history.ts";

export interface Inserted {
  readonly id: bigint;
  readonly topic: string;
  /** See contentOf. */
  readonly content: string;
}

export interface Stamped {
  readonly eventId: bigint;
  readonly sequence: number;
  readonly commitId: bigint;
}

export interface Transaction {
  /** Where its commit record ends. */
  readonly endLsn: bigint;
  /** By the database's clock. */
  readonly atMs: number;
  readonly events: readonly Inserted[];
  readonly stamps: readonly Stamped[];
  /** Order values that were changed after they were given. */
  readonly changed: readonly Stamped[];
  /** Events whose order values went. */
  readonly cleaned: readonly bigint[];
  readonly parked: readonly bigint[];
  /** A slot was made that begins there: what waited before is stamped with this transaction. */
  readonly slotBegins: bigint | undefined;
}

type Open = {
  -readonly [K in keyof Transaction]: Transaction[K] extends readonly (infer T)[]
    ? T[]
    : Transaction[K];
};

export class WordParser {
  #open = nothing();

  /** @param data a line of test_decoding. @returns the transaction that it ends, if anything of ours was in it. */
  take(lsn: string, data: string): Transaction | undefined {
    if (data.startsWith("COMMIT")) return this.#commit(lsn, data);
    const [, table, deed, rest = ""] = /^table throughline\.(\w+): (\w+):(.*)$/s.exec(data) ?? [];
    const columns = columnsOf(rest);
    const of = (name: string): string => columns.get(name) ?? "";
    const open = this.#open;
    switch (`${table} ${deed}`) {
      case "outbox INSERT":
        open.events.push({
          ...{ id: BigInt(of("id")), topic: of("topic") },
          content: contentOf(bytesOf(of("payload")), of("key"), of("type")),
        });
        break;
      case "order_values INSERT":
      case "order_values UPDATE": {
        const stamps = deed === "INSERT" ? open.stamps : open.changed;
        stamps.push({
          ...{ eventId: BigInt(of("event_id")), sequence: Number(of("sequence")) },
          commitId: BigInt(of("commit_id")),
        });
        break;
      }
      case "order_values DELETE":
        open.cleaned.push(BigInt(of("event_id")));
        break;
      case "parked INSERT":
        open.parked.push(BigInt(of("event_id")));
        break;
      case "slot INSERT":
        open.slotBegins = lsnOf(of("consistent_point"));
    }
    return undefined;
  }

  #commit(lsn: string, data: string): Transaction | undefined {
    const whole = { ...this.#open, endLsn: lsnOf(lsn), atMs: timeOf(data) };
    this.#open = nothing();
    const { events, stamps, changed, cleaned, parked, slotBegins } = whole;
    const isOurs = [events, stamps, changed, cleaned, parked].some(({ length }) => length > 0);
    return isOurs || slotBegins !== undefined ? whole : undefined;
  }
}

function nothing(): Open {
  return {
    ...{ endLsn: 0n, atMs: 0, events: [], stamps: [], changed: [], cleaned: [], parked: [] },
    slotBegins: undefined,
  };
}

/** `name[type]:value`, texts in quotes. */
function columnsOf(row: string): Map<string, string> {
  const columns = new Map<string, string>();
  for (const [, name = "", value = ""] of row.matchAll(
    / (\w+)\[[^\]]+\]:('(?:[^']|'')*'|[^ ]+)/g,
  )) {
    if (value === "null") continue;
    columns.set(name, value.startsWith("'") ? value.slice(1, -1).replaceAll("''", "'") : value);
  }
  return columns;
}

function bytesOf(hex: string): string {
  return Buffer.from(hex.replace(/^\\x/, ""), "hex").toString();
}

/** `COMMIT 741 (at 2026-01-02 03:04:05.678901+00)` */
function timeOf(data: string): number {
  const [, day, time, zone = ""] =
    /\(at (\S+) ([\d:]+(?:\.\d{1,3})?)\d*([+-]\d\d)/.exec(data) ?? [];
  return Date.parse(`${day}T${time}${zone}:00`);
}
