/**
 * Reads the database's own word while it goes on: a slot of its own, read by test_decoding, which is PostgreSQL's
 * and not ours. It is looked at before it is moved on, so that a database that dies in between tells it again.
 */
import type pg from "pg";
import { pause } from "../clients/pace.ts";
import { type Transaction, WordParser } from "./judge/word.ts";

export const WORD_SLOT = "word";
const EVERY_MS = 1500;
/** A transaction is whole, however large. */
const ROWS = 20_000;

export class WordWatch {
  readonly transactions: Transaction[] = [];
  readonly #connect: () => Promise<pg.Client>;
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();
  /** Looks one after the other. */
  #turn: Promise<void> = Promise.resolve();
  #client: pg.Client | undefined;
  #readTo = 0n;

  /** @param connect as superuser, to the database that is the true one now. */
  constructor(connect: () => Promise<pg.Client>) {
    this.#connect = connect;
  }

  open(): void {
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await this.#client?.end().catch(() => {});
  }

  /** Nothing is read while it lasts: the database is another one, or none. */
  without<T>(doing: () => Promise<T>): Promise<T> {
    return this.#inTurn(doing);
  }

  /** Reads all that is committed now. @throws when the database cannot tell. */
  catchUp(): Promise<void> {
    return this.#inTurn(() => this.#read());
  }

  #inTurn<T>(doing: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(doing);
    this.#turn = done.then(
      () => {},
      () => {},
    );
    return done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      // A database that is down tells it later.
      await this.catchUp().catch(() => {});
      await pause(EVERY_MS, signal);
    }
  }

  async #read(): Promise<void> {
    try {
      this.#client ??= await this.#connect();
      const { rows } = await this.#client.query("select pg_current_wal_lsn()::text as lsn");
      while (await this.#readSome(this.#client, rows[0].lsn));
    } catch (error) {
      await this.#client?.end().catch(() => {});
      this.#client = undefined;
      throw error;
    }
  }

  /** @returns whether there may be more up to there. */
  async #readSome(client: pg.Client, upTo: string): Promise<boolean> {
    const { rows } = await client.query({
      text: `select lsn::text, data from pg_logical_slot_peek_changes($1, $2::text::pg_lsn, $3,
          'include-timestamp', '1', 'skip-empty-xacts', '1')
        where data ~ '^(COMMIT|table throughline[.](outbox|order_values|parked|slot): )'`,
      values: [WORD_SLOT, upTo, ROWS],
      rowMode: "array",
    });
    const parser = new WordParser();
    let last: string | undefined;
    for (const [lsn, data] of rows as [string, string][]) {
      const transaction = parser.take(lsn, data);
      if (data.startsWith("COMMIT")) last = lsn;
      if (!transaction || transaction.endLsn <= this.#readTo) continue;
      this.#readTo = transaction.endLsn;
      this.transactions.push(transaction);
    }
    if (last === undefined) return false;
    await client.query("select pg_replication_slot_advance($1, $2::text::pg_lsn)", [
      ...[WORD_SLOT, last],
    ]);
    return true;
  }
}
