/** Seeks a session again and again, as an operator would, and forgets it every few times. */
import { credentials, type ServiceError } from "@grpc/grpc-js";
import { toThroughlineError } from "../../../client/errors.ts";
import { ThroughlineServiceClient } from "../../../proto/gen/throughline/v1/throughline.ts";
import type { HistoryWriter } from "../history.ts";
import { pause } from "./pace.ts";
import type { SubscriberSpec } from "./roster.ts";

/** So far back. */
const BACK_MS = 3000;
const FORGETS_EVERY = 4;
const PATIENCE_MS = 3000;

export class Mover {
  readonly #stopping = new AbortController();
  readonly #spec: SubscriberSpec;
  readonly #writer: HistoryWriter;
  readonly #running: Promise<void>;

  constructor(spec: SubscriberSpec, addresses: readonly string[], writer: HistoryWriter) {
    this.#spec = spec;
    this.#writer = writer;
    writer.write({ kind: "client", role: "raw", topic: spec.topic, pid: process.pid });
    this.#running = this.#run(addresses);
  }

  async finish(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#writer.close();
  }

  async #run(addresses: readonly string[]): Promise<void> {
    const { awayMs = 5000 } = this.#spec;
    const { signal } = this.#stopping;
    for (let n = 1; !signal.aborted; n++) {
      const stub = new ThroughlineServiceClient(
        addresses[n % addresses.length] as string,
        credentials.createInsecure(),
      );
      await this.#move(stub, n % FORGETS_EVERY === 0 ? "forget" : "seek");
      stub.close();
      await pause(awayMs, signal);
    }
  }

  #move(stub: ThroughlineServiceClient, move: "seek" | "forget"): Promise<void> {
    const { topic, session = "" } = this.#spec;
    this.#writer.write({ kind: "moves", move });
    return new Promise((resolve) => {
      const call = (ask: (done: Answer) => { cancel(): void }): void => {
        const asked = ask((error, token) => {
          clearTimeout(late);
          const failed = error ? { error: toThroughlineError(error).error } : {};
          this.#writer.write({ kind: "moved", move, token, ...failed });
          resolve();
        });
        const late = setTimeout(() => asked.cancel(), PATIENCE_MS);
      };
      const names = { topic, session };
      if (move === "forget") call((done) => stub.forgetSession(names, (error) => done(error, "")));
      else {
        const value = BigInt(Date.now() - BACK_MS);
        const to = { at: { $case: "timeMs", value } } as const;
        call((done) =>
          stub.seekSession({ ...names, to }, (error, answer) =>
            done(error, answer?.token.toString("base64") ?? ""),
          ),
        );
      }
    });
  }
}

type Answer = (error: ServiceError | null, token: string) => void;
