/** A publisher of the stories: publishes numbered events through servers and writes down what it heard. */
import { expect } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import { ThroughlineError } from "../../client/errors.ts";
import type { Seen } from "../../local/demo-audit.ts";
import type { NewEvent } from "../../proto/gen/throughline/v1/throughline.ts";
import { numbered } from "./bed.ts";

export class Publisher {
  readonly acknowledged: Seen[] = [];
  /** Names of the errors that were heard instead, of single events and of whole calls. */
  readonly errors = new Set<string>();
  /** The longest that a call took. */
  slowestMs = 0;
  readonly #client: ThroughlineClient;
  readonly #topic: string;
  readonly #padding: number;

  /** @param padding bytes of each event beside its number. */
  constructor(addresses: readonly string[], topic: string, padding = 0) {
    this.#client = new ThroughlineClient(addresses);
    this.#topic = topic;
    this.#padding = padding;
  }

  /** Resolves to whether all were acknowledged. */
  readonly publish = async (from: number, count: number): Promise<boolean> => {
    const begun = performance.now();
    try {
      const events = Array.from({ length: count }, (_, i) => newEvent(from + i, this.#padding));
      const results = await this.#client.publish(this.#topic, events);
      for (const [i, { result }] of results.entries()) {
        if (result?.$case === "position") {
          const { partition, offset } = result.value;
          const value = String(events[i]?.payload);
          this.acknowledged.push({ partition, offset: Number(offset), value });
        } else this.errors.add(result?.value.name ?? "no result");
      }
      return results.every(({ result }) => result?.$case === "position");
    } catch (error) {
      if (!(error instanceof ThroughlineError)) throw error;
      this.errors.add(error.error);
      return false;
    } finally {
      this.slowestMs = Math.max(this.slowestMs, performance.now() - begun);
    }
  };

  /** P7: the log has what was acknowledged, where it was said to be; nothing is in it twice (P1: in order). */
  expectKept(log: readonly Seen[]): void {
    const at = new Map(log.map((event) => [`${event.partition}/${event.offset}`, event.value]));
    const lost = this.acknowledged.filter(
      ({ partition, offset, value }) => at.get(`${partition}/${offset}`) !== value,
    );
    expect(lost.length).toBe(0);
    const last = new Map<number, number>();
    const disordered = [...log]
      .sort((a, b) => a.offset - b.offset)
      .filter(({ partition, value }) => {
        const before = last.get(partition) ?? -1;
        last.set(partition, Number.parseInt(value, 10));
        return Number.parseInt(value, 10) <= before;
      });
    expect(disordered.length).toBe(0);
    expect(new Set(log.map(({ value }) => value)).size).toBe(log.length);
  }

  close(): void {
    this.#client.close();
  }
}

export function newEvent(n: number, padding = 0): NewEvent {
  const { key, value } = numbered(n, padding);
  return {
    ...{ key: key ?? undefined, payload: value ?? undefined },
    ...{ headers: [], type: "", timeMs: undefined },
  };
}
