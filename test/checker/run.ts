/**
 * `npm run check:handoff`: several servers and many clients as processes, three brokers and a real store
 * under faults on a seeded schedule; then every client's history is judged.
 *
 * Exit codes: 0 a valid run without anomalies, 1 anomalies or a wrong flag, 2 no anomaly but too little was
 * done to prove anything.
 */
// First: see there.
import "./aborted-in-order.ts";
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Launch, shipped } from "../shipped.ts";
import { VARIANTS } from "./broken/variants.ts";
import { pause } from "./clients/pace.ts";
import { PROCESSES, TOPICS } from "./clients/roster.ts";
import { clientsOwn, historiesIn, worldOf } from "./evidence.ts";
import { missing } from "./faults/kinds.ts";
import { type Planned, scheduleOf } from "./faults/schedule.ts";
import { Striker } from "./faults/strike.ts";
import { Field } from "./field.ts";
import { flagsOf } from "./flags.ts";
import { GroupWatch } from "./group-watch.ts";
import { nowMs } from "./history.ts";
import { judge } from "./judge/judge.ts";
import type { Sample } from "./judge/world.ts";
import { reportOf } from "./report.ts";
import { SessionWatch } from "./session-watch.ts";
import { Witness } from "./witness.ts";

const HELP = `npm run check:handoff -- --minutes M --seed S: handoff under fire, judged from outside.

  --minutes <m>   how long faults are done, 0.2 to 600 (default 20)
  --seed <s>      whole number; the same seed gives the same schedule (default: by chance, printed)
  --broken <name> servers in which one mechanism is broken on purpose: ${Object.keys(VARIANTS).join(", ")}
  --help

Exit code 0: valid, and no anomaly. 1: anomalies. 2: no anomaly, but too few faults for a proof.`;

/** README: the container limit that the defaults fit. */
const RSS_CAP_BYTES = 256 << 20;
const WARM_MS = 4000;
const SETTLE_MS = 8000;
const EVENTS_PER_SECOND = 500;

const flags = flagsOf("check:handoff", {
  help: HELP,
  minutes: 20,
  variants: Object.keys(VARIANTS),
});
const seed = flags.seed;
const schedule = scheduleOf(seed);
const folder = mkdtempSync(join(tmpdir(), "throughline-check-"));
const begun = performance.now();
function say(line: string): void {
  console.log(`${((performance.now() - begun) / 1000).toFixed(1).padStart(7)}  ${line}`);
}

say(`seed ${seed}, ${flags.minutes} minutes, everything in ${folder}`);
const field = await Field.open(folder, launchOf(flags.broken), say);
const witness = new Witness(field.kafka.brokers, field.log);
const groups = new GroupWatch(field);
const sessions = new SessionWatch(field);
const striker = new Striker(field, witness);
const samples: Sample[] = [];
const sampling = setInterval(() => {
  const atMs = nowMs();
  for (const sample of field.rss()) samples.push({ atMs, ...sample });
}, 1000);
await Promise.all([striker.open(), groups.open()]);
for (const { name, partitions } of TOPICS) {
  await witness.follow(name, await field.apply(name, partitions));
}
await field.startServers();
say(`${field.seats.length} servers are ready`);
const startedMs = nowMs();
for (const index of PROCESSES.keys()) field.startProcess(index);
sessions.open();
await pause(WARM_MS);
say(
  `${PROCESSES.flat().length} clients in ${PROCESSES.length} processes; ${witness.events} events`,
);

const deadline = performance.now() + flags.minutes * 60_000;
const left = (): number => deadline - performance.now();
async function lane(planned: readonly Planned[]): Promise<void> {
  for (const one of planned) {
    if (left() <= 0) return;
    const deed = await striker.strike(one);
    appendFileSync(join(folder, "deeds.jsonl"), `${JSON.stringify(deed)}\n`);
    say(`${deed.fault}: ${deed.target}, ${((deed.toMs - deed.fromMs) / 1000).toFixed(1)} s`);
    await pause(one.restMs);
  }
}
for (const { quick, slow, calmMs, toClients } of schedule) {
  if (left() <= 0) break;
  await Promise.all([lane(quick), lane(slow)]);
  say(`calm for ${calmMs / 1000} s; ${witness.events} events`);
  await pause(Math.min(calmMs, Math.max(left(), 0)));
  await lane(toClients);
}
const publishedMs = nowMs();
say("healed; publishers stop, everybody reads to the end");
await field.tell({ tell: "settle" });
for (const topic of field.topics.values()) await witness.holds(topic);
await pause(SETTLE_MS);
await field.tell({ tell: "finish" });
clearInterval(sampling);
await Promise.all([striker.close(), groups.close(), sessions.close()]);
await witness.close();
await field.close();

say("judging");
// Of the judge's evidence all lies in the folder then, for whoever looks into an anomaly.
const answers = { shown: groups.shown, stood: sessions.stood };
writeFileSync(join(folder, "answers.json"), JSON.stringify(answers));
const histories = join(folder, "histories");
const world = worldOf(histories, {
  ...{
    topics: witness.topics,
    deeds: striker.deeds,
    crashes: field.crashes,
    ...answers,
    samples,
    rssCapBytes: flags.broken === undefined ? RSS_CAP_BYTES : Number.POSITIVE_INFINITY,
  },
});
const verdict = judge(world, historiesIn(histories));
const faults = new Map<string, number>(clientsOwn(histories));
for (const { fault } of striker.deeds) faults.set(fault, (faults.get(fault) ?? 0) + 1);
const minutes = (publishedMs - startedMs) / 60_000;
const eventsPerSecond = world.acknowledged.size / (minutes * 60);
const tooFew = missing(faults);
if (eventsPerSecond < EVENTS_PER_SECOND) {
  tooFew.push(`events per second: ${eventsPerSecond.toFixed(0)} of ${EVENTS_PER_SECOND}`);
}
const outcome = { seed, minutes, faults, events: witness.events, eventsPerSecond, verdict };
console.log(reportOf({ ...outcome, missing: tooFew, folder: histories, startedMs }));
for (const name of ["kafka", "store", "dist"]) {
  rmSync(join(folder, name), { recursive: true, force: true });
}
const anomalies = [...verdict.counts.values()].reduce((sum, count) => sum + count, 0);
console.log(
  anomalies > 0
    ? `${anomalies} anomalies`
    : tooFew.length > 0
      ? "No anomaly, and no proof: too little was done"
      : "Valid: no anomaly",
);
process.exit(anomalies > 0 ? 1 : tooFew.length > 0 ? 2 : 0);

function launchOf(broken: string | undefined): Launch {
  if (broken === undefined) return shipped(folder);
  const root = join(import.meta.dirname, "../..");
  const entry = join(import.meta.dirname, "broken/server.ts");
  const command = ["--disable-warning=ExperimentalWarning", entry, broken];
  return { folder: root, command, environment: {} };
}
