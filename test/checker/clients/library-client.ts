/**
 * A client of the library, as an app has it: one sequence of batches over all streams that serve it one
 * after the other. With a session its app acknowledges by asking for the next batch; without one it goes on
 * from its own history.
 */
import { ThroughlineClient } from "../../../client/client.ts";
import { ThroughlineError } from "../../../client/errors.ts";
import type { HistoryWriter, Line } from "../history.ts";
import { pause } from "./pace.ts";
import { eventContent, lineOf } from "./raw-client.ts";
import type { SubscriberSpec } from "./roster.ts";

export class LibraryClient {
  readonly #writer: HistoryWriter;
  readonly #stopping = new AbortController();
  readonly #client: ThroughlineClient;
  readonly #running: Promise<void>;

  constructor(
    spec: SubscriberSpec,
    addresses: readonly string[],
    writer: HistoryWriter,
    past: readonly Line[],
  ) {
    this.#writer = writer;
    this.#client = new ThroughlineClient(addresses);
    const last = past.findLast((line) => line.kind === "batch");
    writer.write({ kind: "client", role: "once", topic: spec.topic, pid: process.pid });
    this.#running = this.#run(spec, spec.session === undefined ? last?.token : undefined);
  }

  async finish(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#writer.write({ kind: "finished" });
    this.#writer.close();
    this.#client.close();
  }

  async #run(spec: SubscriberSpec, from: string | undefined): Promise<void> {
    const { signal } = this.#stopping;
    let token = from;
    while (!signal.aborted) {
      try {
        for await (const batch of this.#open(spec, token)) {
          const { partition, events, maybeRedelivered: marked } = batch;
          token = batch.token.toString("base64");
          const offsets = events.map(({ offset }) => Number(offset));
          const contents = events.map(eventContent);
          this.#writer.write({
            kind: "batch",
            partition,
            offsets,
            events: contents,
            token,
            marked,
          });
        }
      } catch (error) {
        if (!(error instanceof ThroughlineError)) throw error;
        const { error: name, message } = error;
        this.#writer.write({ kind: "end", error: name, message, ours: false });
        if (spec.session !== undefined || name === "POSITION_LOST") token = undefined;
      }
      await pause(500, signal);
    }
  }

  #open(spec: SubscriberSpec, token: string | undefined) {
    const { topic, recovery, session, shared } = spec;
    let isFirst = true;
    const start = token === undefined ? ("earliest" as const) : { token };
    const mode = shared && ("shared" as const);
    const named = session === undefined ? {} : { session, ...(mode && { mode }) };
    this.#writer.write({ kind: "open", topic, server: "any", start, recovery, ...named });
    return this.#client.subscribe({
      ...{ topic, recovery, signal: this.#stopping.signal },
      ...(session !== undefined && { session: { name: session, ...(mode && { mode }) } }),
      start:
        token === undefined
          ? { $case: "earliest", value: {} }
          : { $case: "token", value: { token: Buffer.from(token, "base64"), after: [] } },
      onNotice: (notice) => {
        const line = lineOf(notice);
        const again = line.kind === "opened" && !isFirst;
        if (line.kind === "opened") isFirst = false;
        this.#writer.write(again ? { kind: "notice", notice: "opened again" } : line);
      },
      onBreak: ({ error }) => this.#writer.write({ kind: "notice", notice: `broke: ${error}` }),
    });
  }
}
