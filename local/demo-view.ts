/** What the demo shows: a person sees a panel change in place below the lines, a pipe gets plain lines. */
const BAR = 24;
const NAME = 12;

export interface Progress {
  readonly name: string;
  readonly count: number;
  readonly of: number;
  readonly note?: string;
}

export class DemoView {
  readonly #out: NodeJS.WriteStream;
  readonly #nowMs: () => number;
  readonly #startedMs: number;
  #panel = 0;
  #progress: readonly Progress[] = [];

  constructor(out: NodeJS.WriteStream, nowMs: () => number) {
    this.#out = out;
    this.#nowMs = nowMs;
    this.#startedMs = nowMs();
  }

  /** One line that stays, with the time since the start. */
  readonly say = (line: string): void => {
    const seconds = ((this.#nowMs() - this.#startedMs) / 1000).toFixed(1).padStart(6);
    this.#erase();
    this.#out.write(`${seconds} s  ${line}\n`);
    this.#draw();
  };

  /** The state of now: replaces the panel. */
  show(progress: readonly Progress[]): void {
    if (!this.#out.isTTY) return;
    this.#erase();
    this.#progress = progress;
    this.#draw();
  }

  /** The same for a pipe, as one line; a person has the panel. */
  sum(progress: readonly Progress[]): void {
    if (this.#out.isTTY) return;
    this.say(progress.map(({ name, count }) => `${name} ${count}`).join(", "));
  }

  #erase(): void {
    if (this.#panel > 0) this.#out.write(`\u001b[${this.#panel}A\r\u001b[J`);
    this.#panel = 0;
  }

  #draw(): void {
    if (!this.#out.isTTY || this.#progress.length === 0) return;
    // A line that wraps would be two lines to erase.
    const columns = Math.max(20, this.#out.columns ?? 80) - 1;
    for (const { name, count, of, note = "" } of this.#progress) {
      const filled = Math.min(BAR, Math.floor((BAR * count) / of));
      const bar = "█".repeat(filled) + "░".repeat(BAR - filled);
      const counts = `${count.toLocaleString("en")} of ${of.toLocaleString("en")}`;
      const line = `  ${name.padEnd(NAME)} ${bar} ${counts.padEnd(16)} ${note}`;
      this.#out.write(`${line.slice(0, columns)}\n`);
    }
    this.#panel = this.#progress.length;
  }
}
