/**
 * `npm run bench:sequencer`: how fast an outbox drains into a Topic beside Debezium, how soon a commit is with a
 * subscriber, and what that takes of the sequencer's process. Exit code 0 only when every goal was reached.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openBed } from "../../sequencer/bed.ts";
import { shipped } from "../../shipped.ts";
import { reached, told } from "../figures.ts";
import { untilStopped } from "../until-stopped.ts";
import type { Row } from "./bench.ts";
import { drain200, drain1024 } from "./rows/drain.ts";
import { large } from "./rows/large.ts";
import { live } from "./rows/live.ts";
import { restart } from "./rows/restart.ts";

const ROWS: Record<string, Row> = { live, restart, drain200, drain1024, large };

const HELP = `npm run bench:sequencer -- [flags] [rows]: an outbox into Topics, beside Debezium and decoding alone.

Rows: ${Object.keys(ROWS).join(", ")} (default: all)

  --runs <n>           runs of each drain and restart (default 3); told as minimum / median / maximum
  --without-debezium   its jars (60 MB) are fetched once, from Maven
  --help`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: "string", default: "3" },
    "without-debezium": { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const runs = Number(values.runs);
const unknown = positionals.find((name) => !(name in ROWS));
if (!(Number.isInteger(runs) && runs >= 1) || unknown !== undefined) {
  const why = unknown === undefined ? "--runs must be 1 or more" : `there is no row ${unknown}`;
  console.error(`bench:sequencer: ${why}\n${HELP}`);
  process.exit(1);
}

const begunMs = performance.now();
const folder = mkdtempSync(join(tmpdir(), "throughline-bench-sequencer-"));
const launch = shipped(folder);
const bed = await untilStopped(openBed(true));
let missed = 0;
try {
  for (const name of positionals.length > 0 ? positionals : Object.keys(ROWS)) {
    console.log(`# ${name}`);
    const withDebezium = !values["without-debezium"];
    const figures = (await ROWS[name]?.({ bed, launch, folder, runs, withDebezium })) ?? [];
    for (const figure of figures) {
      console.log(told(figure));
      if (reached(figure) === false) missed++;
    }
  }
} finally {
  await bed.stop();
  rmSync(folder, { recursive: true, force: true });
}
const minutes = ((performance.now() - begunMs) / 60_000).toFixed(1);
console.log(
  `${missed === 0 ? "Every goal was reached" : `${missed} goals were missed`} (${minutes} minutes)`,
);
process.exit(missed === 0 ? 0 : 1);
