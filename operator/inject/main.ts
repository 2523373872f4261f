/**
 * The injector's process: configuration, signals, exit codes. What it runs is injector.ts. It is a program of its
 * own beside the operator: it is in the way of pods, so it must not end when a Lease is lost or Kafka is away.
 *
 * Exit codes: 0 after SIGTERM or --help, 1 for anything that a person must correct, 2 for a bug.
 */
import { makeLogger } from "../../process/logger.ts";
import { endOnBug, endOnSignal, runWith } from "../../process/program.ts";
import { kubeConfigOf } from "../kube/kube-config.ts";
import { type Config, readConfig } from "./config.ts";
import { startInjector } from "./injector.ts";

await runWith(readConfig(), run);

async function run(config: Config): Promise<void> {
  const logger = makeLogger(config.logLevel, config.identity);
  endOnBug(logger);
  const injector = await startInjector(config, kubeConfigOf(config.kubeconfig), logger);
  const { port, healthPort } = injector;
  logger.info({ port, ...(healthPort !== undefined && { healthPort }) }, "listening");
  endOnSignal(logger, "stopping: questions are answered for some seconds yet", () =>
    injector.close(),
  );
}
