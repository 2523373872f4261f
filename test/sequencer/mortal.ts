/**
 * A sequencer as a process of its own, for `sequencers.ts`: the product with one of its steps wrapped, so that it
 * ends itself by SIGKILL right there, at the n-th batch.
 */
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import { makeLogger } from "../../process/logger.ts";
import type { Steps } from "../../sequencer/relay.ts";
import { startSequencer } from "../../sequencer/sequencer.ts";
import type { Told } from "./sequencers.ts";

const { identity, database, brokers, death } = JSON.parse(process.argv[2] ?? "") as Told;
let left = death?.batch ?? 0;

function dieAt(step: string): void {
  if (death?.step === step && --left <= 0) process.kill(process.pid, "SIGKILL");
}

const around = (steps: Steps): Steps => ({
  stamp: async (plan) => {
    dieAt("decoded");
    await steps.stamp(plan);
    dieAt("stamped");
  },
  send: async (plan, stamped) => {
    await steps.send(plan, stamped);
    dieAt("sent");
  },
  confirm: (plan) => {
    steps.confirm(plan);
    dieAt("confirmed");
  },
});

const log = openKafkaLog({ brokers, clientId: "mortal" });
const logger = makeLogger("info", identity.instance);
await startSequencer({ identity, database, log, logger, healthListen: undefined, around });
// As under an operator: whoever started it may be gone.
process.once("disconnect", () => process.exit(0));
