/**
 * `npm run demo`: real flights and earthquakes through two servers that are killed in turn, and an audit
 * of what every client received against an independent read of the Kafka log. Exit code 0 only when
 * nothing is missing, repeated or out of order and the dispatchers did their part.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { environment } from "./config.ts";
import { EARTHQUAKES, earthquakes, FLIGHTS, flights } from "./datasets.ts";
import { judge, readTopic, type Seen, type Verdict } from "./demo-audit.ts";
import { DemoClient } from "./demo-clients.ts";
import { DispatchCounters } from "./demo-counters.ts";
import { DemoPublisher } from "./demo-publisher.ts";
import { type LocalServer, type LocalThroughline, startThroughline } from "./throughline.ts";

const RATE_PER_SECOND = 2000;
const BATCH = 100;
/** A server is killed when this many flights are published. */
const KILLS_AT = [3000, 6500, 10_000, 13_500, 17_000];
/** How long before a kill the slow clients stop taking. */
const PAUSE_EVENTS = 1500;
const LEAST_EVENTS_BETWEEN_KILLS = 100;
/** Small tails, so that a demo of seconds needs catch-up where production needs minutes of absence. */
const SERVER_FLAGS = ["--tail-partition-bytes", "64Ki"];
const FINISH_MS = 30_000;

const root = join(import.meta.dirname, "..");
const directory = join(root, ".throughline", "demo");
const started = performance.now();

const { values } = parseArgs({ options: { help: { type: "boolean", short: "h" } } });
if (values.help) {
  console.log(
    "npm run demo: flights and earthquakes through two servers that are killed in turn, with an audit.\n" +
      "Environment: KAFKA_BROKERS (use a running Kafka), MAVEN_REPOSITORY, JAVA_HOME, XDG_CACHE_HOME.",
  );
  process.exit(0);
}

function say(line: string): void {
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
  if (process.stdout.isTTY) process.stdout.write("\r\u001b[2K");
  console.log(`${seconds} s  ${line}`);
}

/** A person sees it change in place; a pipe gets a line a second from `view`. */
function show(line: string): void {
  if (process.stdout.isTTY) process.stdout.write(`\r\u001b[2K${line}`);
}

let throughline: LocalThroughline | undefined;
process.once("SIGINT", () => {
  void (throughline?.stop() ?? Promise.resolve()).finally(() => process.exit(130));
});

try {
  rmSync(directory, { recursive: true, force: true });
  throughline = await startThroughline({
    directory,
    topicsDirectory: join(root, "local", "topics"),
    servers: [
      { name: "A", port: 0 },
      { name: "B", port: 0 },
    ],
    namespace: "demo",
    kafkaBrokers: environment.kafkaBrokers,
    serverFlags: SERVER_FLAGS,
    onLine: say,
  });
  process.exitCode = await demo(throughline);
} catch (error) {
  say(`The demo failed: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  await throughline?.stop();
}
process.exit();

async function demo({ brokers, servers }: LocalThroughline): Promise<number> {
  const [a, b] = servers as [LocalServer, LocalServer];
  const addresses = [a.address, b.address];
  say(
    `Server A at ${a.address}, server B at ${b.address}; tails of 64 KiB so that catch-up is needed`,
  );
  const counters = new DispatchCounters(servers);
  const live = [1, 2, 3, 4].map((i) => new DemoClient(`live ${i}`, addresses));
  const slow = [1, 2, 3].map((i) => new DemoClient(`slow ${i}`, addresses));
  const quakes = new DemoClient("earthquakes", addresses);
  for (const client of live) client.start("flights", false);
  for (const client of slow) client.start("flights", true);
  quakes.start("earthquakes", false);
  const clients = [...live, ...slow, quakes];

  const view = setInterval(() => {
    const line = `received: ${clients.map((c) => `${c.name} ${c.seen.length}`).join(", ")}`;
    if (!process.stdout.isTTY) say(line);
  }, 1000);
  const between: number[] = [];
  let survivor = a;
  let victim = a;
  let restarting: Promise<void> = Promise.resolve();
  let mark = 0;
  const publisher = new DemoPublisher();
  const events = flights();
  const shaking = earthquakes();
  const kills = [...KILLS_AT];
  const begun = performance.now();
  for (let sent = 0; sent < events.length; sent += BATCH) {
    await publisher.publish(survivor, "flights", events.slice(sent, sent + BATCH));
    const quakesDue = Math.ceil((EARTHQUAKES * (sent + BATCH)) / events.length);
    await publisher.publish(
      survivor,
      "earthquakes",
      shaking.splice(0, quakesDue - publisher.quakes),
    );
    publisher.quakes = quakesDue;
    show(
      `published ${sent + BATCH} flights; ${clients.map((c) => `${c.name} ${c.seen.length}`).join(", ")}`,
    );
    const next = kills[0];
    if (next !== undefined && sent >= next - PAUSE_EVENTS)
      for (const client of slow) client.pause();
    if (next !== undefined && sent >= next) {
      kills.shift();
      await restarting;
      victim = survivor;
      survivor = victim === a ? b : a;
      between.push(Math.min(...live.map((client) => client.seen.length)) - mark);
      mark = Math.min(...live.map((client) => client.seen.length));
      await counters.read();
      say(`SIGKILL server ${victim.name} after ${sent + BATCH} flights`);
      const killed = victim;
      for (const client of clients) client.serverLost();
      restarting = killed
        .kill()
        .then(() => new Promise((resolve) => setTimeout(resolve, 500)))
        .then(() => killed.restart())
        .then(() => say(`Server ${killed.name} is back`));
      for (const client of slow) client.resume();
    }
    const due = begun + ((sent + BATCH) * 1000) / RATE_PER_SECOND;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
  }
  await restarting;
  const deadline = performance.now() + FINISH_MS;
  const complete = (): boolean =>
    clients.every((client) => client.seen.length >= (client === quakes ? EARTHQUAKES : FLIGHTS));
  while (!complete() && !clients.some(({ failure }) => failure) && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  between.push(Math.min(...live.map((client) => client.seen.length)) - mark);
  clearInterval(view);
  await counters.read();
  counters.stop();
  for (const client of clients) await client.stop();
  publisher.close();
  return report(brokers, clients, quakes, counters, between);
}

async function report(
  brokers: readonly string[],
  clients: readonly DemoClient[],
  quakes: DemoClient,
  counters: DispatchCounters,
  between: readonly number[],
): Promise<number> {
  say("Audit: reading the Kafka log with kafkajs");
  const logs = new Map<string, Seen[]>();
  for (const topic of ["demo.flights", "demo.earthquakes"]) {
    logs.set(topic, await readTopic(brokers, topic));
  }
  const flightLog = logs.get("demo.flights") ?? [];
  const quakeLog = logs.get("demo.earthquakes") ?? [];
  const total: Verdict = { received: 0, missing: 0, repeated: 0, outOfOrder: 0, different: 0 };
  for (const client of clients) {
    const verdict = judge(client === quakes ? quakeLog : flightLog, client.seen);
    if (client.failure) say(`${client.name} failed: ${client.failure.message}`);
    for (const key of Object.keys(total) as (keyof Verdict)[]) total[key] += verdict[key];
  }
  const takeovers = clients.flatMap((client) => client.takeoversMs).toSorted((x, y) => x - y);
  const ms = (at: number): string => (takeovers[at] ?? Number.NaN).toFixed(0);
  const { made, shared, queued, merges } = counters.sum();
  const rows: [string, string | number, boolean][] = [
    ["flights in the log", `${flightLog.length} of ${FLIGHTS}`, flightLog.length === FLIGHTS],
    [
      "earthquakes in the log",
      `${quakeLog.length} of ${EARTHQUAKES}`,
      quakeLog.length === EARTHQUAKES,
    ],
    [`received by ${clients.length} clients`, total.received, true],
    ["missing", total.missing, total.missing === 0],
    ["repeated", total.repeated, total.repeated === 0],
    ["out of order", total.outOfOrder, total.outOfOrder === 0],
    ["different content", total.different, total.different === 0],
    ["servers killed", KILLS_AT.length, true],
    [
      "events between kills, at least",
      Math.min(...between),
      Math.min(...between) >= LEAST_EVENTS_BETWEEN_KILLS,
    ],
    [
      `takeover of ${takeovers.length} streams, min / median / max`,
      `${ms(0)} / ${ms(takeovers.length >> 1)} / ${ms(takeovers.length - 1)} ms`,
      takeovers.length >= KILLS_AT.length,
    ],
    ["catch-up dispatchers made", made, made > 0],
    ["clients that shared one", shared, shared > 0],
    ["events queued meanwhile", queued, queued > 0],
    ["merges", merges, merges > 0],
  ];
  for (const [name, value, good] of rows) say(`${good ? "ok  " : "FAIL"}  ${name}: ${value}`);
  const passed = rows.every(([, , good]) => good) && clients.every(({ failure }) => !failure);
  say(passed ? "Every client received every event once, in order." : "The audit FAILED.");
  return passed ? 0 : 1;
}
