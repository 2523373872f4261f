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
