/** Waits for a Kafka that was harmed. */
import type { Admin } from "kafkajs";
import { pause } from "../clients/pace.ts";

const LOOK_MS = 200;

/** Resolves when every partition of these topics is in sync on so many brokers. */
export async function untilInSync(
  admin: Admin,
  topics: readonly string[],
  brokers: number,
): Promise<void> {
  for (;;) {
    const found = await admin.fetchTopicMetadata({ topics: [...topics] }).catch(() => undefined);
    const all = found?.topics.flatMap(({ partitions }) => partitions) ?? [];
    if (all.length > 0 && all.every(({ isr }) => isr.length === brokers)) return;
    await pause(LOOK_MS);
  }
}
