/**
 * What exactly once costs: named publishers beside publishing without a name in the same run, in batches
 * and one event at a time. Their events wait for a transaction's commit, and each transaction writes its
 * number and its markers too.
 */
import type { Bed } from "../bed.ts";
import { ordered } from "../child.ts";
import type { Figure } from "../figures.ts";
import type { PublishOrder, PublishReport } from "../publisher.ts";
import type { Scale } from "./backlog.ts";

interface Measured {
  readonly cpuPerMillion: number[];
  readonly eventsPerSecond: number[];
}

export async function namedPublishing(bed: Bed, { runs, share }: Scale): Promise<Figure[]> {
  await bed.topic("named");
  const server = await bed.server();
  const measure = async (order: Omit<PublishOrder, "address" | "topic" | "payloadBytes">) => {
    const whole = { ...order, address: server.address, topic: "named", payloadBytes: 100 };
    const found: Measured = { cpuPerMillion: [], eventsPerSecond: [] };
    // The first run only warms up.
    for (let i = 0; i <= runs; i++) {
      let before = 0;
      const report = await ordered<PublishOrder, PublishReport>("publisher.ts", whole, () => {
        before = server.cpuSeconds();
      });
      if (i === 0) continue;
      found.cpuPerMillion.push(((server.cpuSeconds() - before) * 1e6) / report.acknowledged);
      found.eventsPerSecond.push(report.acknowledged / report.seconds);
    }
    return found;
  };
  const batches = { events: 1_000_000 * share, batch: 500, parallel: 8 };
  const plain = await measure({ ...batches, named: 0 });
  const one = await measure({ ...batches, named: 1 });
  const eight = await measure({ ...batches, named: 8 });
  const single = { events: Math.max(50, 500 * share), batch: 1, parallel: 1 };
  const plainSingle = await measure({ ...single, named: 0 });
  const namedSingle = await measure({ ...single, named: 1 });
  const many = { events: Math.max(1000, 20_000 * share), batch: 1, parallel: 64 };
  const plainMany = await measure({ ...many, named: 0 });
  const namedMany = await measure({ ...many, named: 64 });
  await server.stop();
  const beside = (values: number[]) => ({ name: "without a name", values });
  const perEvent = ({ eventsPerSecond }: Measured) => eventsPerSecond.map((rate) => 1000 / rate);
  const cpu = (what: string, { cpuPerMillion }: Measured, to: Measured): Figure => ({
    what: `${what}: server's CPU`,
    ...{ unit: "s per million", ours: cpuPerMillion, yardstick: beside(to.cpuPerMillion) },
  });
  const rate = (what: string, { eventsPerSecond }: Measured, to: Measured): Figure => ({
    what: `${what}: rate`,
    ...{ unit: "events/s", ours: eventsPerSecond, yardstick: beside(to.eventsPerSecond) },
  });
  return [
    { ...cpu("one named publisher, batches of 500", one, plain), goal: { ratioAtMost: 2 } },
    rate("one named publisher, batches of 500", one, plain),
    cpu("eight named publishers, batches of 500", eight, plain),
    rate("eight named publishers, batches of 500", eight, plain),
    // A transaction for every event: the most that it can cost.
    cpu("64 named publishers, each event by event", namedMany, plainMany),
    rate("64 named publishers, each event by event", namedMany, plainMany),
    {
      what: "a named publisher's event by event: from the call to its answer",
      ...{ unit: "ms", ours: perEvent(namedSingle), yardstick: beside(perEvent(plainSingle)) },
    },
  ];
}
