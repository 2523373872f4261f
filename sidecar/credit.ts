/** What a client will still take (P6). Events and bytes are counted as delivered. */
import type { Credit } from "../proto/gen/throughline/v1/throughline.ts";
import { Failure } from "./failure.ts";

const MAX_EVENTS = 1_000_000_000;
const MAX_BYTES = 2 ** 40;

export class CreditBalance {
  events: number;
  /** Infinity when the client set no limit by bytes. */
  bytes: number;

  /** @throws Failure INVALID_REQUEST */
  constructor(first: Credit | undefined) {
    if (!first) {
      throw new Failure(
        "INVALID_REQUEST",
        "open.credit: is required; say how many events you will take.",
      );
    }
    checkRange("open.credit", first);
    if (first.events < 1n) {
      throw new Failure("INVALID_REQUEST", "open.credit.events: must be at least 1.");
    }
    this.events = Number(first.events);
    this.bytes = first.bytes === 0n ? Number.POSITIVE_INFINITY : Number(first.bytes);
  }

  get none(): boolean {
    return this.events <= 0 || this.bytes <= 0;
  }

  /** @throws Failure INVALID_REQUEST, and changes nothing. */
  add(more: Credit): void {
    checkRange("credit", more);
    if (more.events === 0n && more.bytes === 0n) {
      throw new Failure(
        "INVALID_REQUEST",
        "credit: events and bytes are both 0; give at least one.",
      );
    }
    const events = this.events + Number(more.events);
    const bytes = this.bytes + Number(more.bytes);
    if (events > MAX_EVENTS) {
      throw new Failure(
        "INVALID_REQUEST",
        `credit.events: at most ${MAX_EVENTS} may be outstanding.`,
      );
    }
    if (Number.isFinite(bytes) && bytes > MAX_BYTES) {
      throw new Failure(
        "INVALID_REQUEST",
        `credit.bytes: at most ${MAX_BYTES} may be outstanding.`,
      );
    }
    this.events = events;
    this.bytes = bytes;
  }

  spend(events: number, bytes: number): void {
    this.events -= events;
    this.bytes -= bytes;
  }
}

function checkRange(field: string, credit: Credit): void {
  for (const [name, value, max] of [
    ["events", credit.events, MAX_EVENTS],
    ["bytes", credit.bytes, MAX_BYTES],
  ] as const) {
    if (value < 0n || value > BigInt(max)) {
      throw new Failure("INVALID_REQUEST", `${field}.${name}: is ${value}; must be 0 to ${max}.`);
    }
  }
}
