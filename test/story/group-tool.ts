/** What Kafka's own tool, and kafkajs, say of a group. */
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

/** Resolves when kafkajs, which costs less to ask than the tool, sees the same. */
export async function describedAs(
  { part }: Bed,
  group: string,
  kafkaTopic: string,
  wanted: Said | undefined,
): Promise<void> {
  const admin = part.kafkajs().admin();
  await admin.connect();
  const said = async (): Promise<Said | undefined> => {
    const offsets = await committedOffsets(admin, group, kafkaTopic);
    if (offsets.length === 0) return undefined;
    const ends = await admin.fetchTopicOffsets(kafkaTopic);
    const end = ends.reduce((sum, { high }) => sum + Number(high), 0);
    return { offsets, lag: end - offsets.reduce((sum, offset) => sum + offset, 0) };
  };
  const asText = JSON.stringify(wanted);
  await until(async () => JSON.stringify(await said()) === asText);
  await admin.disconnect();
}
