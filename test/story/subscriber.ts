/** Subscribers of the stories: one of the library, one message by message. Both write down everything. */
import { type ChannelCredentials, credentials, type ServiceError } from "@grpc/grpc-js";
import { type Notice, type SubscribeOptions, ThroughlineClient } from "../../client/client.ts";
import { ThroughlineError, toThroughlineError } from "../../client/errors.ts";
import type { Seen } from "../../local/demo-audit.ts";
import {
  type SubscribeOpen,
  type SubscribeRequest,
  type SubscribeResponse,
  ThroughlineServiceClient,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { Waits } from "./waits.ts";

export const EARLIEST = { $case: "earliest", value: {} } as const;

/** A client of the library that writes down everything. */
export class Subscriber {
  readonly seen: Seen[] = [];
  readonly notices: { readonly notice: Notice; readonly address: string }[] = [];
  readonly breaks: { readonly error: ThroughlineError; readonly address: string }[] = [];
  token: Buffer = Buffer.alloc(0);
  failure: ThroughlineError | undefined;
  readonly #waits = new Waits();
  readonly #client: ThroughlineClient;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;

  constructor(addresses: readonly string[], options: SubscribeOptions) {
    this.#client = new ThroughlineClient(addresses);
    this.#running = this.#run(options);
  }

  /** Rejects when the stream ends for good before. */
  until(holds: () => boolean): Promise<void> {
    return this.#waits.until(holds, () => (holds() ? undefined : this.failure));
  }

  has(count: number): Promise<void> {
    return this.until(() => this.seen.length >= count);
  }

  /** Waits for a notice of this kind. */
  async told<Kind extends Notice["$case"]>(kind: Kind, times = 1) {
    const found = () => this.notices.filter(({ notice }) => notice.$case === kind);
    await this.until(() => found().length >= times);
    return found()[times - 1]?.notice as Extract<Notice, { $case: Kind }>;
  }

  /** Waits for the end of the stream for good. */
  async fails(): Promise<ThroughlineError> {
    await this.#waits.until(() => this.failure !== undefined);
    return this.failure as ThroughlineError;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
    this.#client.close();
  }

  async #run(options: SubscribeOptions): Promise<void> {
    try {
      const batches = this.#client.subscribe({
        ...options,
        signal: this.#abort.signal,
        onNotice: (notice, address) => {
          this.notices.push({ notice, address });
          options.onNotice?.(notice, address);
          this.#waits.changed();
        },
        onBreak: (error, address) => {
          this.breaks.push({ error, address });
          this.#waits.changed();
        },
      });
      for await (const { partition, events, token } of batches) {
        for (const { offset, payload } of events) {
          this.seen.push({ partition, offset: Number(offset), value: payload?.toString() ?? "" });
        }
        this.token = token;
        this.#waits.changed();
      }
    } catch (error) {
      if (!(error instanceof ThroughlineError)) throw error;
      this.failure = error;
      this.#waits.changed();
    }
  }
}

export interface RawStream {
  readonly down: NonNullable<SubscribeResponse["kind"]>[];
  readonly call: ReturnType<ThroughlineServiceClient["subscribe"]>;
  failure(): ThroughlineError | undefined;
  send(kind: NonNullable<SubscribeRequest["kind"]>): void;
  until(holds: () => boolean): Promise<void>;
  fails(): Promise<ThroughlineError>;
  close(): void;
}

/** One Subscribe call without the library: what it hears, message by message. */
export function rawStream(
  address: string,
  open: Partial<SubscribeOpen>,
  channel: { credentials?: ChannelCredentials; options?: object } = {},
): RawStream {
  const stub = new ThroughlineServiceClient(
    address,
    channel.credentials ?? credentials.createInsecure(),
    channel.options ?? {},
  );
  const call = stub.subscribe();
  const waits = new Waits();
  const down: RawStream["down"] = [];
  let failure: ThroughlineError | undefined;
  call.on("data", ({ kind }: SubscribeResponse) => {
    if (kind) down.push(kind);
    waits.changed();
  });
  call.on("error", (error: ServiceError) => {
    failure = toThroughlineError(error);
    waits.changed();
  });
  const send = (kind: NonNullable<SubscribeRequest["kind"]>): void => void call.write({ kind });
  send({ $case: "open", value: openOf(open) });
  return {
    down,
    call,
    send,
    failure: () => failure,
    until: (holds) => waits.until(holds, () => (holds() ? undefined : failure)),
    fails: async () => {
      await waits.until(() => failure !== undefined);
      return failure as ThroughlineError;
    },
    close: () => {
      call.cancel();
      stub.close();
    },
  };
}

export function openOf(open: Partial<SubscribeOpen>): SubscribeOpen {
  return {
    ...{ topic: "", start: { at: EARLIEST }, filter: undefined, session: undefined },
    ...{ recovery: 0, maxFrameBytes: 0, heartbeatMs: 200 },
    credit: { events: 1_000_000n, bytes: 0n },
    ...open,
  };
}
