/** A sequencer as a process: the product, with what a variant breaks, and a clean-up that a short run can see. */
import { openKafkaLog } from "../../../kafka/kafka-log.ts";
import type { Log } from "../../../kafka/log.ts";
import { makeLogger } from "../../../process/logger.ts";
import { endOnBug } from "../../../process/program.ts";
import type { DatabaseAddress } from "../../../sequencer/postgres.ts";
import { startSequencer } from "../../../sequencer/sequencer.ts";
import type { Identity } from "../../../sequencer/term.ts";
import { VARIANTS } from "./variants.ts";

export interface SequencerOrder {
  readonly identity: Identity;
  readonly database: DatabaseAddress;
  readonly brokers: readonly string[];
  readonly broken: string | undefined;
}

/** The product's flag counts hours. */
const KEEP_SENT_HOURS = 30 / 3600;

const order = JSON.parse(process.argv[2] ?? "") as SequencerOrder;
const { identity, database, brokers, broken } = order;
const { around, log: breakLog = (log: Log): Log => log } = (broken && VARIANTS[broken]) || {};
const logger = makeLogger("info", identity.instance);
endOnBug(logger);
// By it the wires of one are told from those of the other.
const log = breakLog(openKafkaLog({ brokers, clientId: identity.instance }));
await startSequencer({
  ...{ identity, database, log, logger, keepSentHours: KEEP_SENT_HOURS, healthListen: undefined },
  ...(around && { around }),
});
// As under an operator: whoever started it may be gone.
process.once("disconnect", () => process.exit(0));
