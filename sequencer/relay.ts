/**
 * The order of work for one batch, which all else serves (P8):
 *
 *   stamp (SQL, committed) ─► commit of the Kafka transaction (events and progress) ─► confirm the slot
 *
 * Producing overlaps the stamp; its commit waits for it. So what is committed in Kafka is never ahead of the
 * stamps, and the slot never ahead of Kafka. Whatever breaks in between is begun again from what the three
 * have: see `decide.ts` and `plan.ts`.
 */
import type { Plan } from "./plan.ts";

/** Steps of the product, which tests replace one by one. */
export interface Steps {
  /** Resolves when the stamps are committed. */
  stamp(plan: Plan): Promise<void>;
  /** Resolves when events and progress are committed in Kafka, which is after `stamped`. */
  send(plan: Plan, stamped: Promise<void>): Promise<void>;
  confirm(plan: Plan): void;
}

/** Rejects with the first step's reason; nothing of a later step is done then. */
export async function relayBatch(plan: Plan, steps: Steps): Promise<void> {
  const stamped = steps.stamp(plan);
  await Promise.all([stamped, steps.send(plan, stamped)]);
  steps.confirm(plan);
}
