/** The demo's publishers, one without a name and one with: count what was acknowledged. */
import { ThroughlineClient } from "../client/client.ts";
import { ThroughlineError } from "../client/errors.ts";
import type { NewEvent } from "../proto/gen/throughline/v1/throughline.ts";
import type { LocalServer } from "./throughline.ts";

/** Longer than a connection's longest pause between two attempts. */
const BACK_MS = 5000;
const AGAIN_MS = 50;

/**
 * Publishes through the server that is not killed next: an unnamed publisher whose server dies cannot
 * know whether its last batch is in the log.
 */
export class DemoPublisher {
  /** Acknowledged events by topic. */
  readonly acknowledged = new Map<string, number>();
  readonly #clients = new Map<string, ThroughlineClient>();

  async publish(server: LocalServer, topic: string, events: readonly NewEvent[]): Promise<void> {
    if (events.length === 0) return;
    let client = this.#clients.get(server.address);
    if (!client) {
      client = new ThroughlineClient([server.address]);
      this.#clients.set(server.address, client);
    }
    for (const { result } of await reached(() => client.publish(topic, events))) {
      if (result?.$case === "error") throw new Error(`publish: ${result.value.message}`);
    }
    this.acknowledged.set(topic, this.count(topic) + events.length);
  }

  count(topic: string): number {
    return this.acknowledged.get(topic) ?? 0;
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
  }
}

/** Of a server that is just back the connection may still wait for its next attempt; nothing was sent then. */
async function reached<T>(publish: () => Promise<T>): Promise<T> {
  const endMs = performance.now() + BACK_MS;
  for (;;) {
    try {
      return await publish();
    } catch (error) {
      const isAway = error instanceof ThroughlineError && error.error === "UNREACHABLE";
      if (!isAway || performance.now() > endMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

/**
 * Publishes under a name, through whichever server lives: numbered events are in the log once, also when the
 * server is killed with some of them on their way.
 */
export class NamedDemoPublisher {
  acknowledged = 0;
  sent = 0;
  breaks = 0;
  failure: Error | undefined;
  readonly #client: ThroughlineClient;
  readonly #publisher: ReturnType<ThroughlineClient["namedPublisher"]>;
  #last: Promise<unknown> = Promise.resolve();

  constructor(addresses: readonly string[], topic: string, name: string) {
    this.#client = new ThroughlineClient(addresses);
    const onBreak = (): void => {
      this.breaks++;
    };
    this.#publisher = this.#client.namedPublisher({ topic, name, onBreak });
  }

  /** Sends without waiting for the answers. */
  publish(events: readonly NewEvent[]): void {
    this.sent += events.length;
    this.#last = this.#publisher.publish(events).then(
      (results) => {
        this.acknowledged += results.filter((result) => !("error" in result)).length;
      },
      (error) => {
        this.failure = error as Error;
      },
    );
  }

  /** Resolves when all that was sent is answered. */
  async settled(): Promise<void> {
    await this.#last;
  }

  close(): void {
    this.#publisher.close();
    this.#client.close();
  }
}
