/**
 * The operator's process: configuration, signals, exit codes. What it runs is operator.ts.
 *
 * Exit codes: 0 after SIGTERM or --help, 1 for anything that a person must correct, 2 for a bug, 3 when it
 * cannot lead any more: the next start stands by.
 */
import { openKafkaLog } from "../kafka/kafka-log.ts";
import { outOfDate } from "../process/certificates.ts";
import { makeLogger } from "../process/logger.ts";
import { endOnBug, endOnSignal, runWith } from "../process/program.ts";
import { type Config, readConfig } from "./config.ts";
import { kubeConfigOf } from "./kube/kube-config.ts";
import { startOperator } from "./operator.ts";

await runWith(readConfig(), run);

async function run(config: Config): Promise<void> {
  const logger = makeLogger(config.logLevel, config.identity);
  endOnBug(logger);
  const { brokers, tls, sasl } = config.kafka;
  const certificate = tls?.cert;
  for (const warning of certificate
    ? outOfDate(certificate, "--kafka-tls-cert-file", Date.now())
    : [])
    logger.warn(warning);
  const log = openKafkaLog({
    ...{ brokers, clientId: "throughline-operator" },
    ...(tls && { tls }),
    ...(sasl && { sasl }),
  });
  const operator = await startOperator(config, kubeConfigOf(config.kubeconfig), log, logger);
  endOnSignal(logger, "stopping", () => operator.close());
  logger.warn(await operator.lost);
  process.exit(3);
}
