/** The server as a process: its exit codes and words, and Publish through it read back by kafkajs. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { credentials, type ServiceError, status } from "@grpc/grpc-js";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import type { Log } from "../../kafka/log.ts";
import { CatalogRecord } from "../../proto/gen/throughline/stored/v1/stored.ts";
import {
  type PublishResponse,
  ThroughlineServiceClient,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { catalogTopicName } from "../../sidecar/catalog-follower.ts";
import { KafkaPart } from "../kafka-part.ts";
import { type Launch, shippedOnce } from "../shipped.ts";

const SLOW_MS = 180_000;
const EVENTS = 2000;
const PARTITIONS = 4;

let kafka: KafkaPart;
let launch: Launch;
let log: Log;
/** The server's deployment and namespace are the part's. */
let named: string[];
const running = new Set<ChildProcess>();

beforeAll(async () => {
  kafka = await KafkaPart.open();
  launch = shippedOnce(kafka.folder);
  log = kafka.openLog();
  const { name } = kafka;
  named = ["--deployment-id", name, "--namespace", name, "--listen", "127.0.0.1:0"];
}, SLOW_MS);

afterEach(() => {
  for (const child of running) child.kill("SIGKILL");
});

afterAll(async () => {
  await log?.close();
  await kafka?.close();
}, SLOW_MS);

interface Line {
  readonly msg: string;
  readonly listen?: string;
  readonly health?: string;
}

/** A server process, its log lines, and all that it wrote to standard error. */
function run(...args: string[]) {
  const { command, environment, folder } = launch;
  const child = spawn(process.execPath, [...command, ...args], {
    ...{ cwd: folder, env: { ...process.env, ...environment } },
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const lines: Line[] = [];
  let look = (): void => {};
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (line.startsWith("{")) lines.push(JSON.parse(line) as Line);
    look();
  });
  const ended = once(child, "close").then(([code]) => {
    running.delete(child);
    look();
    return code as number | null;
  });
  return {
    child,
    ended,
    lines,
    stderr: () => stderr,
    said: (msg: string) =>
      new Promise<Line>((resolve, reject) => {
        look = () => {
          const line = lines.find((known) => known.msg === msg);
          if (line) resolve(line);
          else if (child.exitCode !== null) reject(new Error(`ended without "${msg}": ${stderr}`));
        };
        look();
      }),
  };
}

function publish(address: string, topic: string, from: number, count: number) {
  const client = new ThroughlineServiceClient(address, credentials.createInsecure());
  const events = Array.from({ length: count }, (_, i) => ({
    ...{ headers: [], type: "order.placed", timeMs: undefined },
    key: Buffer.from(`key-${(from + i) % 37}`),
    payload: Buffer.from(String(from + i)),
  }));
  return new Promise<PublishResponse>((resolve, reject) => {
    client.publish({ topic, events }, (error, response) => {
      client.close();
      if (error) reject(error);
      else resolve(response);
    });
  });
}

test(
  "missing settings: every one named, exit code 1, nothing started",
  async () => {
    const server = run();
    expect(await server.ended).toBe(1);
    for (const flag of ["--kafka", "--deployment-id", "--namespace"]) {
      expect(server.stderr()).toContain(`throughline: ${flag} is required`);
    }
  },
  SLOW_MS,
);

test(
  "Kafka absent: the door is open and live, not ready, and requests hear KAFKA_UNAVAILABLE",
  async () => {
    const server = run(...named, "--kafka", "127.0.0.1:1", "--health-listen", "127.0.0.1:0");
    const { listen, health } = await server.said("serving");
    await server.said("waiting for the catalog");
    expect((await fetch(`http://${health}/livez`)).status).toBe(200);
    const ready = await fetch(`http://${health}/readyz`);
    expect([ready.status, await ready.text()]).toEqual([
      503,
      "the catalog has not been read yet\n",
    ]);
    const error = await publish(listen ?? "", "orders", 0, 1).catch(
      (thrown: ServiceError) => thrown,
    );
    expect(error).toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining("KAFKA_UNAVAILABLE"),
    });
    server.child.kill("SIGTERM");
    expect(await server.ended).toBe(0);
  },
  SLOW_MS,
);

test(
  "port in use: one line with the next step, exit code 1",
  async () => {
    const first = run(...named, "--kafka", kafka.brokers.join(","));
    const { listen = "" } = await first.said("serving");
    const second = run(...named, "--listen", listen, "--kafka", kafka.brokers.join(","));
    expect(await second.ended).toBe(1);
    expect(second.stderr()).toBe(
      `throughline: ${listen} is in use: stop the process that listens there, or choose another --listen.\n`,
    );
    first.child.kill("SIGTERM");
    expect(await first.ended).toBe(0);
  },
  SLOW_MS,
);

test(
  "P7: what Publish acknowledged is in Kafka at the positions it named, as kafkajs reads it",
  async () => {
    const made = await log.admin.createTopic({
      name: kafka.own("orders"),
      partitions: PARTITIONS,
      replicas: 1,
      settings: {},
    });
    if (made.kind !== "done") throw new Error(made.reason);
    const catalog = await log.admin.createTopic({
      name: catalogTopicName(kafka.name),
      partitions: 1,
      replicas: 1,
      settings: { "cleanup.policy": "compact" },
    });
    if (catalog.kind !== "done") throw new Error(catalog.reason);
    const server = run(...named, "--kafka", kafka.brokers.join(","));
    const { listen = "" } = await server.said("serving");
    await server.said("the catalog was read");
    const value = CatalogRecord.encode({
      ...{
        formatVersion: 1,
        namespace: kafka.name,
        name: "orders",
        ownerUid: "u",
        ownerGeneration: 1n,
      },
      ...{ state: 1, kafkaTopic: made.value.name, topicId: Buffer.from(made.value.id, "hex") },
      ...{ partitions: PARTITIONS, ordering: 1, outbox: "", maxEventBytes: 0 },
      ...{ publishNamespaces: [], subscribeNamespaces: [], clusterUid: "" },
      ...{ takenAtMs: 0n, adopted: false },
    }).finish();
    await log.append(catalog.value, 0, {
      key: Buffer.from(`${kafka.name}/orders`),
      value: Buffer.from(value),
      headers: [],
      timeMs: Date.now(),
    });
    // The Topic is followed into the catalog: until then it is not found.
    let first: PublishResponse | undefined;
    while (!first) {
      first = await publish(listen, "orders", 0, 500).catch((error: ServiceError) => {
        if (error.code !== status.NOT_FOUND) throw error;
        return undefined;
      });
    }
    const answers = [first];
    for (let from = 500; from < EVENTS; from += 500) {
      answers.push(await publish(listen, "orders", from, 500));
    }
    const positions = new Map<string, string>();
    for (const [i, { result }] of answers.flatMap(({ results }) => results).entries()) {
      if (result?.$case !== "position") throw new Error(JSON.stringify(result));
      positions.set(`${result.value.partition}:${result.value.offset}`, String(i));
    }
    expect(positions.size).toBe(EVENTS);

    const consumer = kafka.kafkajs().consumer({ groupId: kafka.own("witness") });
    const seen = new Map<string, string>();
    const last = new Map<string, number>();
    await consumer.connect();
    await consumer.subscribe({ topic: made.value.name, fromBeginning: true });
    await new Promise<void>((resolve, reject) => {
      consumer
        .run({
          eachMessage: async ({ partition, message }) => {
            const text = message.value?.toString() ?? "";
            const key = message.key?.toString() ?? "";
            // P1: the events of a key keep the order in which they were published.
            if (Number(text) < (last.get(key) ?? -1))
              reject(new Error(`${key}: ${text} out of order`));
            last.set(key, Number(text));
            seen.set(`${partition}:${message.offset}`, text);
            if (message.headers?.ce_type?.toString() !== "order.placed")
              reject(new Error("no ce_type"));
            if (seen.size === EVENTS) resolve();
          },
        })
        .catch(reject);
    });
    await consumer.disconnect();
    expect(seen).toEqual(positions);
    server.child.kill("SIGTERM");
    expect(await server.ended).toBe(0);
  },
  SLOW_MS,
);
