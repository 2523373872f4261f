/** How fast an outbox that has filled up drains into a Topic, and what that takes. */
import { join } from "node:path";
import type { Figure } from "../../figures.ts";
import type { Bench, Row } from "../bench.ts";
import { type Debezium, debezium } from "../debezium.ts";
import { decodedAlone } from "../decoded-alone.ts";
import { type Growth, growth } from "../growth.ts";
import { fill, sent, slotMade } from "../outbox.ts";
import { type Program, Sequencer } from "../programs.ts";

const ROWS = 300_000;

export const drain200: Row = (bench) => drained(bench, 200, { ratioAtLeast: 3.5 }, { atMost: 12 });

export const drain1024: Row = (bench) => drained(bench, 1024, { ratioAtLeast: 2.5 });

interface Drained extends Growth {
  readonly cpuPerMillion: number;
  readonly peakRssMb: number;
}

async function drained(
  bench: Bench,
  bytes: number,
  rate: { readonly ratioAtLeast: number },
  cpu?: { readonly atMost: number },
): Promise<Figure[]> {
  const { runs, withDebezium } = bench;
  const ours: Drained[] = [];
  const alone: number[] = [];
  const peer: Drained[] = [];
  for (let run = 1; run <= runs; run++) {
    const one = await once(bench, `drain${bytes}x${run}`, bytes, withDebezium && run === runs);
    ours.push(one.ours);
    alone.push(one.alone);
    peer.push(...one.peer);
  }
  const beside = (of: (one: Drained) => number): Pick<Figure, "ours" | "yardstick"> => ({
    ours: ours.map(of),
    ...(withDebezium && { yardstick: { name: "Debezium", values: peer.map(of) } }),
  });
  return [
    {
      ...{ what: `${ROWS} rows of ${bytes} B, drained`, unit: "rows/s" },
      ...beside((one) => one.perSecond),
      ...(withDebezium && { goal: rate }),
    },
    {
      ...{ what: "the same", unit: "rows/s", ours: ours.map((one) => one.perSecond) },
      yardstick: { name: "decoding alone", values: alone },
    },
    { what: "its median second", unit: "rows", ...beside((one) => one.medianSecond) },
    { what: "its first second", unit: "rows", ...beside((one) => one.firstSecond) },
    {
      ...{ what: "its first second, of its median second", unit: "" },
      ...beside((one) => one.firstSecond / one.medianSecond),
    },
    {
      ...{ what: "CPU of the process per million", unit: "s" },
      ...beside((one) => one.cpuPerMillion),
      ...(cpu && { goal: cpu }),
    },
    {
      ...{ what: "RSS, peak", unit: "MB", goal: { atMost: 200 } },
      ...beside((one) => one.peakRssMb),
    },
  ];
}

/** The same rows for all: each has a slot from before they were written. */
async function once(bench: Bench, name: string, bytes: number, withPeer: boolean) {
  const { bed, launch, folder } = bench;
  const topic = `${name}-events`;
  const shop = await bed.shop(name, [topic]);
  const first = new Sequencer(launch, bed, shop);
  await slotMade(shop);
  await first.end("SIGTERM");
  const decoded = await decodedAlone(shop);
  const other = withPeer && (await debezium(bed, shop, topic, join(folder, name)));
  await fill(shop, { topic, rows: ROWS, bytes });
  const alone = await decoded.read(ROWS);
  const running = new Sequencer(launch, bed, shop);
  await running.said("relaying");
  const ours = await costs(running, () => sent(bed, shop, topic, ROWS));
  await running.end("SIGTERM");
  return { ours, alone, peer: other ? [await peer(bench, other)] : [] };
}

/** Once it has begun to send: what starting takes is another matter. */
async function costs(program: Program, count: () => Promise<number>): Promise<Drained> {
  let before = program.cpuSeconds();
  const grew = await growth(count, ROWS, () => {
    before = program.cpuSeconds();
  });
  const cpuPerMillion = ((program.cpuSeconds() - before) / ROWS) * 1e6;
  return { ...grew, cpuPerMillion, peakRssMb: program.peakRssMb() };
}

async function peer({ bed }: Bench, { kafkaTopic, start, forget }: Debezium): Promise<Drained> {
  const program = await start();
  const arrived = async (): Promise<number> => {
    const end = await bed.log.offset(kafkaTopic, 0, "latest");
    if (end.kind !== "offset") throw new Error(end.kind);
    program.assertRuns();
    return end.offset;
  };
  const drained = await program.during(costs(program, arrived));
  await program.end("SIGKILL");
  await forget();
  return drained;
}
