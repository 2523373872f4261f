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
  const started = performance.now();
  const work = async (): Promise<void> => {
    while (left > 0) {
      left -= order.batch;
      for (const { result } of await client.publish(order.topic, events)) {
        if (result?.$case === "position") acknowledged++;
        else throw new Error(result?.value.message);
      }
    }
  };
  await Promise.all(Array.from({ length: order.parallel }, work));
  client.close();
  return { seconds: (performance.now() - started) / 1000, acknowledged };
}
