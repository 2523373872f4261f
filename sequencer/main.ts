/**
 * The sequencer's process: configuration, signals, exit codes. What it runs is sequencer.ts.
 *
 * Exit codes: 0 after SIGTERM, --help or a deed that is done, 1 for anything that a person must correct, 2 for a bug.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { openKafkaLog } from "../kafka/kafka-log.ts";
import { outOfDate } from "../process/certificates.ts";
import { makeLogger } from "../process/logger.ts";
import { endOnBug, endOnSignal, runWith } from "../process/program.ts";
import { type Config, readConfig } from "./config.ts";
import { openSql } from "./postgres.ts";
import { startSequencer } from "./sequencer.ts";
import { forgetSlot } from "./slot.ts";
import { slotNameOf } from "./term.ts";

await runWith(readConfig(), (config) => (config.deed === "run" ? run(config) : once(config)));

async function run(config: Config): Promise<void> {
  const { identity, database, keepSentHours, retainedWalLimitBytes, healthListen } = config;
  const logger = makeLogger(config.logLevel, identity.instance);
  endOnBug(logger);
  const { brokers = [], tls, sasl } = config.kafka ?? {};
  const certificate = tls?.cert;
  for (const warning of certificate
    ? outOfDate(certificate, "--kafka-tls-cert-file", Date.now())
    : [])
    logger.warn(warning);
  const log = openKafkaLog({
    ...{ brokers, clientId: "throughline-sequencer" },
    ...(tls && { tls }),
    ...(sasl && { sasl }),
  });
  const sequencer = await startSequencer({
    ...{ identity, database, keepSentHours, retainedWalLimitBytes, log, logger, healthListen },
  });
  logger.info(
    {
      ...{ namespace: identity.namespace, outbox: identity.outbox },
      ...(healthListen && { health: `${healthListen.host}:${sequencer.healthPort}` }),
    },
    "sequencing",
  );
  endOnSignal(logger, "stopping", async () => {
    await sequencer.close();
    await log.close();
  });
}

async function once({ deed, database, identity }: Config): Promise<void> {
  const sql = await openSql(database);
  try {
    if (deed === "migrate")
      await sql.query(readFileSync(join(import.meta.dirname, "schema.sql"), "utf8"));
    else
      await forgetSlot(sql, slotNameOf(identity), {
        onStandby: () => process.stdout.write("Waiting for the sequencer at work to end\n"),
        pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      });
  } finally {
    await sql.end();
  }
}
