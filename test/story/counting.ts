/** A named publisher of the stories, whose event n is number n, and the judge of what is in the log then. */
import { expect } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import type { ThroughlineError } from "../../client/errors.ts";
import type { NamedPublisher, NumberedResult } from "../../client/named-publisher.ts";
import type { Seen } from "../../local/demo-audit.ts";
import { newEvent } from "./publisher.ts";
import { Pace, Waits } from "./waits.ts";

const BATCH = 20;
const AHEAD = 20;

/** Publishes event n as number n from where the topic ends, several batches ahead of their answers. */
export class Counting {
  readonly publisher: NamedPublisher;
  readonly breaks: string[] = [];
  readonly acknowledged: { number: number; position: NumberedResult }[] = [];
  /** Why it ended. */
  readonly ended: Promise<ThroughlineError | undefined>;
  readonly #client: ThroughlineClient;
  readonly #waits = new Waits();
  readonly #pace = new Pace(160, 2);
  #stopping = false;
  #failure: ThroughlineError | undefined;

  constructor(addresses: readonly string[], topic: string, name: string) {
    this.#client = new ThroughlineClient(addresses);
    this.publisher = this.#client.namedPublisher({
      ...{ topic, name },
      onBreak: ({ error }) => {
        this.breaks.push(error);
        this.#waits.changed();
      },
    });
    this.ended = this.#run();
  }

  /** Resolves when that many more are in the topic. */
  more(count: number): Promise<void> {
    const goal = this.acknowledged.length + count;
    return this.#waits.until(
      () => this.acknowledged.length >= goal,
      () => this.#failure,
    );
  }

  /** Resolves when the stream breaks the next time. */
  broke(): Promise<void> {
    const goal = this.breaks.length + 1;
    return this.#waits.until(
      () => this.breaks.length >= goal,
      () => this.#failure,
    );
  }

  /** @returns why it ended by itself. */
  async stop(): Promise<ThroughlineError | undefined> {
    this.#stopping = true;
    this.#pace.stop();
    const why = await this.ended;
    this.close();
    return why;
  }

  close(): void {
    this.publisher.close();
    this.#client.close();
  }

  async #run(): Promise<ThroughlineError | undefined> {
    try {
      let next = Number(await this.publisher.lastNumber()) + 1;
      await Promise.all(
        Array.from({ length: AHEAD }, async () => {
          for (;;) {
            await this.#pace.turn();
            if (this.#stopping) return;
            const from = next;
            next += BATCH;
            const events = Array.from({ length: BATCH }, (_, i) => newEvent(from + i));
            const results = await this.publisher.publish(events);
            for (const [i, position] of results.entries()) {
              this.acknowledged.push({ number: from + i, position });
            }
            this.#waits.changed();
          }
        }),
      );
      return undefined;
    } catch (error) {
      this.#failure = error as ThroughlineError;
      this.#waits.changed();
      return this.#failure;
    } finally {
      this.#pace.stop();
    }
  }
}

/** Each number from 1 once, in order per partition; what was acknowledged is where it was said to be. */
export function expectExactlyOnce(
  log: readonly Seen[],
  publishers: readonly Pick<Counting, "acknowledged">[],
): void {
  const numbers = log.map(({ value }) => Number(value));
  const seen = new Set(numbers);
  const last = Math.max(0, ...numbers);
  const missing = Array.from({ length: last }, (_, i) => i + 1).filter((n) => !seen.has(n));
  const byPartition = new Map<number, number>();
  const disordered = log.filter(({ partition, value }) => {
    const before = byPartition.get(partition) ?? 0;
    byPartition.set(partition, Number(value));
    return Number(value) <= before;
  });
  expect({
    repeated: numbers.length - seen.size,
    missing: missing.slice(0, 5),
    disordered: disordered.slice(0, 5),
  }).toEqual({ repeated: 0, missing: [], disordered: [] });
  const at = new Map(
    log.map(({ partition, offset, value }) => [`${partition}/${offset}`, Number(value)]),
  );
  for (const { number, position } of publishers.flatMap(({ acknowledged }) => acknowledged)) {
    if ("error" in position) throw position.error;
    expect(position.number).toBe(BigInt(number));
    expect(seen.has(number)).toBe(true);
    const { position: where } = position;
    if (where) expect(at.get(`${where.partition}/${where.offset}`)).toBe(number);
  }
}
