/**
 * Frames and segments are large buffers that die young. V8 frees such a buffer with its small object, in
 * a minor collection; but their bytes count towards the next full collection, which costs ten times as
 * much, and comes first when few small objects are made beside many large buffers. So a minor one is
 * asked for whenever this many bytes were allocated: a backlog then costs a third of the CPU time, and
 * what is dead and not yet freed stays bounded (P6).
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const EVERY_BYTES = 16 << 20;

export class ShortLivedMemory {
  readonly #collect: (options: { type: "minor" }) => void;
  #bytes = 0;

  constructor(collect: (options: { type: "minor" }) => void = minorCollection()) {
    this.#collect = collect;
  }

  allocated(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < EVERY_BYTES) return;
    this.#bytes = 0;
    this.#collect({ type: "minor" });
  }
}

/** V8's own function, which is not in scope by default. */
function minorCollection(): (options: { type: "minor" }) => void {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc");
}
