/**
 * Apps that write at once: transactions of random lengths, some rolled back, some in part (savepoints), over
 * several topics, by INSERT and by publish(). A seed makes the same choices again, not the same timing.
 */
import type pg from "pg";

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
    const below = (limit: number): number => Math.floor(random() * limit);
    let committed = 0;
    while (!stopped) {
      await client.query("begin");
      const events = random() < 0.05 ? 200 + below(400) : 1 + below(8);
      for (let left = events; left > 0; ) {
        const some = Math.min(left, 1 + below(events > 100 ? 100 : 3));
        const topic = topics[below(topics.length)] as string;
        const isSaved = random() < 0.3;
        if (isSaved) await client.query("savepoint s");
        if (random() < 0.5)
          await client.query(
            "insert into throughline.outbox (topic, type, payload) select $1, 'made', convert_to(gen_random_uuid()::text, 'UTF8') from generate_series(1, $2)",
            [topic, some],
          );
        else
          await client.query(
            "select throughline.publish($1, 'made', 'k', convert_to(gen_random_uuid()::text, 'UTF8')) from generate_series(1, $2)",
            [topic, some],
          );
        if (isSaved)
          await client.query(random() < 0.5 ? "rollback to savepoint s" : "release savepoint s");
        left -= some;
        // Others commit meanwhile.
        await client.query("select pg_sleep($1)", [random() * 0.01]);
      }
      const isKept = random() > 0.2;
      await client.query(isKept ? "commit" : "rollback");
      if (isKept) committed++;
    }
    return committed;
  });
  return {
    stop: async () => {
      stopped = true;
      return (await Promise.all(working)).reduce((sum, count) => sum + count, 0);
    },
  };
}

/** mulberry32 */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
