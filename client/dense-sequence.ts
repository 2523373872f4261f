/**
 * The consumer's own proof of P8 (pure): order values of a Commit topic rise by one. A number that is jumped
 * over is an event that this stream was not given; going back is a redelivery, or a seek.
 *
 * Events without an order value are none of its business: topics of other orderings have no other.
 */
import type { Event } from "../proto/gen/throughline/v1/throughline.ts";
import { ThroughlineError } from "./errors.ts";

export class DenseSequence {
  #last: bigint | undefined;

  /** What comes next need not follow: it was said that events are lost, or that another position holds. */
  restart(): void {
    this.#last = undefined;
  }

  /** @throws ThroughlineError SEQUENCE_GAP */
  check(events: readonly Event[]): void {
    for (const { sequence, offset } of events) {
      if (sequence === 0n) continue;
      const last = this.#last;
      if (last !== undefined && sequence > last + 1n) {
        throw new ThroughlineError({
          ...{ name: "SEQUENCE_GAP", retryable: false, token: Buffer.alloc(0), loss: 0 },
          message: `Event ${last} is followed by ${sequence} at offset ${offset}: what is between was not delivered.`,
          advice:
            "Something else has written to or cut the Kafka topic: compare with throughline.events in the database, and start at a sequence to go on.",
          earliest: [],
        });
      }
      this.#last = sequence;
    }
  }
}
