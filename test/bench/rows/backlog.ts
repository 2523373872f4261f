/** Backlogs: how fast and at what cost old events reach clients. */
import type { Bed, BenchServer } from "../bed.ts";
import type { Figure } from "../figures.ts";
import { type Filling, fill } from "../fill.ts";
import { consumerTool, type ToolRun } from "../kafka-tools.ts";
import type { Order } from "../subscriber.ts";
import { type Round, round } from "../subscribers.ts";

export interface Scale {
  readonly runs: number;
  /** Share of the full number of events, 0 to 1. */
  readonly share: number;
}

type Row = (bed: Bed, scale: Scale) => Promise<Figure[]>;

async function rounds(
  server: BenchServer,
  runs: number,
  order: Omit<Order, "address">,
): Promise<Round[]> {
  // The first one compiles the server's code.
  await round(server, { ...order, events: Math.min(order.events, 500_000) });
  const all: Round[] = [];
  for (let i = 0; i < runs; i++) all.push(await round(server, order));
  return all;
}

function cost(what: string, all: readonly Round[], atMost?: number, tool?: ToolRun[]): Figure {
  return {
    what: `${what}: server's CPU`,
    unit: "s per million delivered",
    ours: all.map((one) => one.serverCpuPerMillion),
    ...(tool && {
      yardstick: { name: "Kafka's consumer tool", values: tool.map((t) => t.cpuPerMillion) },
    }),
    ...(atMost !== undefined && { goal: { atMost } }),
  };
}

function rate(what: string, all: readonly Round[], more: Partial<Figure> = {}): Figure {
  const ours = all.map((one) => one.eventsPerSecond);
  return { what: `${what}: rate`, unit: "events/s", ours, ...more };
}

export const oneClient: Row = async (bed, { runs, share }) => {
  const topic = await bed.topic("backlog");
  const events = await fill(bed.kafka.brokers, topic, { events: 10_000_000 * share });
  const server = await bed.server();
  const order = { topic: "backlog", clients: 1, mode: "walk" } as const;
  const walk: Round[] = [];
  const tool: ToolRun[] = [];
  // The first ones compile the server's code and Kafka's. Then by turns: the machine's mood is both's.
  await round(server, { ...order, events: Math.ceil(events / 3) });
  await consumerTool(bed, topic.name, Math.ceil(events / 3));
  for (let i = 0; i < runs; i++) {
    walk.push(await round(server, { ...order, events }));
    tool.push(await consumerTool(bed, topic.name, events));
  }
  const fewer = { ...order, events: Math.floor(events / 5) };
  const decode = await rounds(server, runs, { ...fewer, mode: "decode" });
  const ten = await rounds(server, runs, { ...fewer, clients: 10, slow: 1 });
  await server.stop();
  const yardstick = {
    name: "Kafka's consumer tool",
    values: tool.map((one) => one.eventsPerSecond),
  };
  return [
    cost("backlog of 100-byte events, one client", walk, 0.6, tool),
    rate("backlog of 100-byte events, one client", walk, { yardstick, goal: { ratioAtLeast: 1 } }),
    {
      what: "the same: CPU of the whole machine, Kafka and the client too",
      unit: "s per million delivered",
      ours: walk.map((one) => one.machineCpuPerMillion),
      yardstick: {
        name: "Kafka's consumer tool",
        values: tool.map((one) => one.machineCpuPerMillion),
      },
    },
    cost("the same, TypeScript client that decodes", decode),
    rate("the same, TypeScript client that decodes", decode, { yardstick }),
    cost("the same, ten clients, one of them takes nothing", ten, 0.25),
    rate("the same, the other nine together", ten),
  ];
};

/** Other shapes of the same: each its own topic. */
const SHAPES: readonly [what: string, name: string, filling: Filling, partitions: number][] = [
  ["one header per event", "headers", { events: 3_000_000, header: true }, 1],
  ["1 KiB events", "large", { events: 1_000_000, payloadBytes: 1024, eventsPerBatch: 15 }, 1],
  ["12 partitions", "partitions", { events: 3_000_000 }, 12],
  ["zstd batches", "zstd", { events: 3_000_000, zstd: true }, 1],
];

export const shapes: Row = async (bed, { runs, share }) => {
  const figures: Figure[] = [];
  for (const [what, name, filling, partitions] of SHAPES) {
    const topic = await bed.topic(name, { partitions });
    const wanted = { ...filling, events: filling.events * share };
    const events = await fill(bed.kafka.brokers, topic, wanted);
    const server = await bed.server();
    const all = await rounds(server, runs, { topic: name, events, clients: 1, mode: "walk" });
    const tool = [await consumerTool(bed, topic.name, events)];
    await server.stop();
    const values = tool.map((one) => one.eventsPerSecond);
    figures.push(
      cost(what, all, undefined, tool),
      rate(what, all, { yardstick: { name: "Kafka's consumer tool", values } }),
    );
  }
  return figures;
};

export const tls: Row = async (bed, { runs, share }) => {
  const topic = await bed.topic("secret");
  const events = await fill(bed.kafka.brokers, topic, { events: 3_000_000 * share });
  const { certFile, keyFile, ca } = bed.tls;
  const flags = ["--tls-cert-file", certFile, "--tls-key-file", keyFile];
  const kafkaFlags = ["--kafka-tls-ca-file", certFile];
  const server = await bed.server([...flags, ...kafkaFlags], bed.kafka.securedBrokers);
  const all = await rounds(server, runs, {
    ...{ topic: "secret", events, clients: 1, mode: "walk", ca },
  });
  await server.stop();
  const what = "TLS to Kafka and to the client";
  return [cost(what, all), rate(what, all)];
};

export const ordered: Row = async (bed, { runs, share }) => {
  const topic = await bed.topic("ordered", { ordering: "Total" });
  const events = await fill(bed.kafka.brokers, topic, { events: 1_000_000 * share });
  const server = await bed.server();
  const all = await rounds(server, runs, {
    ...{ topic: "ordered", events, clients: 1, mode: "walk", credit: 1000 },
  });
  await server.stop();
  const what = "one ordered stream with credits of 1,000 events";
  return [rate(what, all, { goal: { atLeast: 200_000 } }), cost(what, all)];
};
