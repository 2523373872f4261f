/** Publishing in batches, beside Kafka's own producer tool. */
import type { Bed } from "../bed.ts";
import { ordered } from "../child.ts";
import type { Figure } from "../figures.ts";
import { producerTool, type ToolRun } from "../kafka-tools.ts";
import type { PublishOrder, PublishReport } from "../publisher.ts";
import type { Scale } from "./backlog.ts";

const BATCH = 500;
const PAYLOAD_BYTES = 100;

export async function publishing(bed: Bed, { runs, share }: Scale): Promise<Figure[]> {
  await bed.topic("published");
  const { name } = await bed.topic("tool");
  const server = await bed.server();
  const events = 1_000_000 * share;
  const cpu: number[] = [];
  const rates: number[] = [];
  const tool: ToolRun[] = [];
  const order: PublishOrder = {
    ...{ address: server.address, topic: "published", events, batch: BATCH, parallel: 8 },
    ...{ payloadBytes: PAYLOAD_BYTES, named: 0 },
  };
  await ordered("publisher.ts", { ...order, events: 100_000 });
  for (let i = 0; i < runs; i++) {
    let before = 0;
    const report = await ordered<PublishOrder, PublishReport>("publisher.ts", order, () => {
      before = server.cpuSeconds();
    });
    cpu.push(((server.cpuSeconds() - before) * 1e6) / report.acknowledged);
    rates.push(report.acknowledged / report.seconds);
    tool.push(await producerTool(bed, name, events, PAYLOAD_BYTES));
  }
  await server.stop();
  const what = `publishing 100-byte events in batches of ${BATCH}`;
  const byTool = (values: number[]) => ({ name: "Kafka's producer tool", values });
  return [
    {
      what: `${what}: server's CPU`,
      unit: "s per million",
      ours: cpu,
      yardstick: byTool(tool.map((one) => one.cpuPerMillion)),
      goal: { atMost: 8 },
    },
    {
      what: `${what}: rate`,
      unit: "events/s",
      ours: rates,
      yardstick: byTool(tool.map((one) => one.eventsPerSecond)),
    },
  ];
}
