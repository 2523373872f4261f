/** Publishers that write down what they send before they send it, and every answer. */
import { ThroughlineClient } from "../../../client/client.ts";
import { ThroughlineError } from "../../../client/errors.ts";
import type { NewEvent } from "../../../proto/gen/throughline/v1/throughline.ts";
import { contentOf, type HistoryWriter, type Line } from "../history.ts";
import { pause } from "./pace.ts";
import type { PublisherSpec } from "./roster.ts";

/** Batches on their way. */
const AHEAD = 3;
const KEYS = 37;
/** A server that was cut off would else hold the publisher's batches for long. */
const PUBLISH_TIMEOUT_MS = 4000;

interface Numbered {
  readonly event: NewEvent;
  readonly content: string;
}

/** Event n of a publisher is always the same. */
export function numbered(publisher: string, n: number): Numbered {
  const value = `${publisher}:${n}`;
  const key = `key-${n % KEYS}`;
  const type = n % 2 === 0 ? "even" : "odd";
  const event = {
    key: Buffer.from(key),
    payload: Buffer.from(value),
    headers: [],
    type,
    timeMs: undefined,
  };
  return { event, content: contentOf(value, key, type) };
}

/** What both kinds have in common: a pace, batches ahead, and a halt that waits for the answers. */
export class Publisher {
  readonly #spec: PublisherSpec;
  readonly #writer: HistoryWriter;
  readonly #client: ThroughlineClient;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  readonly #under = new Set<Promise<void>>();
  #halted: boolean;

  constructor(
    spec: PublisherSpec,
    addresses: readonly string[],
    writer: HistoryWriter,
    past: readonly Line[],
    halted: boolean,
  ) {
    this.#spec = spec;
    this.#writer = writer;
    this.#halted = halted;
    const only = spec.at === undefined ? undefined : addresses[spec.at];
    this.#client = new ThroughlineClient(only === undefined ? addresses : [only], {
      publishTimeoutMs: PUBLISH_TIMEOUT_MS,
    });
    writer.write({
      kind: "client",
      role: spec.kind === "named" ? "named" : "publisher",
      topic: spec.topic,
      pid: process.pid,
    });
    const sent = past.reduce(
      (sum, line) => sum + (line.kind === "sent" ? line.events.length : 0),
      0,
    );
    this.#running = spec.kind === "named" ? this.#runNamed() : this.#runPlain(sent + 1);
  }

  get topic(): string {
    return this.#spec.topic;
  }

  /** Resolves when everything sent was answered. */
  async halt(): Promise<void> {
    this.#halted = true;
    while (this.#under.size > 0) await Promise.all(this.#under);
  }

  goOn(): void {
    this.#halted = false;
  }

  async finish(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#client.close();
    this.#writer.close();
  }

  async #runPlain(first: number): Promise<void> {
    const { topic, batch } = this.#spec;
    let next = first;
    await this.#paced(() => {
      const events = Array.from({ length: batch }, (_, i) => numbered(this.#spec.name, next + i));
      next += batch;
      return this.#publish(topic, events);
    });
  }

  async #publish(topic: string, events: readonly Numbered[]): Promise<void> {
    this.#writer.write({ kind: "sent", events: events.map(({ content }) => content) });
    try {
      const results = await this.#client.publish(
        topic,
        events.map(({ event }) => event),
      );
      for (const [i, { result }] of results.entries()) {
        const event = events[i]?.content ?? "";
        if (result?.$case === "position") {
          const { partition, offset } = result.value;
          this.#writer.write({ kind: "acknowledged", event, where: [partition, Number(offset)] });
        } else {
          const error = result?.value.name ?? "";
          this.#writer.write({ kind: "refused", events: [event], error });
        }
      }
    } catch (error) {
      this.#failed(events, error);
    }
  }

  async #runNamed(): Promise<void> {
    const { topic, name, batch } = this.#spec;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const publisher = this.#client.namedPublisher({ topic, name, signal });
      let ended = false;
      try {
        let next = Number(await publisher.lastNumber()) + 1;
        await this.#paced(
          async () => {
            const first = next;
            next += batch;
            const events = Array.from({ length: batch }, (_, i) => numbered(name, first + i));
            const contents = events.map(({ content }) => content);
            this.#writer.write({ kind: "sent", events: contents, number: first });
            try {
              const results = await publisher.publish(events.map(({ event }) => event));
              for (const [i, result] of results.entries()) {
                const event = contents[i] ?? "";
                if ("error" in result) {
                  this.#writer.write({
                    kind: "refused",
                    events: [event],
                    error: result.error.error,
                  });
                } else {
                  const { position } = result;
                  const where =
                    position && ([position.partition, Number(position.offset)] as const);
                  this.#writer.write({
                    kind: "acknowledged",
                    event,
                    number: Number(result.number),
                    where,
                  });
                }
              }
            } catch (error) {
              ended = true;
              this.#failed(events, error);
            }
          },
          () => ended,
        );
      } catch (error) {
        this.#failed([], error);
      }
      await Promise.all(this.#under);
      publisher.close();
      await pause(500, signal);
    }
  }

  #failed(events: readonly Numbered[], error: unknown): void {
    if (!(error instanceof ThroughlineError)) throw error;
    const contents = events.map(({ content }) => content);
    this.#writer.write({ kind: "refused", events: contents, error: error.error });
  }

  async #paced(send: () => Promise<void>, over: () => boolean = () => false): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted && !over()) {
      if (!this.#halted && this.#under.size < AHEAD) {
        const sent = send().finally(() => this.#under.delete(sent));
        this.#under.add(sent);
      }
      await pause(this.#spec.everyMs, signal);
    }
  }
}
