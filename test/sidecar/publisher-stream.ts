/** A raw stream of a named publisher: what goes up as the test wants it, and what came down. */
import { credentials, type ServiceError } from "@grpc/grpc-js";
import {
  ErrorInfo,
  type NewEvent,
  type PublishResult,
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

  open(publisher = "p", topic = "orders", instance = ""): this {
    return this.send({ $case: "open", value: { topic, publisher, instance } });
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
        if (kind.$case === "opened") return [];
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

  async opened(): Promise<{ lastNumber: bigint; lastInstance: string }> {
    await this.#waits.until(
      () => this.down[0]?.$case === "opened",
      () => this.#failure,
    );
    const [first] = this.down;
    if (first?.$case !== "opened") throw new Error("not opened");
    return first.value;
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
