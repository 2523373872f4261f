/**
 * Comes as a connection of another client that arrives late: its session, its instance, an attempt below the
 * one that is open. It must be refused, and the other client must not be harmed.
 */
import { credentials, type ServiceError } from "@grpc/grpc-js";
import { toThroughlineError } from "../../../client/errors.ts";
import {
  type SubscribeResponse,
  ThroughlineServiceClient,
} from "../../../proto/gen/throughline/v1/throughline.ts";
import type { HistoryWriter } from "../history.ts";
import { pause } from "./pace.ts";
import { lineOf, type RawClient } from "./raw-client.ts";
import type { SubscriberSpec } from "./roster.ts";

const STAYS_MS = 1000;

export class Latecomer {
  readonly #stopping = new AbortController();
  readonly #writer: HistoryWriter;
  readonly #running: Promise<void>;

  constructor(
    spec: SubscriberSpec,
    addresses: readonly string[],
    writer: HistoryWriter,
    other: () => RawClient | undefined,
  ) {
    this.#writer = writer;
    writer.write({ kind: "client", role: "raw", topic: spec.topic, pid: process.pid });
    this.#running = this.#run(spec, addresses, other);
  }

  async finish(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#writer.close();
  }

  async #run(
    { awayMs = 2000 }: SubscriberSpec,
    addresses: readonly string[],
    other: () => RawClient | undefined,
  ): Promise<void> {
    const { signal } = this.#stopping;
    for (let n = 0; !signal.aborted; n++) {
      const late = other();
      if (late?.isOpen && late.attempt > 1) {
        await this.#arrive(late, addresses[n % addresses.length] as string);
        this.#writer.write({ kind: "away" });
      }
      await pause(awayMs, signal);
    }
  }

  #arrive({ spec, instance, attempt: newer }: RawClient, server: string): Promise<void> {
    const { topic, recovery, session = "" } = spec;
    const attempt = newer - 1;
    const named = { session, instance, attempt, acks: "explicit" } as const;
    const stub = new ThroughlineServiceClient(server, credentials.createInsecure());
    this.#writer.write({ kind: "open", topic, server, start: "earliest", recovery, ...named });
    const call = stub.subscribe();
    return new Promise((resolve) => {
      let ours = false;
      const stays = setTimeout(() => {
        ours = true;
        call.cancel();
      }, STAYS_MS);
      call.on("data", ({ kind }: SubscribeResponse) => {
        if (kind && !ours) this.#writer.write(lineOf(kind));
      });
      call.on("error", (error: ServiceError) => {
        clearTimeout(stays);
        const { error: name, message } = toThroughlineError(error);
        this.#writer.write({ kind: "end", error: ours ? "" : name, message, ours });
        stub.close();
        resolve();
      });
      call.write({
        kind: {
          $case: "open",
          value: {
            ...{ topic, recovery, maxFrameBytes: 0, heartbeatMs: 500, filter: undefined },
            start: { at: { $case: "earliest", value: {} } },
            credit: { events: 100n, bytes: 0n },
            session: {
              ...{ name: session, mode: 1, instance, strict: false, acks: 1 },
              ...{ knownToken: Buffer.alloc(0), knownSeeks: 0n },
              attempt: BigInt(attempt),
            },
          },
        },
      });
    });
  }
}
