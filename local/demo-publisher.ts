/** The demo's publisher: counts what was acknowledged. */
import { ThroughlineClient } from "../client/client.ts";
import type { NewEvent } from "../proto/gen/throughline/v1/throughline.ts";
import type { LocalServer } from "./throughline.ts";

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
    for (const { result } of await client.publish(topic, events)) {
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
