/** Memory with much to do: a backlog of millions, and one transaction of a million rows. */
import type { Figure } from "../../figures.ts";
import type { Bench, Row } from "../bench.ts";
import { growth } from "../growth.ts";
import { insertInBulk, sent, slotMade } from "../outbox.ts";
import { Sequencer } from "../programs.ts";

const MILLION = 1_000_000;

export const large: Row = async (bench) => [
  ...(await drained(bench, "backlog", 2 * MILLION, 1000)),
  ...(await drained(bench, "onelarge", MILLION, MILLION)),
];

async function drained(
  { bed, launch }: Bench,
  name: string,
  rows: number,
  perTransaction: number,
): Promise<Figure[]> {
  const topic = `${name}-events`;
  const shop = await bed.shop(name, [topic]);
  const first = new Sequencer(launch, bed, shop);
  await slotMade(shop);
  await first.end("SIGTERM");
  await insertInBulk(shop, { topic, rows, bytes: 200 }, perTransaction);
  const running = new Sequencer(launch, bed, shop);
  const { perSecond } = await growth(
    () => sent(bed, shop, topic, rows),
    rows,
    () => {},
  );
  const peak = running.peakRssMb();
  await running.end("SIGTERM");
  const what = `${rows / MILLION} million rows in transactions of ${perTransaction}`;
  return [
    { what: `${what}: RSS, peak`, unit: "MB", ours: [peak], goal: { atMost: 200 } },
    { what: "the same, drained", unit: "rows/s", ours: [perSecond] },
  ];
}
