/**
 * Virtual time: timers fire in order of time, ties in seeded random order, each after every promise of
 * the one before has settled.
 */
import type { Random } from "./random.ts";

interface Timer {
  readonly at: number;
  readonly tie: number;
  fire: (() => void) | undefined;
}

export class VirtualClock {
  readonly #random: Random;
  readonly #heap: Timer[] = [];
  #now = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  now(): number {
    return this.#now;
  }

  readonly setTimer = (ms: number, fire: () => void): (() => void) => {
    const timer: Timer = { at: this.#now + ms, tie: this.#random.next(), fire };
    this.#push(timer);
    return () => {
      timer.fire = undefined;
    };
  };

  /** Runs until `done` or until `untilMs`; false when time ran out. */
  async run(untilMs: number, done: () => boolean = () => false): Promise<boolean> {
    for (;;) {
      await settled();
      if (done()) return true;
      const timer = this.#heap[0];
      if (timer === undefined || timer.at > untilMs) {
        this.#now = untilMs;
        return false;
      }
      this.#pop();
      if (timer.fire === undefined) continue;
      this.#now = timer.at;
      timer.fire();
    }
  }

  #push(timer: Timer): void {
    const heap = this.#heap;
    heap.push(timer);
    for (let i = heap.length - 1; i > 0; ) {
      const parent = (i - 1) >> 1;
      if (!before(heap[i] as Timer, heap[parent] as Timer)) return;
      [heap[i], heap[parent]] = [heap[parent] as Timer, heap[i] as Timer];
      i = parent;
    }
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Timer;
    if (heap.length === 0) return;
    heap[0] = last;
    for (let i = 0; ; ) {
      let least = i;
      for (const child of [2 * i + 1, 2 * i + 2]) {
        if (child < heap.length && before(heap[child] as Timer, heap[least] as Timer))
          least = child;
      }
      if (least === i) return;
      [heap[i], heap[least]] = [heap[least] as Timer, heap[i] as Timer];
      i = least;
    }
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.tie < b.tie);
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
