/**
 * `npm run bench`: our figures beside the yardsticks' of the same run. Exit code 0 only when every goal
 * was reached.
 */
import { parseArgs } from "node:util";
import { Bed } from "./bed.ts";
import { type Figure, reached, told } from "./figures.ts";
import { oneClient, ordered, type Scale, shapes, tls } from "./rows/backlog.ts";
import { footprint } from "./rows/footprint.ts";
import { handoff } from "./rows/handoff.ts";
import { herd } from "./rows/herd.ts";
import { latency } from "./rows/latency.ts";
import { members } from "./rows/members.ts";
import { namedPublishing } from "./rows/named-publish.ts";
import { publishing } from "./rows/publish.ts";
import { untilStopped } from "./until-stopped.ts";

const ROWS: Record<string, (bed: Bed, scale: Scale) => Promise<Figure[]>> = {
  footprint,
  latency,
  publish: publishing,
  named: namedPublishing,
  members,
  ordered,
  backlog: oneClient,
  shapes,
  tls,
  herd,
  handoff,
};

const HELP = `npm run bench -- [flags] [rows]: our figures beside the yardsticks' of the same run.

Rows: ${Object.keys(ROWS).join(", ")} (default: all)

  --runs <n>     runs of each measurement (default 3); told as minimum / median / maximum
  --share <s>    share of the full number of events, 0.01 to 1 (default 1)
  --help`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: "string", default: "3" },
    share: { type: "string", default: "1" },
    help: { type: "boolean", short: "h", default: false },
  },
});
const runs = Number(values.runs);
const share = Number(values.share);
const unknown = positionals.filter((name) => !(name in ROWS));
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
if (!(Number.isInteger(runs) && runs >= 1 && share >= 0.01 && share <= 1 && unknown.length === 0)) {
  console.error(
    `bench: ${unknown[0] ? `there is no row ${unknown[0]}` : "a flag is wrong"}\n${HELP}`,
  );
  process.exit(1);
}

const started = performance.now();
const bed = await untilStopped(Bed.start(console.log));
let failed = 0;
try {
  for (const name of positionals.length > 0 ? positionals : Object.keys(ROWS)) {
    console.log(`# ${name}`);
    const figures = (await ROWS[name]?.(bed, { runs, share })) ?? [];
    for (const figure of figures) {
      console.log(told(figure));
      if (reached(figure) === false) failed++;
    }
  }
} finally {
  await bed.stop();
}
const minutes = ((performance.now() - started) / 60_000).toFixed(1);
console.log(
  `${failed === 0 ? "Every goal was reached" : `${failed} goals were missed`} (${minutes} minutes)`,
);
process.exit(failed === 0 ? 0 : 1);
