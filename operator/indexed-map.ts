/** A map that also finds its values by a second key, which several may share. */
export class IndexedMap<Value> extends Map<string, Value> {
  readonly #secondKeyOf: (value: Value) => string;
  readonly #keys = new Map<string, Set<string>>();

  constructor(secondKeyOf: (value: Value) => string) {
    super();
    this.#secondKeyOf = secondKeyOf;
  }

  override set(key: string, value: Value): this {
    this.#forget(key);
    const second = this.#secondKeyOf(value);
    const keys = this.#keys.get(second) ?? new Set();
    this.#keys.set(second, keys.add(key));
    return super.set(key, value);
  }

  override delete(key: string): boolean {
    this.#forget(key);
    return super.delete(key);
  }

  /** All whose second key this is. */
  sharing(second: string): [key: string, value: Value][] {
    return [...(this.#keys.get(second) ?? [])].map((key) => [key, this.get(key) as Value]);
  }

  #forget(key: string): void {
    const known = this.get(key);
    if (known === undefined) return;
    const second = this.#secondKeyOf(known);
    const keys = this.#keys.get(second);
    keys?.delete(key);
    if (keys?.size === 0) this.#keys.delete(second);
  }
}
