/**
 * Questions that many ask at once: one request per key at a time. Who asks while one is under way shares
 * the next one, so no answer is older than its question. Without this the opens of a herd queue thousands
 * of look-ups in the client library, which, when it loses the connection, fails each from within the
 * failure of the one before it, until the stack overflows.
 */
interface Wave<T> {
  readonly open: Promise<T>;
  next: Promise<T> | undefined;
}

export class AskedTogether<T> {
  readonly #waves = new Map<string, Wave<T>>();

  ask(key: string, send: () => Promise<T>): Promise<T> {
    const wave = this.#waves.get(key);
    if (wave === undefined) return this.#send(key, send);
    const again = (): Promise<T> => this.#send(key, send);
    wave.next ??= wave.open.then(again, again);
    return wave.next;
  }

  #send(key: string, send: () => Promise<T>): Promise<T> {
    const wave: Wave<T> = { open: send(), next: undefined };
    this.#waves.set(key, wave);
    const over = (): void => {
      if (wave.next === undefined) this.#waves.delete(key);
    };
    wave.open.then(over, over);
    return wave.open;
  }
}
