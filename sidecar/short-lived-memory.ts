/**
 * Frames and segments are large buffers that die young. V8 frees such a buffer with its small object, in
 * a minor collection; but their bytes count towards the next full one, which costs ten times as much,
 * and comes first when few small objects are made beside many large buffers. So a minor collection is
 * asked for whenever so many bytes were allocated: a backlog then costs a third of the CPU time, and what
 * is dead but not yet freed stays bounded (P6). When nothing more comes after much, one full collection
 * gives back what the burst left.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Clock } from "./server-context.ts";

const MINOR_EVERY_BYTES = 16 << 20;
const CALM_MS = 2000;

export type Collect = (options: { readonly type: "minor" | "major" }) => void;

export class ShortLivedMemory {
  readonly #setTimer: Clock["setTimer"];
  readonly #collect: Collect;
  #bytes = 0;
  #minors = 0;
  #cancelCalm: (() => void) | undefined;

  constructor(setTimer: Clock["setTimer"], collect: Collect = collector()) {
    this.#setTimer = setTimer;
    this.#collect = collect;
  }

  allocated(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < MINOR_EVERY_BYTES) return;
    this.#bytes = 0;
    this.#minors++;
    this.#collect({ type: "minor" });
    if (!this.#cancelCalm) this.#awaitCalm(this.#minors);
  }

  close(): void {
    this.#cancelCalm?.();
  }

  #awaitCalm(minors: number): void {
    this.#cancelCalm = this.#setTimer(CALM_MS, () => {
      this.#cancelCalm = undefined;
      if (this.#minors > minors) this.#awaitCalm(this.#minors);
      else this.#collect({ type: "major" });
    });
  }
}

/** V8's own function, which is not in scope by default. */
function collector(): Collect {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc");
}
