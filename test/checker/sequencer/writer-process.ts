/**
 * Apps of one process: each writes transactions on a connection of its own, and comes back when that breaks. Some
 * topics are written all the time, others now and then, so that their logs may be empty in between.
 */
import pg from "pg";
import { randomFrom } from "../../../local/seeded-random.ts";
import { settle, transact } from "../../sequencer/writers.ts";
import { pause } from "../clients/pace.ts";

export interface WriterOrder {
  readonly name: string;
  readonly url: string;
  readonly seed: number;
  readonly connections: number;
  readonly busy: readonly string[];
  /** Written only in the first part of each period. */
  readonly seldom: readonly string[];
}

const PERIOD_MS = 9000;
const SELDOM_MS = 1500;
const REST_MS = 700;
const BACK_MS = 300;

const order = JSON.parse(process.argv[2] ?? "") as WriterOrder;
const stopping = new AbortController();
const { signal } = stopping;

async function write(index: number): Promise<void> {
  const random = randomFrom(order.seed * 1000 + index);
  const name = `${order.name}-${index}-`;
  while (!signal.aborted) {
    const client = new pg.Client({ connectionString: order.url, keepAlive: true });
    client.on("error", () => {});
    try {
      await client.connect();
      await settle(client, name, random);
      while (!signal.aborted) {
        await transact(client, topicsNow(), random, name);
        await pause(random() * REST_MS, signal);
      }
    } catch {
      // The database is down, or was.
      await pause(BACK_MS, signal);
    }
    await client.end().catch(() => {});
  }
}

/** Once more in peace: what was prepared is settled, or the next slot could never be made. */
async function leave(): Promise<void> {
  const client = new pg.Client(order.url);
  await client.connect();
  await settle(client, order.name, () => 0);
  await client.end();
}

function topicsNow(): readonly string[] {
  const { busy, seldom } = order;
  return Date.now() % PERIOD_MS < SELDOM_MS ? [...busy, ...seldom] : busy;
}

const writing = Array.from({ length: order.connections }, (_, i) => write(i));
process.on("message", async () => {
  stopping.abort();
  await Promise.all(writing);
  await leave();
  process.exit(0);
});
process.on("disconnect", () => process.exit(0));
