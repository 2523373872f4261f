/**
 * `npm run bench:operator`: how soon Topics of a real API server are true in a real Kafka, and what that takes.
 * Exit code 0 only when every goal was reached.
 */
import { parseArgs } from "node:util";
import { type Figure, quantile, reached, told } from "../figures.ts";
import { untilStopped } from "../until-stopped.ts";
import { type BenchOperator, inLanes, OperatorBed, OTHER, WATCHED } from "./operator-bed.ts";

/** Java compiles what runs often, and is not done with it before. */
const WARM = 200;
/** Of a hundred the last percent would be the slowest one. */
const IDLE = 300;
const FEW = 200;
const MANY = 1000;
const SINGLE = 50;
const DRIFTED = 20;
const CACHED = 10_000;
const MIB = 1 << 20;
const BARE = "made in both and told, without an operator";

const names = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${prefix}-${i}`);

const seconds = (sinceMs: number): number => (performance.now() - sinceMs) / 1000;

function tell(heading: string, figures: readonly Figure[]): void {
  console.log(`# ${heading}`);
  for (const figure of figures) console.log(told(figure));
  all.push(...figures);
}

const { values } = parseArgs({
  options: { help: { type: "boolean", short: "h", default: false } },
});
if (values.help) {
  console.log(
    "npm run bench:operator: Topics of a real API server, until they are true in a real Kafka.",
  );
  process.exit(0);
}
const all: Figure[] = [];
const begunMs = performance.now();
const bed = await untilStopped(OperatorBed.start(console.log));
try {
  let operator = await bed.startOperator();
  await bed.apply(names("warm", WARM)).ready;
  tell("one on an idle operator", await idle());
  tell(`${FEW} at once`, await few());
  tell(`${MANY} at once`, await many(operator));
  await operator.stop();
  operator = await bed.startOperator();
  tell("an operator that begins", await begins(operator));
  tell("drift", await drift());
  tell("size", await size(operator));
  await operator.stop();
} finally {
  await bed.stop();
}
const missed = all.filter((figure) => reached(figure) === false).length;
const took = ((performance.now() - begunMs) / 60_000).toFixed(1);
console.log(
  `${missed === 0 ? "Every goal was reached" : `${missed} goals were missed`} (${took} minutes)`,
);
process.exit(missed === 0 ? 0 : 1);

/** One after the other. */
async function idle(): Promise<Figure[]> {
  const bareMs: number[] = [];
  for (const name of names("idle", IDLE)) {
    const sinceMs = performance.now();
    await bed.bare(name);
    bareMs.push(performance.now() - sinceMs);
  }
  const tookMs = await bed.applyOneByOne(names("idle", IDLE));
  const figure = (what: string, of: (all: readonly number[]) => number): Figure => ({
    ...{ what: `apply to Ready, ${what}`, unit: "ms", ours: [of(tookMs)] },
    yardstick: { name: BARE, values: [of(bareMs)] },
  });
  return [
    figure("p50", (all) => quantile(all, 0.5)),
    { ...figure("p99", (all) => quantile(all, 0.99)), goal: { atMost: 100 } },
    figure("slowest", (all) => Math.max(...all)),
  ];
}

async function few(): Promise<Figure[]> {
  const bareMs = performance.now();
  await inLanes(names("few", FEW), (name) => bed.bare(name));
  const bare = seconds(bareMs);
  const sinceMs = performance.now();
  const tookMs = await bed.apply(names("few", FEW)).ready;
  const ours = seconds(sinceMs);
  const yardstick = { name: BARE, values: [bare] };
  return [
    { what: "until all are Ready", unit: "s", ours: [ours], yardstick, goal: { atMost: 4 } },
    {
      ...{ what: "each, p99", unit: "s", ours: [quantile(tookMs, 0.99) / 1000] },
      goal: { atMost: 2 },
    },
  ];
}

async function many(operator: BenchOperator): Promise<Figure[]> {
  const counts = ["api", "kafka"] as const;
  const count = (of: string): Promise<number> =>
    operator.metric(`throughline_operator_${of}_requests_total`);
  const looks = (): Promise<number> =>
    operator.metric("throughline_operator_reconcile_seconds_count");
  const countedBefore = await Promise.all(counts.map(count));
  const looksBefore = await looks();
  const sinceMs = performance.now();
  const { applied, ready } = bed.apply(names("many", MANY));
  let areApplied = false;
  void applied.then(() => {
    areApplied = true;
  });
  const ofOthers = bed.applyOneByOne(names("single", SINGLE), OTHER);
  const before: number[] = [];
  const after: number[] = [];
  for (const name of names("single", SINGLE))
    (areApplied ? after : before).push(...(await bed.applyOneByOne([name])));
  const othersMs = await ofOthers;
  await ready;
  const ours = seconds(sinceMs);
  const counted = await Promise.all(counts.map(count));
  const looked = (await looks()) - looksBefore;
  const of = MANY + 2 * SINGLE;
  const each = counted.map((total, i) => (total - (countedBefore[i] as number)) / of);
  const p99 = (tookMs: readonly number[]): number[] => [quantile(tookMs, 0.99) / 1000];
  const goal = { atMost: 1 };
  return [
    {
      what: `until all are Ready, ${2 * SINGLE} single ones too`,
      unit: "s",
      ours: [ours],
      goal: { atMost: 20 },
    },
    {
      ...{ what: "a single one of another namespace meanwhile, p99", unit: "s" },
      ...{ ours: p99(othersMs), goal },
    },
    {
      ...{
        what: `a single one of theirs, once they are applied (${after.length}), p99`,
        unit: "s",
      },
      ...{ ours: p99(after), goal },
    },
    {
      ...{ what: `a single one of theirs, among them (${before.length}), slowest`, unit: "s" },
      ours: [Math.max(...before) / 1000],
    },
    { what: "requests to the API server per Topic", unit: "", ours: [each[0] as number] },
    { what: "admin steps asked of Kafka per Topic", unit: "", ours: [each[1] as number] },
    {
      what: "of these, looks at Topics that were true already (two steps each)",
      unit: "",
      ours: [(2 * (looked - of)) / of],
    },
  ];
}

/** Everything is true already, and looked at once. */
async function begins(operator: BenchOperator): Promise<Figure[]> {
  const sinceMs = performance.now();
  const topics = await operator.metric("throughline_operator_topics");
  while ((await operator.metric("throughline_operator_reconcile_seconds_count")) < topics);
  return [
    {
      ...{ what: `${MANY} unchanged Topics looked at`, unit: "s" },
      ours: [(seconds(sinceMs) * MANY) / topics],
      goal: { atMost: 5 },
    },
  ];
}

async function drift(): Promise<Figure[]> {
  const tookMs: number[] = [];
  await inLanes(names("idle", DRIFTED), async (name) => {
    tookMs.push(await bed.mended(`${WATCHED}.${name}`));
  });
  return [
    {
      ...{ what: "a setting changed in Kafka until it is mended, slowest", unit: "s" },
      ours: [Math.max(...tookMs) / 1000],
      goal: { atMost: 15 },
    },
  ];
}

async function size(operator: BenchOperator): Promise<Figure[]> {
  const paused = { "throughline.dev/pause": "true" };
  const more = CACHED - (await operator.metric("throughline_operator_topics"));
  await inLanes(names("cached", more), (name) => bed.make(WATCHED, name, paused));
  while ((await operator.metric("throughline_operator_topics")) < CACHED);
  while ((await operator.metric("throughline_operator_work")) > 0);
  const rss = operator.rssBytes() / MIB;
  return [
    {
      what: `${CACHED} Topics cached, RSS`,
      unit: "MiB",
      ours: [rss],
      goal: { atMost: 250 / 1.048576 },
    },
  ];
}
