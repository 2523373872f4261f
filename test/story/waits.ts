/** Waiting for what others do. */

const STILL_MS = 30_000;
/** Within a test's own time, so that it says at which line it waits. */
const WAIT_MS = 100_000;

/** Wakes whoever waits for something to hold, after each change. */
export class Waits {
  readonly #looks = new Set<() => void>();

  changed(): void {
    for (const look of [...this.#looks]) look();
  }

  /** Resolves when it holds; rejects with what `broken` says, or when it still does not hold after long. */
  until(holds: () => boolean, broken: () => Error | undefined = () => undefined): Promise<void> {
    const late = new Error(`This does not hold after ${WAIT_MS} ms: ${holds}`);
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const failure = broken();
        if (!failure && !holds()) return;
        clearTimeout(timer);
        this.#looks.delete(look);
        if (failure) reject(failure);
        else resolve();
      };
      const timer = setTimeout(() => {
        this.#looks.delete(look);
        reject(late);
      }, WAIT_MS);
      this.#looks.add(look);
      look();
    });
  }
}

/**
 * Resolves when it holds. What only asking tells is asked at a pace: who asks without a pause takes the
 * machine from those who are to make it so.
 */
export function until(holds: () => Promise<boolean>, everyMs = 50): Promise<void> {
  return new Promise((resolve, reject) => {
    let asking = false;
    const look = async (): Promise<void> => {
      if (asking) return;
      asking = true;
      try {
        if (await holds()) end(resolve);
      } catch (error) {
        end(() => reject(error));
      }
      asking = false;
    };
    const end = (then: () => void): void => {
      clearInterval(pace);
      then();
    };
    const pace = setInterval(look, everyMs);
    void look();
  });
}

/**
 * Resolves when it holds, or when the count, once it has begun, has stood still for so long: what is not there then
 * never will be, and a judge says what it is.
 */
export function untilStill(holds: () => boolean, count: () => number): Promise<void> {
  let [last, sinceMs] = [0, performance.now()];
  return until(async () => {
    const now = count();
    if (now !== last) [last, sinceMs] = [now, performance.now()];
    return holds() || (last > 0 && performance.now() - sinceMs > STILL_MS);
  });
}

/** A load's pace, which leaves two cores time for everybody else: at each tick so many go on, in turn. */
export class Pace {
  readonly #waiting: (() => void)[] = [];
  readonly #ticks: NodeJS.Timeout;
  #over = false;

  constructor(everyMs: number, together: number) {
    this.#ticks = setInterval(() => {
      for (const go of this.#waiting.splice(0, together)) go();
    }, everyMs);
  }

  turn(): Promise<void> {
    if (this.#over) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Nobody waits any more. */
  stop(): void {
    this.#over = true;
    clearInterval(this.#ticks);
    for (const go of this.#waiting.splice(0)) go();
  }
}
