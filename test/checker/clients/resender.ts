/**
 * A named publisher of plain stubs that knows no better: it sends its last events again with each batch, with
 * the numbers that they had, as after a break whose answers were lost. Each must be in the topic once.
 */
import { credentials } from "@grpc/grpc-js";
import {
  type PublishStreamResponse,
  ThroughlineServiceClient,
} from "../../../proto/gen/throughline/v1/throughline.ts";
import type { HistoryWriter } from "../history.ts";
import { pause } from "./pace.ts";
import { numbered } from "./publishers.ts";
import type { PublisherSpec } from "./roster.ts";

const AGAIN = 5;
const SILENCE_MS = 5000;

type Results = NonNullable<PublishStreamResponse["kind"]>;

export class Resender {
  readonly #stopping = new AbortController();
  readonly #spec: PublisherSpec;
  readonly #writer: HistoryWriter;
  readonly #running: Promise<void>;
  #halted = false;

  constructor(spec: PublisherSpec, addresses: readonly string[], writer: HistoryWriter) {
    this.#spec = spec;
    this.#writer = writer;
    writer.write({ kind: "client", role: "named", topic: spec.topic, pid: process.pid });
    this.#running = this.#run(addresses);
  }

  async finish(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#writer.close();
  }

  halt(): void {
    this.#halted = true;
  }

  async #run(addresses: readonly string[]): Promise<void> {
    for (let n = 0; !this.#stopping.signal.aborted; n++) {
      await this.#stream(addresses[n % addresses.length] as string);
      await pause(300, this.#stopping.signal);
    }
  }

  #stream(server: string): Promise<void> {
    const { topic, name } = this.#spec;
    const stub = new ThroughlineServiceClient(server, credentials.createInsecure());
    const call = stub.publishStream();
    return new Promise((resolve) => {
      const leave = (): void => call.cancel();
      let silence = setTimeout(leave, SILENCE_MS);
      this.#stopping.signal.addEventListener("abort", leave, { once: true });
      let answered = 0;
      let sent = 0;
      call.on("data", ({ kind }: PublishStreamResponse) => {
        clearTimeout(silence);
        silence = setTimeout(leave, SILENCE_MS);
        if (!kind) return;
        if (kind.$case === "opened") answered = sent = Number(kind.value.lastNumber);
        else answered = Math.max(answered, this.#answered(kind));
        if (answered >= sent) {
          const last = sent;
          void pause(this.#spec.everyMs, this.#stopping.signal).then(() => {
            if (call.destroyed || this.#halted || sent !== last) return;
            sent = this.#send(call, last);
          });
        }
      });
      call.on("error", () => {
        clearTimeout(silence);
        this.#stopping.signal.removeEventListener("abort", leave);
        stub.close();
        resolve();
      });
      call.on("end", leave);
      call.write({
        kind: { $case: "open", value: { topic, publisher: name, instance: "", heartbeatMs: 0 } },
      });
    });
  }

  /** @returns the last number sent. */
  #send(call: ReturnType<ThroughlineServiceClient["publishStream"]>, last: number): number {
    const { name, batch } = this.#spec;
    const first = Math.max(1, last + 1 - AGAIN);
    const until = last + batch;
    const all = Array.from({ length: until - first + 1 }, (_, i) => numbered(name, first + i));
    const fresh = all.slice(last + 1 - first).map(({ content }) => content);
    this.#writer.write({ kind: "sent", events: fresh, number: last + 1 });
    const events = all.map(({ event }) => event);
    call.write({ kind: { $case: "events", value: { firstNumber: BigInt(first), events } } });
    return until;
  }

  /** @returns the last number answered. */
  #answered(kind: Results): number {
    if (kind.$case === "opened" || kind.$case === "heartbeat") return 0;
    const first = Number(kind.value.firstNumber);
    if (kind.$case === "alreadyThere") return first + Number(kind.value.count) - 1;
    const { results } = kind.value;
    for (const [i, { result }] of results.entries()) {
      const number = first + i;
      const event = numbered(this.#spec.name, number).content;
      if (result?.$case === "position") {
        const where = [result.value.partition, Number(result.value.offset)] as const;
        this.#writer.write({ kind: "acknowledged", event, number, where });
      } else {
        this.#writer.write({ kind: "refused", events: [event], error: result?.value.name ?? "" });
      }
    }
    return first + results.length - 1;
  }
}
