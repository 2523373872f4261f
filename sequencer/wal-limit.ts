/**
 * What PostgreSQL keeps of its log for the slot must not fill its disk. While a Topic is not Ready its Outbox waits,
 * and the log grows; at our limit it is said, and what waits for that Topic is parked instead. What keeps a sequencer
 * from going on at all (Kafka is away, it has failed) only PostgreSQL can end: `max_slot_wal_keep_size`.
 */
import type { Logger } from "pino";
import type { TopicVerdict } from "./plan.ts";
import type { Figures } from "./state.ts";

export class WalLimit {
  readonly #figures: Figures;
  readonly #logger: Logger;
  #isSaid = false;

  constructor({ figures, logger }: { readonly figures: Figures; readonly logger: Logger }) {
    this.#figures = figures;
    this.#logger = logger;
  }

  /** Says it once each time that it becomes too much. */
  look(): void {
    const { retainedWalBytes: bytes, retainedWalLimitBytes: limitBytes } = this.#figures;
    if (this.#isTooMuch && !this.#isSaid)
      this.#logger.warn(
        { bytes, limitBytes },
        "PostgreSQL keeps more of its log for the slot than --retained-wal-limit: what waits for a Topic is parked",
      );
    this.#isSaid = this.#isTooMuch;
  }

  verdict(verdict: TopicVerdict): TopicVerdict {
    if (verdict.kind !== "waits" || !this.#isTooMuch) return verdict;
    const why = `${verdict.reason}, and PostgreSQL kept more of its log for it than --retained-wal-limit`;
    return { kind: "parked", reason: why };
  }

  get #isTooMuch(): boolean {
    return this.#figures.retainedWalBytes > this.#figures.retainedWalLimitBytes;
  }
}
