/**
 * What a stream of a publisher hands its messages to. Named publishers have transactions
 * (named-pipeline.ts), those without a name append as Publish does (unnamed-pipeline.ts).
 */
import type { CatalogTopic } from "../catalog.ts";
import type { Failure } from "../failure.ts";
import type { DecodedEvent } from "../publish-wire.ts";

export interface NumberedMessage {
  readonly firstNumber: number;
  readonly events: readonly DecodedEvent[];
  /** Of the message as it came. */
  readonly bytes: number;
}

export interface Pipeline {
  /** @throws Failure that ends the stream when all that came before is answered. */
  add(message: NumberedMessage): void;
  /** No more comes: ends when all is answered. */
  finish(): void;
  /** No more comes: ends with this failure when all that came before it is answered. */
  failAfterAll(failure: Failure): void;
  /** The server drains: ends with this failure as soon as every event has a known outcome. */
  stop(failure: Failure): void;
  /** The client has gone: nothing is answered any more. */
  close(): void;
}

/** What every pipeline asks of its stream. */
export interface PipelineStream {
  /** As the catalog has it now. @throws Failure when events may not be published to it any more. */
  topic(): CatalogTopic;
  /** Resolves when the client has room for more. */
  answer(message: Buffer): Promise<void>;
  /** A message is answered. */
  done(bytes: number): void;
  /** The stream ends, with a Failure or a bug; undefined: all was answered and no more comes. */
  end(thrown: unknown): void;
}
