/** Comes with tokens that are damaged, or another topic's: each must be refused, and nobody harmed. */
import { credentials, type ServiceError } from "@grpc/grpc-js";
import { toThroughlineError } from "../../../client/errors.ts";
import {
  type SubscribeResponse,
  ThroughlineServiceClient,
} from "../../../proto/gen/throughline/v1/throughline.ts";
import type { HistoryWriter } from "../history.ts";
import { pause } from "./pace.ts";
import { lineOf, startAt } from "./raw-client.ts";
import type { SubscriberSpec } from "./roster.ts";

const PATIENCE_MS = 2000;

export class Prober {
  readonly #stopping = new AbortController();
  readonly #writer: HistoryWriter;
  readonly #running: Promise<void>;
  #count = 0;

  /** @param tokens sound ones of this topic, and of another. */
  constructor(
    spec: SubscriberSpec,
    addresses: readonly string[],
    writer: HistoryWriter,
    tokens: () => { own: string | undefined; foreign: string | undefined },
  ) {
    this.#writer = writer;
    writer.write({ kind: "client", role: "raw", topic: spec.topic, pid: process.pid });
    this.#running = this.#run(spec, addresses, tokens);
  }

  async finish(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#writer.close();
  }

  async #run(
    { topic, recovery, awayMs = 1000 }: SubscriberSpec,
    addresses: readonly string[],
    tokens: () => { own: string | undefined; foreign: string | undefined },
  ): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const { own, foreign } = tokens();
      const n = this.#count++;
      const token = n % 3 === 0 ? foreign : own && damaged(own, n);
      if (token !== undefined) {
        const server = addresses[n % addresses.length] as string;
        const start = { token };
        this.#writer.write({ kind: "open", topic, server, start, broken: true, recovery });
        await this.#probe(server, topic, token);
        this.#writer.write({ kind: "away" });
      }
      await pause(awayMs, this.#stopping.signal);
    }
  }

  #probe(server: string, topic: string, token: string): Promise<void> {
    const stub = new ThroughlineServiceClient(server, credentials.createInsecure());
    const call = stub.subscribe();
    return new Promise((resolve) => {
      const late = setTimeout(() => call.cancel(), PATIENCE_MS);
      call.on("data", ({ kind }: SubscribeResponse) => {
        if (kind?.$case !== "opened") return;
        this.#writer.write(lineOf(kind));
        call.cancel();
      });
      call.on("error", (error: ServiceError) => {
        clearTimeout(late);
        const { error: name, message } = toThroughlineError(error);
        this.#writer.write({ kind: "end", error: name, message, ours: false });
        stub.close();
        resolve();
      });
      call.write({
        kind: {
          $case: "open",
          value: {
            ...{
              topic,
              start: startAt({ token }),
              filter: undefined,
              recovery: 2,
              session: undefined,
            },
            ...{ credit: { events: 10n, bytes: 0n }, maxFrameBytes: 0, heartbeatMs: 500 },
          },
        },
      });
    });
  }
}

/** One bit is another, or the end is missing. */
function damaged(token: string, n: number): string {
  const bytes = Buffer.from(token, "base64");
  if (n % 3 === 1) return bytes.subarray(0, bytes.length - 1 - (n % 5)).toString("base64");
  const at = n % bytes.length;
  bytes[at] = (bytes[at] as number) ^ (1 << (n % 8));
  return bytes.toString("base64");
}
