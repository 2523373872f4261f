/** What the whole machine spends, Kafka and the clients too: with its cores this bounds every rate. */
import { readFileSync } from "node:fs";

const TICKS_PER_SECOND = 100;
/** Columns of /proc/stat that are work: user, nice, system, irq, softirq. */
const WORK = [1, 2, 3, 6, 7];

export function machineCpuSeconds(): number {
  const fields = readFileSync("/proc/stat", "utf8").split("\n", 1)[0]?.split(/\s+/) ?? [];
  return WORK.reduce((sum, column) => sum + Number(fields[column]), 0) / TICKS_PER_SECOND;
}
