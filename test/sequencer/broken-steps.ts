/** The order of work of a batch, broken on purpose: by wrapping the steps of the product, never a copy of them. */
import type { Steps } from "../../sequencer/relay.ts";

export function confirmBeforeKafka(steps: Steps): Steps {
  return {
    ...steps,
    send: async (plan, stamped) => {
      await stamped;
      steps.confirm(plan);
      await steps.send(plan, stamped);
    },
  };
}

export function stampAfterKafka(steps: Steps): Steps {
  return {
    ...steps,
    stamp: () => Promise.resolve(),
    send: async (plan) => {
      await steps.send(plan, Promise.resolve());
      await steps.stamp(plan);
    },
  };
}
