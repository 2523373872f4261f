/**
 * Apps that write at once: transactions of random lengths, some rolled back, some in part (savepoints), some
 * prepared, over several topics, by INSERT, by publish() and by COPY. A seed makes the same choices again, not the
 * same timing.
 */

import { randomUUID } from "node:crypto";
import type pg from "pg";
import { randomFrom } from "../../local/seeded-random.ts";

export interface Writers {
  /** Ends them when their transactions are over. @returns how many transactions were committed. */
  stop(): Promise<number>;
}

export function startWriters(
  clients: readonly pg.Client[],
  topics: readonly string[],
  seed: number,
): Writers {
  let stopped = false;
  const working = clients.map(async (client, i) => {
    const random = randomFrom(seed * 1000 + i);
    let committed = 0;
    while (!stopped) if (await transact(client, topics, random, `writer-${i}`)) committed++;
    return committed;
  });
  return {
    stop: async () => {
      stopped = true;
      return (await Promise.all(working)).reduce((sum, count) => sum + count, 0);
    },
  };
}

/** One transaction. @param name begins the names of what it prepares. @returns whether it was committed. */
export async function transact(
  client: pg.Client,
  topics: readonly string[],
  random: () => number,
  name: string,
): Promise<boolean> {
  const below = (limit: number): number => Math.floor(random() * limit);
  // Others commit meanwhile.
  const wait = () => client.query("select pg_sleep($1)", [random() * 0.01]);
  await client.query("begin");
  const events = random() < 0.05 ? 200 + below(400) : 1 + below(8);
  for (let left = events; left > 0; ) {
    const some = Math.min(left, 1 + below(events > 100 ? 100 : 3));
    const isSaved = random() < 0.3;
    if (isSaved) await client.query("savepoint s");
    await insert(client, topics[below(topics.length)] as string, some, random());
    if (isSaved)
      await client.query(random() < 0.5 ? "rollback to savepoint s" : "release savepoint s");
    left -= some;
    await wait();
  }
  const isKept = random() > 0.2;
  const end = isKept ? "commit" : "rollback";
  if (random() < 0.15) {
    const prepared = `${name}-${randomUUID()}`;
    await client.query(`prepare transaction '${prepared}'`);
    await wait();
    await client.query(`${end} prepared '${prepared}'`);
  } else {
    await client.query(end);
  }
  return isKept;
}

/** What was prepared under this name and left so is kept or undone: nobody else will. */
export async function settle(client: pg.Client, name: string, random: () => number): Promise<void> {
  const { rows } = await client.query(
    "select gid from pg_prepared_xacts where starts_with(gid, $1)",
    [name],
  );
  for (const { gid } of rows)
    await client.query(`${random() < 0.5 ? "commit" : "rollback"} prepared '${gid}'`);
}

async function insert(client: pg.Client, topic: string, count: number, way: number): Promise<void> {
  if (way < 0.4)
    await client.query(
      "insert into throughline.outbox (topic, type, payload) select $1, 'made', convert_to(gen_random_uuid()::text, 'UTF8') from generate_series(1, $2)",
      [topic, count],
    );
  else if (way < 0.8)
    await client.query(
      "select throughline.publish($1, 'made', 'k', convert_to(gen_random_uuid()::text, 'UTF8')) from generate_series(1, $2)",
      [topic, count],
    );
  else {
    const row = () => `${topic}\tmade\t\\\\x${Buffer.from(randomUUID()).toString("hex")}\n`;
    const rows = Array.from({ length: count }, row).join("");
    await copyIn(client, "copy throughline.outbox (topic, type, payload) from stdin", rows);
  }
}

/** The driver has no COPY of its own; it takes anything that can hear its answers. */
function copyIn(client: pg.Client, text: string, rows: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const copy = {
      submit: (connection: pg.Connection) => connection.query(text),
      handleCopyInResponse: (connection: CopyConnection) => {
        connection.sendCopyFromChunk(Buffer.from(rows));
        connection.endCopyFrom();
      },
      handleCommandComplete: () => {},
      handleError: reject,
      handleReadyForQuery: resolve,
    };
    client.query(copy as never);
  });
}

interface CopyConnection {
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}
