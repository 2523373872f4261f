/** Kafka's own performance tools as yardsticks: their rate by their own words, their CPU by the kernel's. */
import { readFileSync } from "node:fs";
import type { Bed } from "./bed.ts";
import { machineCpuSeconds } from "./machine.ts";

const TICKS_PER_SECOND = 100;
/** A run this small costs what starting the tool costs. */
const SMALL = 10_000;

export interface ToolRun {
  readonly eventsPerSecond: number;
  /** Steady: without what starting the tool costs. */
  readonly cpuPerMillion: number;
  /** Of all processes of the machine, Kafka too. */
  readonly machineCpuPerMillion: number;
}

/** The consumer tool: reads `events` of the topic from its beginning, and only counts. */
export async function consumerTool(bed: Bed, topic: string, events: number): Promise<ToolRun> {
  const run = async (count: number): Promise<Measured> => {
    const { output, cpu, machine } = await measured(
      bed,
      "org.apache.kafka.tools.ConsumerPerformance",
      [
        ...["--bootstrap-server", bed.kafka.brokers.join(",")],
        ...["--topic", topic, "--num-records", String(count)],
      ],
    );
    // The last column of the last line is fetch.nMsg.sec: without the time to find the group.
    const rate = Number(output.trim().split("\n").at(-1)?.split(", ").at(-1));
    return { rate, cpu, machine };
  };
  return steady(run, events);
}

/** The producer tool, acks=all, with its default batches and the linger given. */
export async function producerTool(
  bed: Bed,
  topic: string,
  events: number,
  payloadBytes: number,
): Promise<ToolRun> {
  const run = async (count: number): Promise<Measured> => {
    const { output, cpu, machine } = await measured(
      bed,
      "org.apache.kafka.tools.ProducerPerformance",
      [
        ...["--topic", topic, "--num-records", String(count)],
        ...["--record-size", String(payloadBytes), "--throughput", "-1", "--producer-props"],
        ...[`bootstrap.servers=${bed.kafka.brokers.join(",")}`, "acks=all", "linger.ms=2"],
      ],
    );
    const rates = [...output.matchAll(/([\d.]+) records\/sec/g)];
    return { rate: Number(rates.at(-1)?.[1]), cpu, machine };
  };
  return steady(run, events);
}

interface Measured {
  readonly rate: number;
  readonly cpu: number;
  readonly machine: number;
}

async function steady(run: (count: number) => Promise<Measured>, events: number): Promise<ToolRun> {
  const small = await run(SMALL);
  const large = await run(events);
  return {
    eventsPerSecond: large.rate,
    cpuPerMillion: ((large.cpu - small.cpu) * 1e6) / (events - SMALL),
    machineCpuPerMillion: ((large.machine - small.machine) * 1e6) / (events - SMALL),
  };
}

async function measured(bed: Bed, tool: string, args: string[]) {
  const before = childrenCpuSeconds();
  const machineBefore = machineCpuSeconds();
  const { code, stdout, stderr } = await bed.kafka.java(tool, args);
  if (code !== 0) throw new Error(`${tool}: ${stderr || stdout}`);
  const machine = machineCpuSeconds() - machineBefore;
  return { output: stdout, cpu: childrenCpuSeconds() - before, machine };
}

/** CPU time of the processes that we started and that have ended. */
function childrenCpuSeconds(): number {
  const stat = readFileSync("/proc/self/stat", "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND;
}
