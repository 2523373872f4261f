/**
 * Frames that are copied, and segments whose memory is new (segment-memory.ts), are large buffers that
 * mostly die young. V8 frees such a buffer with its small object, in a minor collection; but its bytes
 * count towards the next full one, which costs ten times as much, and comes first when few small objects
 * are made beside many large buffers. So a minor collection is asked for whenever so many bytes were
 * allocated. What lives longer (tails, frames that wait) is freed by full collections alone: one is asked
 * for whenever so many bytes are there beyond what the last one left, so that what is dead stays bounded
 * (P6), and one when it is calm after a burst.
 */
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Clock } from "../process/clock.ts";

const MINOR_EVERY_BYTES = 8 << 20;
const MAJOR_AFTER_BYTES = 16 << 20;
const CALM_MS = 2000;

export type Collect = (options: { readonly type: "minor" | "major" }) => void;

export class ShortLivedMemory {
  readonly #setTimer: Clock["setTimer"];
  readonly #collect: Collect;
  readonly #used: () => number;
  /** The fewest bytes seen since the last full collection, which frees some of them later. */
  #left = Number.POSITIVE_INFINITY;
  #bytes = 0;
  #minors = 0;
  #cancelCalm: (() => void) | undefined;

  /** @param used bytes on the heap and of buffers outside it, dead ones too. */
  constructor(
    setTimer: Clock["setTimer"],
    collect: Collect = collector(),
    used: () => number = usedBytes,
  ) {
    this.#setTimer = setTimer;
    this.#collect = collect;
    this.#used = used;
  }

  allocated(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < MINOR_EVERY_BYTES) return;
    this.#bytes = 0;
    this.#minors++;
    this.#collect({ type: "minor" });
    const used = this.#used();
    this.#left = Math.min(this.#left, used);
    if (used > this.#left + MAJOR_AFTER_BYTES) this.#full();
    if (!this.#cancelCalm) this.#awaitCalm(this.#minors);
  }

  close(): void {
    this.#cancelCalm?.();
  }

  #full(): void {
    this.#collect({ type: "major" });
    this.#left = Number.POSITIVE_INFINITY;
  }

  #awaitCalm(minors: number): void {
    this.#cancelCalm = this.#setTimer(CALM_MS, () => {
      this.#cancelCalm = undefined;
      if (this.#minors > minors) this.#awaitCalm(this.#minors);
      else this.#full();
    });
  }
}

function usedBytes(): number {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}

/** V8's own function, which is not in scope by default. */
function collector(): Collect {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc");
}
