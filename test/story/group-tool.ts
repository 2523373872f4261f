/** What Kafka's own tool says of a group. */
import type { Bed } from "./bed.ts";

export const GROUP_TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

/** By partition. */
export interface Said {
  readonly offsets: readonly number[];
  readonly lag: number;
}

/** Undefined when it knows no such group. */
export async function describedGroup(
  { kafka }: Bed,
  group: string,
  kafkaTopic: string,
): Promise<Said | undefined> {
  const run = await kafka.java(GROUP_TOOL, [
    ...["--bootstrap-server", kafka.brokers.join(",")],
    ...["--describe", "--offsets", "--all-groups"],
  ]);
  if (run.code !== 0) throw new Error(run.stderr || run.stdout);
  const rows = run.stdout
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([name, topic]) => name === group && topic === kafkaTopic)
    .sort((a, b) => Number(a[2]) - Number(b[2]));
  if (rows.length === 0) return undefined;
  const lag = rows.reduce((sum, row) => sum + Number(row[5]), 0);
  return { offsets: rows.map((row) => Number(row[3])), lag };
}
