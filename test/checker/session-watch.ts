/**
 * Asks again and again where the shared sessions stand: of a member that has much to deliver nobody hears it,
 * because it has no heartbeats. Asks servers themselves, so that what is done to clients' wires does not matter.
 */
import { credentials } from "@grpc/grpc-js";
import { ThroughlineServiceClient } from "../../proto/gen/throughline/v1/throughline.ts";
import { pause } from "./clients/pace.ts";
import { ASKED } from "./clients/roster.ts";
import type { Field } from "./field.ts";
import { nowMs } from "./history.ts";
import type { Stood } from "./judge/world.ts";

const EVERY_MS = 75;
/** One that is frozen or has no store is passed over. */
const PATIENCE_MS = 250;

export class SessionWatch {
  readonly stood: Stood[] = [];
  readonly #field: Field;
  readonly #stubs = new Map<string, ThroughlineServiceClient>();
  readonly #stopping = new AbortController();
  #running: Promise<unknown> = Promise.resolve();

  constructor(field: Field) {
    this.#field = field;
  }

  open(): void {
    this.#running = Promise.all(ASKED.map(({ topic, session }) => this.#run(topic, session)));
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    for (const stub of this.#stubs.values()) stub.close();
  }

  async #run(topic: string, session: string): Promise<void> {
    const { signal } = this.#stopping;
    let last = "";
    for (let turn = 0; !signal.aborted; turn++) {
      const token = await this.#ask(this.#stub(turn), topic, session);
      if (token && token !== last) this.stood.push({ atMs: nowMs(), topic, session, token });
      last = token || last;
      await pause(EVERY_MS, signal);
    }
  }

  /** @returns the token; empty when there was no answer. */
  #ask(stub: ThroughlineServiceClient, topic: string, session: string): Promise<string> {
    return new Promise((resolve) => {
      const call = stub.getSession({ topic, session }, (error, answer) => {
        clearTimeout(late);
        resolve(error ? "" : answer.token.toString("base64"));
      });
      const late = setTimeout(() => call.cancel(), PATIENCE_MS);
    });
  }

  #stub(turn: number): ThroughlineServiceClient {
    const { listen } = this.#field.seat(turn);
    const known = this.#stubs.get(listen);
    if (known) return known;
    const made = new ThroughlineServiceClient(listen, credentials.createInsecure(), {
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 500,
    });
    this.#stubs.set(listen, made);
    return made;
  }
}
