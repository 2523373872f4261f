/**
 * `npm run check:sequencer`: apps that write to a PostgreSQL, two sequencers, three brokers and subscribers, under
 * faults on a seeded schedule; then the database's own log is held beside stamps, Kafka and what was delivered (P8).
 *
 * Exit codes: 0 a valid run without anomalies, 1 anomalies or a wrong flag, 2 no anomaly but too little was
 * done to prove anything.
 */
// First: see there.
import "../aborted-in-order.ts";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pause } from "../clients/pace.ts";
import { flagsOf } from "../flags.ts";
import { missing } from "./faults/kinds.ts";
import { scheduleOf } from "./faults/schedule.ts";
import { Striker } from "./faults/strike.ts";
import { Field, TOPICS } from "./field.ts";
import { judge } from "./judge/judge.ts";
import { keepHistory, reportOf } from "./report.ts";
import { within } from "./seat.ts";
import { LogWatch, Subscribers } from "./topic-watch.ts";
import { VARIANTS } from "./variants.ts";
import { WordWatch } from "./word-watch.ts";

const variants = Object.keys(VARIANTS);
const HELP = `npm run check:sequencer -- --minutes M --seed S: commit order under fire, judged by the database's own log.

  --minutes <m>   how long faults are done, 0.2 to 600 (default 15)
  --seed <s>      whole number; the same seed gives the same schedule (default: by chance, printed)
  --broken <name> sequencers in which one mechanism is broken on purpose, under what brings its harm about:
                  ${variants.join(", ")}
  --help

Exit code 0: valid, and no anomaly. 1: anomalies. 2: no anomaly, but too few faults for a proof.`;

const WARM_MS = 3000;
/** For what is on its way when all is healed and nobody writes any more. */
const THROUGH_MS = 60_000;
const SETTLE_MS = 3000;

// What was started ends with us then.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
const { seed, minutes, broken } = flagsOf("check:sequencer", { help: HELP, minutes: 15, variants });
const folder = mkdtempSync(join(tmpdir(), "throughline-check-sequencer-"));
// PostgreSQL runs as another user than root.
chmodSync(folder, 0o755);
const begunMs = Date.now();
function say(line: string): void {
  console.log(`${((Date.now() - begunMs) / 1000).toFixed(1).padStart(7)}  ${line}`);
}

say(
  `seed ${seed}, ${minutes} minutes${broken ? `, broken: ${broken}` : ""}, all of it in ${folder}`,
);
const field = await Field.open(folder, broken, say);
await field.start();
const word = new WordWatch(() => field.database.connect());
const log = new LogWatch(field.kafka.brokers);
const subscribers = new Subscribers([field.server?.address ?? ""]);
for (const topic of TOPICS) {
  await log.open(topic, field.kafkaTopic(topic));
  subscribers.open(topic);
}
const watched = [...log.watched, ...subscribers.watched];
const striker = new Striker(field, word, watched);
await striker.open();
word.open();
await field.isAtWork(THROUGH_MS);
field.startWriters(seed);
await pause(WARM_MS);
say(`${field.seats.map(({ name, standing }) => `${name} is ${standing.kind}`).join(", ")}`);

const variant = broken === undefined ? undefined : VARIANTS[broken];
const startedMs = Date.now();
const deadlineMs = startedMs + minutes * 60_000;
for (const planned of scheduleOf(seed, variant?.shownBy)) {
  if (Date.now() > deadlineMs) break;
  const { fault, target, stop, fromMs, toMs } = await striker.strike(planned);
  const said = stop ? `, stopped with ${stop.said || "nothing"}` : "";
  say(`${fault}: ${target}${said}, ${((toMs - fromMs) / 1000).toFixed(1)} s`);
  await pause(Math.min(planned.restMs, Math.max(0, deadlineMs - Date.now())));
}
const struckMinutes = (Date.now() - startedMs) / 60_000;
say("healed; writers stop, everything goes through");
await field.stopWriters();
await word.catchUp();
const committed = new Map(TOPICS.map((topic) => [topic, 0]));
for (const { events } of word.transactions)
  for (const { topic } of events) committed.set(topic, (committed.get(topic) ?? 0) + 1);
await within(THROUGH_MS, () =>
  watched.every(({ topic, events }) => events.length >= (committed.get(topic) ?? 0)),
);
// What is sent once too often comes then.
await pause(SETTLE_MS);
await field.stopSequencers();
await word.catchUp();
const shown = await field.database.ask(
  "select event_id, sequence, commit_id from throughline.order_values",
);
await striker.close();
await Promise.all([word.close(), log.close(), subscribers.close()]);
await field.close();

say("judging");
const evidence = {
  ...{ word: word.transactions, watched, deeds: striker.deeds, ends: subscribers.ends },
  stops: field.seats.flatMap(({ stops }) => stops),
  crashes: field.seats.flatMap(({ crashes }) => crashes),
  shown: shown.map((row) => ({
    eventId: BigInt(row["event_id"]),
    sequence: Number(row["sequence"]),
    commitId: BigInt(row["commit_id"]),
  })),
};
const verdict = judge(evidence);
const faults = new Map<string, number>();
for (const { fault } of striker.deeds) faults.set(fault, (faults.get(fault) ?? 0) + 1);
const tooFew = missing(struckMinutes, faults, verdict);
console.log(reportOf({ seed, minutes: struckMinutes, faults, verdict, missing: tooFew }));
const anomalies = [...verdict.counts.values()].reduce((sum, count) => sum + count, 0);
if (anomalies > 0) {
  keepHistory(folder, evidence, field.seats);
  console.log(`${anomalies} anomalies; histories are in ${folder}. Replay: --seed ${seed}`);
} else {
  rmSync(folder, { recursive: true, force: true });
  console.log(
    tooFew.length > 0 ? "No anomaly, and no proof: too little was done" : "Valid: no anomaly",
  );
}
process.exit(anomalies > 0 ? 1 : tooFew.length > 0 ? 2 : 0);
