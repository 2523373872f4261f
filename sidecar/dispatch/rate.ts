/**
 * Bytes per second over the last one to two windows of time. Two counts, so that noting is an addition.
 */
export class Rate {
  readonly #windowMs: number;
  #startMs: number;
  #bytes = 0;
  #before: number | undefined;

  constructor(windowMs: number, nowMs: number) {
    this.#windowMs = windowMs;
    this.#startMs = nowMs;
  }

  note(bytes: number, nowMs: number): void {
    this.#turn(nowMs);
    this.#bytes += bytes;
  }

  /** Undefined until the first window is over: too little was seen. */
  perSecond(nowMs: number): number | undefined {
    this.#turn(nowMs);
    if (this.#before === undefined) return undefined;
    const spanMs = this.#windowMs + nowMs - this.#startMs;
    return ((this.#before + this.#bytes) * 1000) / spanMs;
  }

  #turn(nowMs: number): void {
    const windows = Math.floor((nowMs - this.#startMs) / this.#windowMs);
    if (windows < 1) return;
    this.#before = windows === 1 ? this.#bytes : 0;
    this.#bytes = 0;
    this.#startMs += windows * this.#windowMs;
  }
}
