/** `npm start`: Throughline on this machine in the foreground, until Ctrl-C. */
import { join, resolve } from "node:path";
import { type ParseArgsConfig, parseArgs } from "node:util";
import { environment } from "./config.ts";
import { firstSteps } from "./first-steps.ts";
import { onStopSignal } from "./stop-signals.ts";
import type { LocalThroughline } from "./throughline.ts";

const HELP = `npm start -- [flags]: Kafka, the operator over Topic files, and servers on this machine, until Ctrl-C.

  --servers <n>     servers, named A, B, … (default 2)
  --port <n>        port of the first; the others follow (default 7070)
  --topics <dir>    Topic files, followed while it runs (default local/topics)
  --data <dir>      where data stays between runs (default .throughline/start)
  --namespace <ns>  the namespace that the servers speak for (default demo)
  --outbox <name>   PostgreSQL too, and a sequencer that feeds the Topics with this outbox from it
  --fresh           forget the data of earlier runs first (of the embedded Kafka, session store and PostgreSQL)
  --help

Environment: KAFKA_BROKERS (use a running Kafka), REDIS_URL (use a running Redis or Valkey),
POSTGRES_URL (use a running PostgreSQL, whose database its user owns), MAVEN_REPOSITORY, npm_config_registry, JAVA_HOME, XDG_CACHE_HOME.`;

const DEPLOYMENT_ID = "local";
const EARLIER_RUN_ENDS_MS = 3000;
const root = join(import.meta.dirname, "..");

interface Flags {
  readonly servers: number;
  readonly port: number;
  readonly topics: string;
  readonly data: string;
  readonly namespace: string;
  readonly fresh: boolean;
  readonly outbox: string | undefined;
}

function parse<T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config);
  } catch (error) {
    throw new Error(`${(error as Error).message}. npm start -- --help lists the flags.`);
  }
}

/** @throws naming the flag. */
function readFlags(): Flags | undefined {
  const { values } = parse({
    options: {
      servers: { type: "string", default: "2" },
      port: { type: "string", default: "7070" },
      topics: { type: "string", default: join(root, "local", "topics") },
      data: { type: "string", default: join(root, ".throughline", "start") },
      namespace: { type: "string", default: "demo" },
      outbox: { type: "string" },
      fresh: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return undefined;
  const servers = Number(values.servers);
  if (!Number.isInteger(servers) || servers < 1 || servers > 26) {
    throw new Error(`--servers is ${values.servers}; it must be 1 to 26.`);
  }
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(values.namespace)) {
    throw new Error(
      `--namespace is "${values.namespace}"; it must be a Kubernetes namespace name.`,
    );
  }
  const { outbox } = values;
  if (outbox !== undefined && !/^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$/.test(outbox)) {
    throw new Error(`--outbox is "${outbox}"; it must be a Kubernetes name.`);
  }
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 1 || port + servers > 65_535) {
    throw new Error(`--port is ${values.port}; it must be 1 to ${65_535 - servers}.`);
  }
  return {
    ...values,
    outbox,
    servers,
    port,
    topics: resolve(values.topics),
    data: resolve(values.data),
  };
}

/** Stops what runs, or gives up the start; the start then stops what it had started. */
const giveUp = new AbortController();
let throughline: LocalThroughline | undefined;
onStopSignal(() => {
  giveUp.abort();
  console.log("Stopping");
  if (throughline) void throughline.stop().finally(() => process.exit(0));
});

try {
  const flags = readFlags();
  if (flags === undefined) {
    console.log(HELP);
    process.exit(0);
  }
  const kafkaBrokers = environment.kafkaBrokers();
  const postgresUrl = environment.postgresUrl();
  // Only now: what is mistyped is said at once, not after all of it is loaded.
  const { startThroughline } = await import("./throughline.ts");
  const started = await startThroughline({
    directory: flags.data,
    fresh: flags.fresh,
    waitMs: EARLIER_RUN_ENDS_MS,
    topicsDirectory: flags.topics,
    servers: Array.from({ length: flags.servers }, (_, i) => ({
      name: String.fromCharCode(65 + i),
      port: flags.port + i,
    })),
    namespace: flags.namespace,
    deploymentId: DEPLOYMENT_ID,
    clusterUid: DEPLOYMENT_ID,
    kafkaBrokers,
    redisUrl: environment.redisUrl,
    outbox:
      flags.outbox === undefined
        ? undefined
        : { name: flags.outbox, postgresUrl, sequencers: ["The sequencer"] },
    onLine: (line) => console.log(line),
    signal: giveUp.signal,
  });
  throughline = started;
  for (const { name, address, status, pid } of started.servers) {
    console.log(`Server ${name}: ${address}, process ${pid}, metrics at ${status}/metrics`);
  }
  console.log(`Kafka: ${started.brokers.join(",")}`);
  if (started.postgresUrl)
    console.log(
      `Outbox ${flags.outbox}: ${started.postgresUrl.replace(/:[^:@/]*@/, "@")}, schema throughline; psql: select throughline.publish('<topic>', 'made', 'key', 'payload');`,
    );
  console.log(`Topic files: ${flags.topics}; add, edit or remove one`);
  const [{ address = "" } = {}] = started.servers;
  const place = { namespace: flags.namespace, address, topicsDirectory: flags.topics };
  for (const line of firstSteps(started.topics, place)) console.log(line);
  console.log("Ctrl-C ends it; data stays for the next run.");
} catch (error) {
  if (giveUp.signal.aborted) process.exit(0);
  console.error(`npm start: ${(error as Error).message}`);
  process.exit(1);
}
