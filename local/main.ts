/** `npm start`: Throughline on this machine in the foreground, until Ctrl-C. */
import { rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { environment } from "./config.ts";
import { startThroughline } from "./throughline.ts";

const HELP = `npm start -- [flags]: Kafka, the operator over Topic files, and servers on this machine, until Ctrl-C.

  --servers <n>     servers, named A, B, … (default 2)
  --port <n>        port of the first; the others follow (default 7070)
  --topics <dir>    Topic files, followed while it runs (default local/topics)
  --data <dir>      where data stays between runs (default .throughline/start)
  --namespace <ns>  the namespace that the servers speak for (default demo)
  --fresh           forget the data of earlier runs first
  --help

Environment: KAFKA_BROKERS (use a running Kafka), MAVEN_REPOSITORY, JAVA_HOME, XDG_CACHE_HOME.`;

const root = join(import.meta.dirname, "..");

interface Flags {
  readonly servers: number;
  readonly port: number;
  readonly topics: string;
  readonly data: string;
  readonly namespace: string;
  readonly fresh: boolean;
}

/** @throws naming the flag. */
function readFlags(): Flags | undefined {
  const { values } = parseArgs({
    options: {
      servers: { type: "string", default: "2" },
      port: { type: "string", default: "7070" },
      topics: { type: "string", default: join(root, "local", "topics") },
      data: { type: "string", default: join(root, ".throughline", "start") },
      namespace: { type: "string", default: "demo" },
      fresh: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return undefined;
  const servers = Number(values.servers);
  if (!Number.isInteger(servers) || servers < 1 || servers > 26) {
    throw new Error(`--servers is ${values.servers}; it must be 1 to 26.`);
  }
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 1 || port + servers > 65_535) {
    throw new Error(`--port is ${values.port}; it must be 1 to ${65_535 - servers}.`);
  }
  return { ...values, servers, port, topics: resolve(values.topics), data: resolve(values.data) };
}

try {
  const flags = readFlags();
  if (flags === undefined) {
    console.log(HELP);
    process.exit(0);
  }
  if (flags.fresh) rmSync(flags.data, { recursive: true, force: true });
  const throughline = await startThroughline({
    directory: flags.data,
    topicsDirectory: flags.topics,
    servers: Array.from({ length: flags.servers }, (_, i) => ({
      name: String.fromCharCode(65 + i),
      port: flags.port + i,
    })),
    namespace: flags.namespace,
    kafkaBrokers: environment.kafkaBrokers,
    onLine: (line) => console.log(line),
  });
  for (const { name, address, status } of throughline.servers) {
    console.log(`Server ${name}: ${address}, metrics at ${status}/metrics`);
  }
  console.log(`Kafka: ${throughline.brokers.join(",")}; Topic files: ${flags.topics}`);
  const [first] = throughline.servers;
  console.log("Try:");
  console.log(
    `  grpcurl -plaintext -d '{"open":{"topic":"flights","start":{"earliest":{}},"credit":{"events":"10"}}}' ${first?.address} throughline.v1.ThroughlineService/Subscribe`,
  );
  console.log("Ctrl-C ends it; data stays for the next run.");
  let stopping = false;
  const stop = (): void => {
    if (stopping) process.exit(130);
    stopping = true;
    void throughline.stop().finally(() => process.exit(0));
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
} catch (error) {
  console.error(`npm start: ${(error as Error).message}`);
  process.exit(1);
}
