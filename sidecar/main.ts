/**
 * The server process: configuration, signals, exit codes. What it runs is server.ts.
 *
 * SIGTERM drains and ends. SIGUSR2 begins a drain and goes on: in a pod the preStop hook sends it, since
 * the kubelet sends a native sidecar its SIGTERM only when the app has gone
 * (https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/).
 *
 * Exit codes: 0 after a drain or --help, 1 for anything that a person must correct, 2 for a bug.
 */
import { setLogger } from "@grpc/grpc-js";
import { openKafkaLog } from "../kafka/kafka-log.ts";
import { outOfDate } from "../process/certificates.ts";
import { STEADY_CLOCK } from "../process/clock.ts";
import { makeLogger } from "../process/logger.ts";
import { endOnBug, endOnSignal, runWith } from "../process/program.ts";
import { type Config, readConfig } from "./config.ts";
import { startServer } from "./server.ts";
import { openRedisStore } from "./sessions/redis-store.ts";

const STORE_WORLD = { clock: STEADY_CLOCK, random: Math.random };

await runWith(readConfig(), run);

async function run(config: Config): Promise<void> {
  const logger = makeLogger(config.logLevel, config.serverName);
  // grpc-js writes to standard error what its callers are told anyway.
  const grpcLog = (...words: unknown[]): void => logger.debug({ from: "grpc" }, words.join(" "));
  setLogger({ error: grpcLog, info: grpcLog, debug: grpcLog });
  endOnBug(logger);
  const { brokers, tls, sasl } = config.kafka;
  for (const [flag, cert] of [
    ["--tls-cert-file", config.tls?.cert],
    ["--kafka-tls-cert-file", tls?.cert],
  ] as const)
    for (const warning of cert ? outOfDate(cert, flag, Date.now()) : []) logger.warn(warning);
  const log = openKafkaLog({
    brokers,
    clientId: `throughline-${config.serverName}`,
    ...(tls && { tls }),
    ...(sasl && { sasl }),
  });
  const store = config.sessionStore && openRedisStore({ ...config.sessionStore, ...STORE_WORLD });
  void store?.inspect().then((warnings) => {
    for (const warning of warnings) logger.warn(warning);
  });
  const server = await startServer(config, log, logger, store);
  logger.info(
    {
      listen: server.address,
      ...(config.healthListen && {
        health: `${config.healthListen.host}:${server.healthPort}`,
      }),
      shape: config.shape,
      deploymentId: config.deploymentId,
      namespace: config.namespace,
      tls: config.tls !== undefined,
      sessions: store !== undefined,
    },
    "serving",
  );
  process.on("SIGUSR2", () => {
    logger.info("draining until SIGTERM: clients are told to leave, new streams are refused");
    server.beginDrain();
  });
  endOnSignal(logger, `draining for up to ${config.limits.drainMs} ms`, async () => {
    await server.drain();
    await server.close();
  });
}
