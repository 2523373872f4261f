/**
 * Publishing without a name: every event is judged alone and has its own answer, in the order of the request
 * (P7, P10).
 *
 * - All of a request is appended in one go, without an await between events, so that events of one key
 *   keep the order of the request (P1). A stream's messages go the same way (publishers/).
 * - Bytes that Kafka has not acknowledged yet are capped over all requests and named publishers (P6).
 */
import type { AppendOutcome } from "../kafka/log.ts";
import type { CatalogTopic } from "./catalog.ts";
import type { ErrorName } from "./errors.ts";
import { Failure, toErrorInfo } from "./failure.ts";
import { InFlightBudget } from "./in-flight-budget.ts";
import {
  type DecodedEvent,
  decodePublish,
  encodeResults,
  type WireResult,
} from "./publish-wire.ts";
import type { ServerContext } from "./server-context.ts";
import { resolveTopic, topicInfo } from "./topics.ts";

/** Takes PublishRequest bytes, gives PublishResponse bytes. Rejects with Failure. */
export type Publish = (request: Buffer) => Promise<Buffer>;

export function makePublish(
  server: ServerContext,
  buffered = new InFlightBudget(server.limits.publishBytes),
): Publish {
  const { limits } = server;

  return async (request) => {
    const decoded = decodePublish(request, server.clock.now(), limits.requestEvents);
    if (decoded.kind === "invalid") throw new Failure("INVALID_REQUEST", decoded.message);
    const topic = topicToPublish(server, decoded.topic);
    const { events } = decoded;
    if (events.length === 0) return encodeResults([]);
    if (buffered.used > 0 && request.length > buffered.free) {
      throw new Failure(
        "OVERLOADED",
        `${buffered.used} bytes wait for Kafka; this server buffers ${limits.publishBytes} (--publish-bytes).`,
      );
    }
    buffered.take(request.length);
    try {
      return encodeResults(await appendEvents(server, topic, events));
    } finally {
      buffered.give(request.length);
    }
  };
}

/** @throws Failure when the caller may not publish to it, now. */
export function topicToPublish(
  { catalog, namespace }: Pick<ServerContext, "catalog" | "namespace">,
  requested: string,
): CatalogTopic {
  const topic = resolveTopic(catalog, namespace, requested, "publish");
  if (topic.ordering !== "Commit") return topic;
  throw new Failure("COMMIT_TOPIC", `Topic "${topic.name}" is fed by its outbox alone.`);
}

export type AppendWorld = Pick<ServerContext, "log" | "metrics">;

/** Appends what passes the checks, before it returns; the results come in the order of the events. */
export async function appendEvents(
  { log, metrics }: AppendWorld,
  topic: CatalogTopic,
  events: readonly DecodedEvent[],
): Promise<WireResult[]> {
  const info = topicInfo(topic);
  const results = await Promise.all(
    events.map((event, i): WireResult | Promise<WireResult> => {
      const refusal = judge(event, i, topic);
      if (refusal) return refusal;
      const { record } = event as Extract<DecodedEvent, { kind: "record" }>;
      return log.append(info, null, record).then((outcome) => toResult(outcome, i, topic));
    }),
  );
  let published = 0;
  for (const result of results) if (result.kind === "position") published++;
  metrics.eventsPublished(published);
  metrics.publishesRefused(events.length - published);
  return results;
}

function judge(event: DecodedEvent, index: number, topic: CatalogTopic): WireResult | undefined {
  if (event.kind === "invalid") return refused("INVALID_REQUEST", event.message);
  if (event.bytes > topic.maxEventBytes) {
    return refused(
      "PAYLOAD_TOO_LARGE",
      `events[${index}]: has ${event.bytes} bytes; topic "${topic.name}" takes ${topic.maxEventBytes}.`,
    );
  }
  return undefined;
}

function toResult(outcome: AppendOutcome, index: number, topic: CatalogTopic): WireResult {
  const event = `events[${index}]`;
  switch (outcome.kind) {
    case "appended":
      return { kind: "position", partition: outcome.partition, offset: outcome.offset };
    case "unknown":
      return refused("OUTCOME_UNKNOWN", `${event}: ${outcome.reason}`);
    case "too-large":
      return refused("PAYLOAD_TOO_LARGE", `${event}: ${outcome.reason}`);
    case "gone":
      return refused(
        "TOPIC_NOT_FOUND",
        `${event}: the Kafka topic of "${topic.name}" was deleted or recreated.`,
      );
    case "unauthorised":
      return refused("KAFKA_REFUSED", `${event}: ${outcome.reason}`);
    case "corrupt":
      return refused("LOG_CORRUPT", `${event}: ${outcome.reason}`);
    case "unavailable":
      return refused("KAFKA_UNAVAILABLE", `${event}: ${outcome.reason}`);
  }
}

function refused(error: ErrorName, message: string): WireResult {
  return { kind: "error", error: toErrorInfo(new Failure(error, message)) };
}
