/** A sequencer that is killed under load, and the next: how long a subscriber hears nothing, and that nothing repeats. */
import { setTimeout as pause } from "node:timers/promises";
import { ordered } from "../../child.ts";
import type { Arrivals, ArrivalsOrder } from "../arrivals.ts";
import type { Row } from "../bench.ts";
import { rowsOf, slotMade, written } from "../outbox.ts";
import { Sequencer, server } from "../programs.ts";

const TOPIC = "restart-events";
const LOAD = { topic: TOPIC, bytes: 200, perSecond: 2000, seconds: 6 };
const KILLED_AFTER_MS = 3000;

export const restart: Row = async ({ bed, launch, runs }) => {
  const shop = await bed.shop("restart", [TOPIC]);
  let running = new Sequencer(launch, bed, shop);
  await slotMade(shop);
  const door = server(launch, bed);
  const { listen } = JSON.parse(await door.said('"serving"')) as { listen: string };
  const events = rowsOf(LOAD);
  const silentSeconds: number[] = [];
  const missed: number[] = [];
  for (let run = 0; run < runs; run++) {
    const from = run * events + 1;
    const order = { address: listen, topic: TOPIC, from, events, skip: LOAD.perSecond };
    const heard = ordered<ArrivalsOrder, Arrivals>("sequencer/arrivals.ts", order);
    const writing = written(shop, LOAD);
    await pause(KILLED_AFTER_MS);
    await running.end("SIGKILL");
    running = new Sequencer(launch, bed, shop);
    await writing;
    const { silentMs, lastSequence } = await heard;
    silentSeconds.push(silentMs / 1000);
    missed.push(Math.abs(lastSequence - (from + events - 1)));
  }
  await door.end("SIGTERM");
  await running.end("SIGTERM");
  return [
    {
      ...{ what: "silence of a subscriber after kill -9", unit: "s", ours: silentSeconds },
      goal: { atMost: 3 },
    },
    {
      ...{ what: "rows that came twice, or not, or with another's number", unit: "", ours: missed },
      goal: { atMost: 0 },
    },
  ];
};
