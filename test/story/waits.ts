/** Waiting for what others do. */

/** Wakes whoever waits for something to hold, after each change. */
export class Waits {
  readonly #looks = new Set<() => void>();

  changed(): void {
    for (const look of [...this.#looks]) look();
  }

  /** Resolves when it holds; rejects with what `broken` says. */
  until(holds: () => boolean, broken: () => Error | undefined = () => undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const failure = broken();
        if (!failure && !holds()) return;
        this.#looks.delete(look);
        if (failure) reject(failure);
        else resolve();
      };
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
