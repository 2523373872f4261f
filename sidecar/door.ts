/**
 * The gRPC door: one server, its services, its transport limits. What is behind each call is in
 * publish.ts, publishers/, topics.ts, subscribe.ts, health.ts and reflection.ts.
 *
 * Bytes that are not the message of the call are INVALID_REQUEST like any other bad input (P10): the
 * decoders here never throw, since grpc-js would answer INTERNAL without our details.
 */
import type { EventEmitter } from "node:events";
import { rm } from "node:fs/promises";
import { connect } from "node:net";
import {
  type handleBidiStreamingCall,
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import {
  type ForgetSessionRequest,
  type ForgetSessionResponse,
  type GetSessionRequest,
  type GetSessionResponse,
  type GetTopicRequest,
  type GetTopicResponse,
  type ListTopicsResponse,
  type SeekSessionRequest,
  type SeekSessionResponse,
  type SubscribeRequest,
  ThroughlineServiceService,
} from "../proto/gen/throughline/v1/throughline.ts";
import { Failure, toFailure, toStatus } from "./failure.ts";
import type { Frame } from "./frame.ts";
import { InFlightBudget } from "./in-flight-budget.ts";
import { makePublish } from "./publish.ts";
import { makePublishStream } from "./publishers/publish-stream.ts";
import type { ServerContext } from "./server-context.ts";
import { sessionCalls } from "./sessions/session-calls.ts";
import { makeSubscribe, type SubscribeParts, subscribeMethod } from "./subscribe.ts";
import { getTopic, listTopics } from "./topics.ts";

export interface ExtraService {
  readonly definition: ServiceDefinition;
  readonly handlers: UntypedServiceImplementation;
}

export interface DoorOptions {
  /** `host:port` or `unix:<path>`. */
  readonly address: string;
  readonly tls: { readonly cert: Buffer; readonly key: Buffer } | undefined;
  /** Health, reflection. */
  readonly extra: readonly ExtraService[];
}

export interface Door {
  /** Where clients connect: with the port that was given when 0 was asked for. */
  readonly address: string;
  /** Resolves when no Subscribe is open. */
  streamsEnded(): Promise<void>;
  /**
   * Tells every connection to take its next calls elsewhere (GOAWAY); calls under way go on for so long. Behind a
   * Service a client has one address, and would come back here for as long as the connection is good.
   */
  leadAway(graceMs: number): void;
  /** No new connections and calls; resolves when every call has ended. */
  finish(): Promise<void>;
  /** Ends everything at once. */
  close(): void;
}

/** @throws when the address cannot be had. */
export async function openDoor(
  server: ServerContext,
  parts: SubscribeParts,
  options: DoorOptions,
): Promise<Door> {
  const grpc = new Server({
    "grpc.max_receive_message_length": server.limits.requestBytes,
    "grpc.max_send_message_length": -1,
    // Above --streams, so that one stream too many hears OVERLOADED instead of waiting unheard.
    "grpc.max_concurrent_streams": server.limits.streams + 100,
    // A client behind a cut connection is found within half a minute, and its stream freed.
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.keepalive_permit_without_calls": 1,
    ...(server.limits.connectionAgeMs > 0 && {
      "grpc.max_connection_age_ms": server.limits.connectionAgeMs,
      "grpc.max_connection_age_grace_ms": server.limits.drainMs,
    }),
    "grpc-node.flow_control_window": 256 * 1024,
  });
  const streams = new OpenStreams();
  grpc.addService(
    { ...ThroughlineServiceService, ...METHODS },
    handlers(server, parts, streams) as unknown as UntypedServiceImplementation,
  );
  for (const { definition, handlers: extra } of options.extra) grpc.addService(definition, extra);
  const credentials = options.tls
    ? ServerCredentials.createSsl(null, [
        { cert_chain: options.tls.cert, private_key: options.tls.key },
      ])
    : ServerCredentials.createInsecure();
  if (options.address.startsWith("unix:")) await removeStaleSocket(options.address.slice(5));
  const port = await new Promise<number>((resolve, reject) => {
    grpc.bindAsync(options.address, credentials, (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  const wanted = options.address;
  // grpc-js says port 1 for a Unix socket.
  const address = wanted.startsWith("unix:")
    ? wanted
    : `${wanted.slice(0, wanted.lastIndexOf(":"))}:${port}`;
  return {
    address,
    leadAway: (graceMs) => grpc.drain(address, graceMs),
    streamsEnded: () => streams.ended(),
    finish: () => new Promise((resolve) => grpc.tryShutdown(() => resolve())),
    close: () => grpc.forceShutdown(),
  };
}

/** A server that was killed leaves its socket file behind, and nobody answers there. */
async function removeStaleSocket(path: string): Promise<void> {
  const stale = await new Promise<boolean>((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED"));
  });
  if (stale) await rm(path, { force: true });
}

/** Subscribe calls under way: a drain waits for these. */
class OpenStreams {
  #open = 0;
  readonly #waiting: (() => void)[] = [];

  enter(call: EventEmitter): void {
    let left = false;
    const leave = (): void => {
      if (left) return;
      left = true;
      if (--this.#open === 0) for (const resolve of this.#waiting.splice(0)) resolve();
    };
    this.#open++;
    for (const end of ["cancelled", "error", "finish", "close"]) call.on(end, leave);
  }

  ended(): Promise<void> {
    if (this.#open === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

const MALFORMED = Symbol("malformed");

/** A method whose decoder gives MALFORMED rather than throw. */
function tolerant<T, M extends { requestDeserialize: (bytes: Buffer) => T }>(method: M): M {
  const requestDeserialize = (bytes: Buffer): T => {
    try {
      return method.requestDeserialize(bytes);
    } catch {
      return MALFORMED as T;
    }
  };
  return { ...method, requestDeserialize };
}

const pass = (bytes: Buffer): Buffer => bytes;

const METHODS = {
  publish: {
    ...ThroughlineServiceService.publish,
    requestDeserialize: pass,
    responseSerialize: pass,
  },
  publishStream: {
    ...ThroughlineServiceService.publishStream,
    requestDeserialize: pass,
    responseSerialize: pass,
  },
  subscribe: {
    ...subscribeMethod,
    // A message without a kind is refused by Subscribe with its own words.
    requestDeserialize: (bytes: Buffer): SubscribeRequest => {
      try {
        return subscribeMethod.requestDeserialize(bytes);
      } catch {
        return { kind: undefined };
      }
    },
  },
  getTopic: tolerant(ThroughlineServiceService.getTopic),
  getSession: tolerant(ThroughlineServiceService.getSession),
  seekSession: tolerant(ThroughlineServiceService.seekSession),
  forgetSession: tolerant(ThroughlineServiceService.forgetSession),
} as const;

function handlers(server: ServerContext, parts: SubscribeParts, streams: OpenStreams) {
  const buffered = new InFlightBudget(server.limits.publishBytes);
  const publish = makePublish(server, buffered);
  const subscribe = makeSubscribe(server, parts);
  const sessions = sessionCalls(server, parts.sessions);
  return {
    publish: unary<Buffer, Buffer>(server, publish),
    getTopic: unary<GetTopicRequest, GetTopicResponse>(server, ({ topic }) =>
      getTopic(server.catalog, server.log, server.namespace, topic),
    ),
    listTopics: unary<unknown, ListTopicsResponse>(server, async () => ({
      topics: listTopics(server.catalog, server.namespace),
    })),
    subscribe: ((call) => {
      if (server.reliability.draining) {
        call.emit("error", toStatus(new Failure("DRAINING", "This server is shutting down.")));
        return;
      }
      streams.enter(call);
      subscribe(call);
    }) satisfies handleBidiStreamingCall<SubscribeRequest, Frame>,
    publishStream: makePublishStream(server, buffered),
    getSession: unary<GetSessionRequest, GetSessionResponse>(server, sessions.get),
    seekSession: unary<SeekSessionRequest, SeekSessionResponse>(server, sessions.seek),
    forgetSession: unary<ForgetSessionRequest, ForgetSessionResponse>(server, sessions.forget),
  };
}

function unary<Request, Response>(
  server: ServerContext,
  serve: (request: Request) => Promise<Response>,
): handleUnaryCall<Request, Response> {
  return (call, answer) => {
    const run = async (): Promise<Response> => {
      if ((call.request as unknown) === MALFORMED) {
        throw new Failure("INVALID_REQUEST", "The message's bytes do not parse.");
      }
      return serve(call.request);
    };
    run().then(
      (response) => answer(null, response),
      (error) => {
        if (!(error instanceof Failure)) {
          server.logger.error({ err: error, path: call.getPath() }, "a call failed");
        }
        answer(toStatus(toFailure(error)));
      },
    );
  };
}
