/**
 * Logical decoding's output (pure): pgoutput, protocol version 1, values in binary, of one table, inserts only.
 * https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 *
 * Columns are found by name, so that others may be added to the table. A column that is missing, or has
 * another type, is `TableChanged`: nothing is guessed. Keys, payloads and headers point into the bytes given.
 */
import { FailClosed } from "./fail-closed.ts";

/** A transaction that was committed. */
export interface Commit {
  /** LSN of the commit record. */
  readonly id: bigint;
  /** Microseconds since 2000-01-01 UTC, as PostgreSQL has it. */
  readonly timeUs: bigint;
}

/** A row of the outbox, in the bytes of its columns. */
export interface OutboxRow {
  readonly id: bigint;
  readonly topic: string;
  readonly type: Buffer;
  readonly key: Buffer | null;
  readonly payload: Buffer | null;
  /** JSON text. */
  readonly headers: Buffer | null;
}

export interface Changes {
  begin(commit: Commit): void;
  insert(row: OutboxRow): void;
  /** The transaction is whole; `endLsn` is where the log goes on after it. */
  commit(endLsn: bigint): void;
}

/** Columns of the outbox and their types, by PostgreSQL's number. */
const COLUMNS = { id: 20, topic: 25, type: 25, key: 25, payload: 17, headers: 3802 } as const;
type Column = keyof typeof COLUMNS;
const NAMES = Object.keys(COLUMNS) as Column[];

const BEGIN = 0x42;
const COMMIT = 0x43;
const INSERT = 0x49;
const RELATION = 0x52;
const IGNORED = [0x59 /* type */, 0x4f /* origin */, 0x54 /* truncate: no row is undone */];
const NULL = 0x6e;
const BINARY = 0x62;
const NOTHING = Buffer.alloc(0);

export class PgOutput {
  readonly #to: Changes;
  /** By the number of a relation: which value is which column. */
  readonly #relations = new Map<number, readonly (Column | undefined)[]>();
  #relation = 0;
  #columns: readonly (Column | undefined)[] = [];
  #topic = "";
  #topicBytes: Buffer = NOTHING;
  #type: Buffer = NOTHING;
  /** Of the bytes that were given last. */
  #bytes: Buffer = NOTHING;
  #view = viewOf(NOTHING);

  constructor(to: Changes) {
    this.#to = to;
  }

  /** @throws FailClosed when the table is not the outbox that we know. */
  message(bytes: Buffer, at: number, end: number): void {
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#view = viewOf(bytes);
    }
    const kind = bytes[at] as number;
    if (kind === INSERT) this.#insert(bytes, at + 1, end);
    else if (kind === BEGIN)
      this.#to.begin({
        id: this.#view.getBigUint64(at + 1),
        timeUs: this.#view.getBigInt64(at + 9),
      });
    else if (kind === COMMIT) this.#to.commit(this.#view.getBigUint64(at + 10));
    else if (kind === RELATION) this.#described(bytes, at + 1);
    else if (!IGNORED.includes(kind))
      throw new FailClosed(
        "PublicationChanged",
        `PostgreSQL sent a change of kind "${String.fromCharCode(kind)}", and of the outbox only inserts are published. Make the publication as sequencer/schema.sql does.`,
      );
  }

  #described(bytes: Buffer, start: number): void {
    const relation = bytes.readUInt32BE(start);
    const namespace = textAt(bytes, start + 4);
    const name = textAt(bytes, namespace.end);
    const table = `${namespace.text}.${name.text}`;
    if (table !== "throughline.outbox")
      throw new FailClosed(
        "PublicationChanged",
        `The publication has the table ${table}; it must have throughline.outbox alone.`,
      );
    let at = name.end + 1;
    const count = bytes.readInt16BE(at);
    at += 2;
    const columns: (Column | undefined)[] = [];
    for (let i = 0; i < count; i++) {
      const column = textAt(bytes, at + 1);
      const type = bytes.readUInt32BE(column.end);
      const known = NAMES.find((one) => one === column.text);
      if (known && type !== COLUMNS[known]) throw changed(`column ${known} has another type`);
      columns.push(known);
      at = column.end + 8;
    }
    for (const one of NAMES) if (!columns.includes(one)) throw changed(`it has no column ${one}`);
    this.#relations.set(relation, columns);
    this.#relation = -1;
  }

  #insert(bytes: Buffer, start: number, end: number): void {
    const view = this.#view;
    const relation = view.getUint32(start);
    if (relation !== this.#relation) {
      const columns = this.#relations.get(relation);
      if (!columns) throw new Error(`PostgreSQL sent a row of relation ${relation}, undescribed`);
      this.#relation = relation;
      this.#columns = columns;
    }
    const columns = this.#columns;
    let id = -1n;
    let topic = "";
    let type: Buffer | undefined;
    let key: Buffer | null = null;
    let payload: Buffer | null = null;
    let headers: Buffer | null = null;
    // Relation, "N", number of columns.
    let at = start + 7;
    for (let i = 0; i < columns.length; i++) {
      const kind = bytes[at++];
      if (kind === NULL) continue;
      if (kind !== BINARY) throw changed(`a value of ${columns[i]} came in another form`);
      const from = at + 4;
      at = from + view.getInt32(at);
      switch (columns[i]) {
        case "id":
          id = view.getBigInt64(from);
          break;
        case "topic":
          topic = this.#topicOf(bytes, from, at);
          break;
        case "type":
          type = this.#typeOf(bytes, from, at);
          break;
        case "key":
          key = bytes.subarray(from, at);
          break;
        case "payload":
          payload = bytes.subarray(from, at);
          break;
        case "headers":
          // After the number of jsonb's format.
          headers = bytes.subarray(from + 1, at);
          break;
      }
    }
    if (at !== end || id < 0n || type === undefined)
      throw changed("a row came without its id or type");
    this.#to.insert({ id, topic, type, key, payload, headers });
  }

  /** Mostly that of the row before. */
  #topicOf(bytes: Buffer, from: number, to: number): string {
    if (!isSame(this.#topicBytes, bytes, from, to)) {
      this.#topicBytes = Buffer.from(bytes.subarray(from, to));
      this.#topic = this.#topicBytes.toString("utf8");
    }
    return this.#topic;
  }

  /** As well. */
  #typeOf(bytes: Buffer, from: number, to: number): Buffer {
    if (!isSame(this.#type, bytes, from, to)) this.#type = Buffer.from(bytes.subarray(from, to));
    return this.#type;
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Buffer): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

/** They are short: a call costs more. */
function isSame(known: Buffer, bytes: Buffer, from: number, to: number): boolean {
  if (known.length !== to - from) return false;
  for (let i = 0; i < known.length; i++) if (known[i] !== bytes[from + i]) return false;
  return true;
}

function changed(how: string): FailClosed {
  return new FailClosed(
    "TableChanged",
    `The table throughline.outbox is not as sequencer/schema.sql makes it: ${how}. Put it back; columns may be added. What was inserted meanwhile only a new slot reads: run the sequencer with --do forget-slot, and what waits is numbered in the order of ids, not of commits.`,
  );
}

function textAt(bytes: Buffer, start: number): { text: string; end: number } {
  const end = bytes.indexOf(0, start);
  return { text: bytes.toString("utf8", start, end), end: end + 1 };
}
