/**
 * `npm run demo`: real flights and earthquakes through two servers that are killed in turn, and an audit
 * of what every client received against an independent read of the Kafka log. Then an outbox whose sequencer
 * is killed (`demo-outbox.ts`). Exit code 0 only when nothing is missing, repeated or out of order and the
 * dispatchers did their part.
 */
import { hostname } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { environment } from "./config.ts";
import { EARTHQUAKES, earthquakes, FLIGHTS, flights } from "./datasets.ts";
import { readTopic } from "./demo-audit.ts";
import { DemoClient } from "./demo-clients.ts";
import { DispatchCounters } from "./demo-counters.ts";
import { DemoKiller } from "./demo-killer.ts";
import { BOOKINGS, OUTBOX, outboxChapter } from "./demo-outbox.ts";
import { DemoPublisher, NamedDemoPublisher } from "./demo-publisher.ts";
import { type AuditedTopic, auditRows } from "./demo-report.ts";
import { DemoView, type Progress } from "./demo-view.ts";
import { onStopSignal } from "./stop-signals.ts";
import { type LocalServer, type LocalThroughline, startThroughline } from "./throughline.ts";

const HELP = `npm run demo: flights and earthquakes through two servers that are killed in turn, bookings out of a
PostgreSQL whose sequencer is killed, and an audit of both.

Environment: KAFKA_BROKERS (use a running Kafka), REDIS_URL (use a running Redis or Valkey),
POSTGRES_URL (use a running PostgreSQL, whose user may make databases and replicate), MAVEN_REPOSITORY,
npm_config_registry, JAVA_HOME, XDG_CACHE_HOME.
In a Kafka of yours it makes demo.flights, demo.earthquakes, demo.bookings and _throughline.demo.catalog, .publishers
and .progress, in a PostgreSQL of yours the database throughline_demo. It removes them at the end, and what an
interrupted run left when it starts.`;

const DEPLOYMENT_ID = "demo";
const RATE_PER_SECOND = 2000;
const BATCH = 100;
/** Small tails, so that a demo of seconds needs catch-up where production needs minutes of absence. */
const SERVER_FLAGS = ["--tail-partition-bytes", "64Ki", "--drain-ms", "500"];
const FINISH_MS = 30_000;
/** An earlier run that was killed needs a moment to end. */
const EARLIER_RUN_ENDS_MS = 15_000;
const SHOW_MS = 100;
const SUM_MS = 1000;

const root = join(import.meta.dirname, "..");
const view = new DemoView(process.stdout, () => performance.now());

const giveUp = new AbortController();
let throughline: LocalThroughline | undefined;
onStopSignal((exitCode) => {
  giveUp.abort();
  view.show([]);
  view.say("Interrupted; stopping what was started");
  if (throughline) void throughline.stop().finally(() => process.exit(exitCode));
});

try {
  const { values } = parseArgs({ options: { help: { type: "boolean", short: "h" } } });
  if (values.help) {
    console.log(HELP);
    process.exit(0);
  }
  throughline = await startThroughline({
    directory: join(root, ".throughline", "demo"),
    fresh: true,
    waitMs: EARLIER_RUN_ENDS_MS,
    topicsDirectory: join(root, "local", "topics"),
    servers: [
      { name: "A", port: 0 },
      { name: "B", port: 0 },
    ],
    namespace: "demo",
    deploymentId: DEPLOYMENT_ID,
    // In a Kafka that several people use, another's demo is refused rather than removed.
    clusterUid: `${hostname()}:${root}`,
    kafkaBrokers: environment.kafkaBrokers(),
    redisUrl: environment.redisUrl,
    outbox: {
      ...{ name: OUTBOX, postgresUrl: environment.postgresUrl() },
      sequencers: ["Sequencer 1", "Sequencer 2"],
    },
    temporary: true,
    serverFlags: SERVER_FLAGS,
    onLine: view.say,
    signal: giveUp.signal,
  });
  const passed = await demo(throughline);
  await throughline.stop();
  process.exit(passed ? 0 : 1);
} catch (error) {
  // What breaks while all is being stopped is no failure of its own.
  if (!giveUp.signal.aborted) {
    view.show([]);
    view.say(`The demo failed: ${(error as Error).message}`);
    await throughline?.stop();
    process.exit(1);
  }
  if (!throughline) process.exit(130);
}

async function demo(throughline: LocalThroughline): Promise<boolean> {
  const { brokers, servers, topics, sequencers, postgresUrl = "" } = throughline;
  for (const name of ["demo/flights", "demo/earthquakes", `demo/${BOOKINGS}`]) {
    if (!topics.get(name)?.ready) {
      throw new Error(
        `Topic ${name} is not Ready, see above. A Kafka topic of that name that is nobody's can be deleted; or use another Kafka.`,
      );
    }
  }
  const [a, b] = servers as [LocalServer, LocalServer];
  const addresses = [a.address, b.address];
  view.say(`Server A at ${a.address}, server B at ${b.address}`);
  view.say("Their tails hold 64 KiB, so that a client that is away for a second needs catch-up");
  const counters = new DispatchCounters(servers);
  const clients = [
    ...[1, 2, 3, 4].map((i) => new DemoClient(`live ${i}`, "flights", false, addresses)),
    ...[1, 2, 3].map((i) => new DemoClient(`slow ${i}`, "flights", true, addresses)),
    ...[1, 2].map((i) => {
      return new DemoClient(`session ${i}`, "flights", false, addresses, { name: `demo-${i}` });
    }),
    new DemoClient("quakes", "earthquakes", false, addresses),
  ];
  const crew = [1, 2].map((i) => {
    const session = { name: "demo-crew", mode: "shared" } as const;
    return new DemoClient(`crew ${i}`, "flights", false, addresses, session);
  });
  for (const client of [...clients, ...crew]) client.start();
  const publisher = new DemoPublisher();
  const seismograph = new NamedDemoPublisher(addresses, "earthquakes", "seismograph");
  const killer = new DemoKiller(a, b, clients, counters, view.say);

  const progress = (): Progress[] => [
    {
      ...{ name: "published", count: publisher.count("flights"), of: FLIGHTS },
      note: killer.down ? `server ${killer.down} is down` : "",
    },
    ...clients.map(({ name, topic, seen, paused }) => ({
      ...{ name, count: seen.length, of: topic === "flights" ? FLIGHTS : EARTHQUAKES },
      note: paused ? "takes nothing" : "",
    })),
  ];
  const timers = [
    setInterval(() => view.show(progress()), SHOW_MS),
    setInterval(() => view.sum(progress()), SUM_MS),
  ];
  try {
    await publishAll(publisher, seismograph, killer);
    await seismograph.settled();
    await killer.done();
    await complete(clients, crew);
  } finally {
    for (const timer of timers) clearInterval(timer);
  }
  await counters.read();
  counters.stop();
  for (const client of [...clients, ...crew]) await client.stop();
  publisher.close();
  seismograph.close();
  view.show([]);

  const booked = await outboxChapter({
    ...{ databaseUrl: postgresUrl, sequencers, addresses, view, signal: giveUp.signal },
  });
  view.say(
    "Audit: the clients' own records against the Kafka log, read by kafkajs; of the outbox against PostgreSQL's log, read by test_decoding",
  );
  const audited: AuditedTopic[] = [];
  for (const [name, known] of Object.entries({ flights: FLIGHTS, earthquakes: EARTHQUAKES })) {
    const log = await readTopic(brokers, `demo.${name}`);
    const acknowledged = name === "flights" ? publisher.count(name) : seismograph.acknowledged;
    audited.push({ name, known, acknowledged, log });
  }
  const named = { name: "seismograph", breaks: seismograph.breaks };
  const members = crew.map(({ seen }) => seen);
  const rows = [
    ...auditRows({
      crew: { topic: "flights", members },
      named,
      topics: audited,
      clients,
      kills: killer.kills,
      counts: counters.sum(),
    }),
    ...booked,
  ];
  for (const { good, text } of rows) view.say(`${good ? "ok  " : "FAIL"}  ${text}`);
  const passed = rows.every(({ good }) => good);
  view.say(passed ? "Every client received every event once, in order." : "The audit FAILED.");
  return passed;
}

/** Publishes both files side by side, paced, and lets the killer strike in between. */
async function publishAll(
  publisher: DemoPublisher,
  seismograph: NamedDemoPublisher,
  killer: DemoKiller,
): Promise<void> {
  const air = flights();
  const earth = earthquakes();
  const begunMs = performance.now();
  for (let sent = 0; sent < air.length; ) {
    giveUp.signal.throwIfAborted();
    await publisher.publish(killer.survivor, "flights", air.slice(sent, sent + BATCH));
    sent += BATCH;
    const quakesDue = Math.ceil((earth.length * sent) / air.length);
    const quakes = earth.slice(seismograph.sent, quakesDue);
    if (quakes.length > 0) seismograph.publish(quakes);
    if (seismograph.failure) throw seismograph.failure;
    await killer.at(sent);
    const dueMs = begunMs + (sent * 1000) / RATE_PER_SECOND - performance.now();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, dueMs)));
  }
}

async function complete(
  clients: readonly DemoClient[],
  crew: readonly DemoClient[],
): Promise<void> {
  const deadline = performance.now() + FINISH_MS;
  const together = (): number =>
    new Set(crew.flatMap(({ seen }) => seen.map((s) => `${s.partition}/${s.offset}`))).size;
  const all = (): boolean =>
    together() >= FLIGHTS &&
    clients.every(
      ({ topic, seen }) => seen.length >= (topic === "flights" ? FLIGHTS : EARTHQUAKES),
    );
  while (!all() && !clients.some(({ failure }) => failure) && performance.now() < deadline) {
    giveUp.signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
