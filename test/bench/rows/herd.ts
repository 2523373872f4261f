/** A herd that lost its server: a thousand streams resume at once from positions far and near. */
import type { Bed } from "../bed.ts";
import { ordered } from "../child.ts";
import type { Figure } from "../figures.ts";
import { fill } from "../fill.ts";
import type { HerdOrder, HerdReport } from "../herd.ts";
import type { Scale } from "./backlog.ts";

const STREAMS = 1000;
const CONNECTIONS = 50;
const SPREAD_BYTES = 200 << 20;
const PAYLOAD_BYTES = 1024;
/** Key, lengths and times of a record, and its share of a batch of fifteen. */
const RECORD_OVERHEAD_BYTES = 20;

export async function herd(bed: Bed, { share }: Scale): Promise<Figure[]> {
  const topic = await bed.topic("herd");
  const wanted = Math.ceil((SPREAD_BYTES * share) / PAYLOAD_BYTES);
  const events = await fill(bed.kafka.brokers, topic, {
    ...{ events: wanted, payloadBytes: PAYLOAD_BYTES, eventsPerBatch: 15 },
  });
  // One run: a hundred gigabytes are delivered.
  const server = await bed.server();
  const order: HerdOrder = {
    ...{ address: server.address, topic: "herd", topicId: topic.id, events },
    ...{ streams: STREAMS, connections: CONNECTIONS },
  };
  const { seconds } = await ordered<HerdOrder, HerdReport>("herd.ts", order);
  const read = await server.metric("throughline_log_read_bytes_total");
  await server.stop();
  return [
    {
      what: `${STREAMS} streams resume over ${Math.round((SPREAD_BYTES * share) / 2 ** 20)} MiB: until all are live`,
      unit: "s",
      ours: [seconds],
    },
    {
      what: "the same: bytes read from Kafka per distinct byte",
      unit: "",
      ours: [read / (events * (PAYLOAD_BYTES + RECORD_OVERHEAD_BYTES))],
      goal: { atMost: 2 },
    },
  ];
}
