/** What Kafka's own tool says of a group. */
import { committedOffsets } from "../kafka/witness.ts";
import type { Bed } from "./bed.ts";
import { until } from "./waits.ts";

export const GROUP_TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

/** By partition. */
export interface Said {
  readonly offsets: readonly number[];
  readonly lag: number;
}

/** Undefined when it knows no such group. */
export async function describedGroup(
  { part }: Bed,
  group: string,
  kafkaTopic: string,
): Promise<Said | undefined> {
  const run = await part.java(GROUP_TOOL, [
    ...["--bootstrap-server", part.brokers.join(",")],
    ...["--describe", "--offsets", "--group", group],
  ]);
  const said = `${run.stdout}${run.stderr}`;
  if (run.code !== 0 && !/does not exist|not found/.test(said)) throw new Error(said);
  const rows = run.stdout
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([name, topic]) => name === group && topic === kafkaTopic)
    .sort((a, b) => Number(a[2]) - Number(b[2]));
  if (rows.length === 0) return undefined;
  const lag = rows.reduce((sum, row) => sum + Number(row[5]), 0);
  return { offsets: rows.map((row) => Number(row[3])), lag };
}

/** Resolves when the tool says so. kafkajs, which costs less to ask, says first when it is worth a look. */
export async function describedAs(
  bed: Bed,
  group: string,
  kafkaTopic: string,
  wanted: Said | undefined,
): Promise<void> {
  const admin = bed.part.kafkajs().admin();
  await admin.connect();
  await until(async () => {
    const offsets = await committedOffsets(admin, group, kafkaTopic);
    return offsets.join() === (wanted?.offsets ?? []).join();
  });
  await admin.disconnect();
  const asText = JSON.stringify(wanted);
  while (JSON.stringify(await describedGroup(bed, group, kafkaTopic)) !== asText);
}
