/**
 * `npm run bench:sequencer`: how fast an outbox drains into a Topic, how soon a commit is with a subscriber, and
 * what that takes of the sequencer's process. Exit code 0 only when every goal was reached.
 *
 * The yardstick of draining is decoding alone: the same slot's worth of changes read and dropped, by the same
 * client, in this process.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { ThroughlineClient } from "../../../client/client.ts";
import { PgOutput } from "../../../sequencer/pgoutput.ts";
import { openReplication } from "../../../sequencer/postgres.ts";
import { Replication } from "../../../sequencer/replication.ts";
import { openBed, type Shop } from "../../sequencer/bed.ts";
import { shipped } from "../../shipped.ts";
import { type Figure, quantile, reached, told } from "../figures.ts";
import { sequencer, server } from "./programs.ts";

const ROWS = 300_000;
const WRITERS = 8;
const LIVE_ROWS_PER_SECOND = 2000;
const LIVE_SECONDS = 20;
const WARM_SECONDS = 3;
const DECODED_SLOT = "decoded_alone";

const scratch = mkdtempSync(join(tmpdir(), "throughline-bench-sequencer-"));
const launch = shipped(scratch);
const bed = await openBed(true);
const all: Figure[] = [];
try {
  await drained("drain200", 200, { cpu: 12 });
  await drained("drain1024", 1024, {});
  await live();
} finally {
  await bed.stop();
  rmSync(scratch, { recursive: true, force: true });
}
process.exit(all.every((figure) => reached(figure) !== false) ? 0 : 1);

function tell(figures: readonly Figure[]): void {
  for (const figure of figures) console.log(told(figure));
  all.push(...figures);
}

async function drained(name: string, bytes: number, goal: { cpu?: number }): Promise<void> {
  console.log(
    `# ${ROWS} rows of ${bytes} B, ${WRITERS} writers, half of them in transactions of ten`,
  );
  const topic = `${name}t`;
  const shop = await bed.shop(name, [topic]);
  const first = sequencer(launch, bed, shop);
  await ready(shop);
  await first.end("SIGTERM");
  const decoded = `${DECODED_SLOT}_${name}`;
  await shop.sql.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [decoded]);
  await fill(shop, topic, bytes);
  const alone = await decodedAlone(shop, decoded);
  const running = sequencer(launch, bed, shop);
  await running.said("relaying");
  const [sinceMs, cpu] = [performance.now(), running.cpuSeconds()];
  await until(shop, ROWS);
  const seconds = (performance.now() - sinceMs) / 1000;
  tell([
    {
      ...{ what: "drained", unit: "rows/s", ours: [ROWS / seconds] },
      yardstick: { name: "decoding alone", values: [ROWS / alone] },
    },
    {
      ...{ what: "CPU of the sequencer per million", unit: "s" },
      ours: [((running.cpuSeconds() - cpu) / ROWS) * 1e6],
      ...(goal.cpu !== undefined && { goal: { atMost: goal.cpu } }),
    },
    { what: "RSS, peak", unit: "MB", ours: [running.peakRssMb()], goal: { atMost: 200 } },
  ]);
  await running.end("SIGTERM");
}

async function ready({ sql }: Shop): Promise<void> {
  for (;;) {
    const { rows } = await sql.query("select count(*)::int as count from throughline.slot");
    if (rows[0].count === 1) return;
    await pause(50);
  }
}

/** Half of the rows by themselves, half in tens. */
async function fill(shop: Shop, topic: string, bytes: number): Promise<void> {
  const each = ROWS / 2 / WRITERS;
  const insert = `insert into throughline.outbox (topic, key, payload) select '${topic}', 'k1234567', decode(repeat('ab', ${bytes}), 'hex')`;
  await Promise.all(
    Array.from({ length: WRITERS }, async () => {
      const client = await shop.connect();
      await client.query("set synchronous_commit = off");
      await client.query(
        `do $$ begin
           for i in 1..${each} loop ${insert}; commit;
             if i % 10 = 0 then ${insert} from generate_series(1, 10); commit; end if;
           end loop;
         end $$`,
      );
      await client.end();
    }),
  );
}

async function until({ sql }: Shop, count: number): Promise<void> {
  for (;;) {
    const { rows } = await sql.query(
      "select coalesce(sum(last_value), 0)::int as count from throughline.last_values",
    );
    if (rows[0].count >= count) return;
    await pause(20);
  }
}

/** @returns seconds. */
async function decodedAlone(shop: Shop, slot: string): Promise<number> {
  const client = await openReplication(shop.database);
  const sinceMs = performance.now();
  let rows = 0;
  await new Promise<void>((resolve) => {
    const output = new PgOutput({
      begin: () => {},
      insert: () => rows++,
      commit: () => {
        if (rows === ROWS) resolve();
      },
    });
    const replication = new Replication(client, slot, {
      change: (bytes, at, end) => output.message(bytes, at, end),
      pause: () => {
        if (rows === ROWS) replication.close();
      },
      ended: () => {},
    });
  });
  const seconds = (performance.now() - sinceMs) / 1000;
  await pause(500);
  await shop.sql.query("select pg_drop_replication_slot($1)", [slot]);
  return seconds;
}

async function live(): Promise<void> {
  console.log(`# ${LIVE_ROWS_PER_SECOND} rows of 200 B a second, to a subscriber`);
  const shop = await bed.shop("live", ["livet"]);
  const running = sequencer(launch, bed, shop);
  await ready(shop);
  const door = server(launch, bed);
  const { listen } = JSON.parse(await door.said('"serving"')) as { listen: string };
  const client = new ThroughlineClient([listen]);
  const total = LIVE_ROWS_PER_SECOND * LIVE_SECONDS;
  const tookMs: number[] = [];
  const subscribed = (async () => {
    let count = 0;
    for await (const { events } of client.subscribe({
      ...{ topic: "livet", start: { $case: "earliest", value: {} } as const },
    })) {
      const nowMs = Date.now();
      for (const { commitTimeMs } of events)
        if (count++ > LIVE_ROWS_PER_SECOND * WARM_SECONDS)
          tookMs.push(nowMs - Number(commitTimeMs));
      if (count >= total) return;
    }
  })();
  const [sinceMs, cpu] = [performance.now(), running.cpuSeconds()];
  await Promise.all(
    Array.from({ length: WRITERS }, async (_, i) => {
      const own = await shop.connect();
      for (let n = i; n < total; n += WRITERS) {
        const dueMs = sinceMs + (n / LIVE_ROWS_PER_SECOND) * 1000 - performance.now();
        if (dueMs > 1) await pause(dueMs);
        await own.query({
          name: "insert",
          text: "insert into throughline.outbox (topic, key, payload) values ('livet', 'k', $1)",
          values: [Buffer.alloc(200)],
        });
      }
    }),
  );
  await subscribed;
  const seconds = (performance.now() - sinceMs) / 1000;
  tell([
    {
      ...{ what: "commit to subscriber, p50", unit: "ms", ours: [quantile(tookMs, 0.5)] },
      goal: { atMost: 10 },
    },
    {
      ...{ what: "commit to subscriber, p99", unit: "ms", ours: [quantile(tookMs, 0.99)] },
      goal: { atMost: 50 },
    },
    {
      ...{ what: "cores of the sequencer", unit: "" },
      ours: [(running.cpuSeconds() - cpu) / seconds],
      goal: { atMost: 0.25 },
    },
    { what: "rows a second", unit: "", ours: [total / seconds] },
    { what: "RSS, peak", unit: "MB", ours: [running.peakRssMb()], goal: { atMost: 200 } },
  ]);
  client.close();
  await door.end("SIGTERM");
  await running.end("SIGTERM");
}
