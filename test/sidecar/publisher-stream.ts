/** A raw stream of a named publisher: what goes up as the test wants it, and what came down. */
import { credentials, type ServiceError } from "@grpc/grpc-js";
import {
  ErrorInfo,
  type NewEvent,
  type PublishResult,
  type PublishStreamOpened,
  type PublishStreamRequest,
  type PublishStreamResponse,
  ThroughlineServiceClient,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { ERROR_TRAILER } from "../../sidecar/failure.ts";
import { Waits } from "../story/waits.ts";

export class PublisherStream {
  readonly down: NonNullable<PublishStreamResponse["kind"]>[] = [];
  readonly #call: ReturnType<ThroughlineServiceClient["publishStream"]>;
  readonly #client: ThroughlineServiceClient;
  readonly #waits = new Waits();
  #failure: ServiceError | undefined;
  #over = false;

  constructor(address: string) {
    this.#client = new ThroughlineServiceClient(address, credentials.createInsecure());
    this.#call = this.#client.publishStream();
    this.#call.on("data", ({ kind }: PublishStreamResponse) => {
      if (kind) this.down.push(kind);
      this.#waits.changed();
    });
    this.#call.on("error", (error: ServiceError) => {
      this.#failure = error;
      this.#waits.changed();
    });
    this.#call.on("end", () => {
      this.#over = true;
      this.#waits.changed();
    });
  }

  send(kind: PublishStreamRequest["kind"]): this {
    this.#call.write({ kind });
    return this;
  }

  open(publisher = "p", topic = "orders", instance = "", heartbeatMs = 0): this {
    return this.send({ $case: "open", value: { topic, publisher, instance, heartbeatMs } });
  }

  events(firstNumber: number, ...events: (string | Partial<NewEvent>)[]): this {
    return this.send({
      $case: "events",
      value: {
        firstNumber: BigInt(firstNumber),
        events: events.map((event) => ({
          ...{ key: Buffer.from("k"), headers: [], type: "", timeMs: undefined },
          ...(typeof event === "string" ? { payload: Buffer.from(event) } : { payload: undefined }),
          ...(typeof event === "string" ? {} : event),
        })),
      },
    });
  }

  end(): this {
    this.#call.end();
    return this;
  }

  close(): void {
    this.#call.cancel();
    this.#client.close();
  }

  /** Each answer as "number: what", once there are so many. */
  async answers(count: number): Promise<string[]> {
    const list = (): string[] =>
      this.down.flatMap((kind) => {
        if (kind.$case === "opened" || kind.$case === "heartbeat") return [];
        const first = Number(kind.value.firstNumber);
        if (kind.$case === "results") {
          return kind.value.results.map((result, i) => `${first + i}: ${told(result)}`);
        }
        return Array.from({ length: Number(kind.value.count) }, (_, i) => `${first + i}: there`);
      });
    await this.#waits.until(
      () => list().length >= count,
      () => (list().length < count ? this.#failure : undefined),
    );
    return list();
  }

  async opened(): Promise<PublishStreamOpened> {
    const opened = () => this.down.find((kind) => kind.$case === "opened");
    await this.#waits.until(
      () => opened() !== undefined,
      () => this.#failure,
    );
    return opened()?.value as PublishStreamOpened;
  }

  /** Resolves when this many more have come. */
  heartbeats(count: number): Promise<void> {
    const list = () => this.down.filter(({ $case }) => $case === "heartbeat");
    const goal = list().length + count;
    return this.#waits.until(
      () => list().length >= goal,
      () => this.#failure,
    );
  }

  async fails(): Promise<ErrorInfo> {
    await this.#waits.until(() => this.#failure !== undefined);
    return ErrorInfo.decode(this.#failure?.metadata.get(ERROR_TRAILER)[0] as Buffer);
  }

  ends(): Promise<void> {
    return this.#waits.until(() => this.#over);
  }
}

export function told({ result }: PublishResult): string {
  return result?.$case === "error" ? result.value.name : (result?.$case ?? "nothing");
}
