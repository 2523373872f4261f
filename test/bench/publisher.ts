/** Publishes batches as fast as they are acknowledged, as a process of its own. */
import { ThroughlineClient } from "../../client/client.ts";
import { answer } from "./child.ts";

export interface PublishOrder {
  readonly address: string;
  readonly topic: string;
  readonly events: number;
  readonly batch: number;
  readonly payloadBytes: number;
  /** Requests under way at once. */
  readonly parallel: number;
  /** So many named publishers do it; 0 is publishing without a name. */
  readonly named: number;
}

export interface PublishReport {
  readonly seconds: number;
  readonly acknowledged: number;
}

answer(publish);

async function publish(order: PublishOrder): Promise<PublishReport> {
  const client = new ThroughlineClient([order.address]);
  const payload = Buffer.alloc(order.payloadBytes, "x");
  const events = Array.from({ length: order.batch }, (_, i) => ({
    key: Buffer.from(String(i).padStart(8, "0")),
    ...{ payload, headers: [], type: "", timeMs: undefined },
  }));
  let left = order.events;
  let acknowledged = 0;
  const publishers = Array.from({ length: order.named }, (_, i) =>
    client.namedPublisher({ topic: order.topic, name: `bench-${i}` }),
  );
  await Promise.all(publishers.map((publisher) => publisher.lastNumber()));
  const started = performance.now();
  const work = async (worker: number): Promise<void> => {
    const publisher = publishers[worker % Math.max(1, order.named)];
    while (left > 0) {
      left -= order.batch;
      if (publisher) {
        for (const result of await publisher.publish(events)) {
          if ("error" in result) throw result.error;
          acknowledged++;
        }
        continue;
      }
      for (const { result } of await client.publish(order.topic, events)) {
        if (result?.$case === "position") acknowledged++;
        else throw new Error(result?.value.message);
      }
    }
  };
  await Promise.all(Array.from({ length: order.parallel }, (_, worker) => work(worker)));
  const seconds = (performance.now() - started) / 1000;
  for (const publisher of publishers) publisher.close();
  client.close();
  return { seconds, acknowledged };
}
