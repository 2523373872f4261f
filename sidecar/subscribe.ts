/**
 * The Subscribe call: takes the open, makes a Subscription of it, and passes messages both ways.
 * The response serializer passes frames through (frame.ts).
 */
import type { handleBidiStreamingCall, MethodDefinition, ServerDuplexStream } from "@grpc/grpc-js";
import {
  type SubscribeOpen,
  type SubscribeRequest,
  ThroughlineServiceService,
} from "../proto/gen/throughline/v1/throughline.ts";
import { writerOf } from "./direct-write.ts";
import type { Dispatch } from "./dispatch/topic-dispatch.ts";
import { Failure, toFailure, toStatus } from "./failure.ts";
import type { Frame } from "./frame.ts";
import type { InFlightBudget } from "./in-flight-budget.ts";
import { type OpenOptions, readOptions, resolveStart } from "./open.ts";
import type { ServerContext } from "./server-context.ts";
import { MemberSession } from "./sessions/member-session.ts";
import type { SessionOptions } from "./sessions/session-options.ts";
import type { Sessions, SessionTopic } from "./sessions/sessions.ts";
import { ExclusiveSession } from "./sessions/stream-session.ts";
import { frameOverhead } from "./stream.ts";
import { type SessionMaker, Subscription, type SubscriptionStart } from "./subscription.ts";
import type { TokenIdentity } from "./token.ts";
import { resolveTopic, topicInfo } from "./topics.ts";

/** For what is not written directly: grpc-js asks what a serializer returns for `byteLength` and `copy`. */
const passFrame = (frame: Frame): Buffer => frame as unknown as Buffer;

export const subscribeMethod: MethodDefinition<SubscribeRequest, Frame> = {
  ...ThroughlineServiceService.subscribe,
  responseSerialize: passFrame,
  responseDeserialize: (bytes: Buffer): Frame => bytes,
};

export interface SubscribeParts {
  readonly dispatch: Dispatch;
  readonly budget: InFlightBudget;
  /** Hears of memory that a frame needs for itself. */
  readonly allocated: (bytes: number) => void;
  /** Undefined without a session store. */
  readonly sessions: Sessions | undefined;
}

type Call = ServerDuplexStream<SubscribeRequest, Frame>;

export function makeSubscribe(
  server: ServerContext,
  parts: SubscribeParts,
): handleBidiStreamingCall<SubscribeRequest, Frame> {
  let streams = 0;
  return (call) => {
    if (streams >= server.limits.streams) {
      const message = `This server serves ${server.limits.streams} streams (--streams).`;
      call.emit("error", toStatus(new Failure("OVERLOADED", message)));
      return;
    }
    streams++;
    server.metrics.streamsOpen(1);
    serve(server, parts, call, () => {
      streams--;
      server.metrics.streamsOpen(-1);
    });
  };
}

/** One call: waits for open, then passes credit to the subscription. */
function serve(server: ServerContext, parts: SubscribeParts, call: Call, closed: () => void): void {
  let subscription: Subscription | undefined;
  let opened = false;
  let over = false;
  let noMoreCredit = false;
  const early: { events: bigint; bytes: bigint }[] = [];
  const finish = (): void => {
    if (over) return;
    over = true;
    subscription?.close();
    closed();
  };
  const fail = (thrown: unknown): void => {
    if (over) return;
    const failure = toFailure(thrown);
    if (!(thrown instanceof Failure)) server.logger.error({ err: thrown }, "subscribe failed");
    finish();
    call.emit("error", toStatus(failure));
  };
  call.on("cancelled", finish);
  call.on("error", finish);
  call.on("close", finish);
  call.on("end", () => {
    if (over) return;
    if (!opened) fail(new Failure("INVALID_REQUEST", "The stream ended before it was opened."));
    noMoreCredit = true;
    subscription?.noMoreCredit();
  });
  call.on("data", (request: SubscribeRequest) => {
    if (over) return;
    try {
      const kind = request.kind;
      if (!opened) {
        if (kind?.$case !== "open") {
          throw new Failure("INVALID_REQUEST", "The first message of a stream must be open.");
        }
        opened = true;
        const options = readOptions(kind.value);
        open(kind.value, options).catch(fail);
        return;
      }
      switch (kind?.$case) {
        case "credit":
          if (subscription) subscription.addCredit(kind.value);
          else if (early.push(kind.value) > 1000) {
            throw new Failure("INVALID_REQUEST", "credit: over 1000 messages before Opened.");
          }
          return;
        case "ack":
          if (!subscription) throw new Failure("INVALID_REQUEST", "ack: nothing was sent yet.");
          subscription.ack(kind.value);
          return;
        case "leave":
          if (!subscription) throw new Failure("INVALID_REQUEST", "leave: nothing was sent yet.");
          subscription.leave();
          return;
        case "open":
          throw new Failure("INVALID_REQUEST", "open: a stream is opened once.");
        default:
          throw new Failure("INVALID_REQUEST", "A message must be open, credit, ack or leave.");
      }
    } catch (error) {
      if (subscription && error instanceof Failure) subscription.fail(error);
      else fail(error);
    }
  });

  async function open(request: SubscribeOpen, options: OpenOptions): Promise<void> {
    const topic = resolveTopic(server.catalog, server.namespace, request.topic, "subscribe");
    const identity: TokenIdentity = {
      deploymentId: server.deploymentId,
      topic: topic.name,
      topicId: topic.topicId,
    };
    const info = topicInfo(topic);
    const overhead = frameOverhead(topic.partitions);
    const dispatch = parts.dispatch.topic(info);
    const { session } = options;
    const held = session && (await openSession({ info, topic, identity }, session, request));
    const start =
      held?.start ??
      (await resolveStart(server.log, info, topic, identity, request.recovery, request.start));
    if (over) {
      void held?.leave();
      return;
    }
    const made = new Subscription(
      server,
      topic,
      info,
      options,
      {
        identity,
        dispatch,
        credit: options.credit,
        admits: options.admits,
        recovery: options.recovery,
        maxFrameBytes: options.maxFrameBytes,
        targetFrameBytes: Math.min(server.limits.frameBytes, options.maxFrameBytes - overhead),
        budget: parts.budget,
        delivered: (events, bytes) => {
          server.metrics.framesSent(1);
          server.metrics.eventsDelivered(events);
          server.metrics.bytesDelivered(bytes);
        },
      },
      {
        write: writerOf(call, parts.allocated),
        end: fail,
        spent: () => {
          finish();
          call.end();
        },
      },
    );
    subscription = made;
    await made.start(start, held?.make);
    for (const credit of early.splice(0)) made.addCredit(credit);
    if (noMoreCredit) made.noMoreCredit();
  }

  async function openSession(
    of: SessionTopic,
    options: SessionOptions,
    request: SubscribeOpen,
  ): Promise<{ start: SubscriptionStart; make: SessionMaker; leave: () => Promise<void> }> {
    const { sessions } = parts;
    if (!sessions) {
      throw new Failure("NO_SESSION_STORE", "open.session: this server has no session store.");
    }
    const { identity } = of;
    const { acks } = options;
    if (options.mode === "shared") {
      const opened = await sessions.openMember(of, options, request);
      return {
        start: { kind: "member" },
        make: (owner) => new MemberSession(opened, identity, acks, owner, sessions.clock),
        leave: () => opened.leave(false),
      };
    }
    const opened = await sessions.open(of, options, request);
    return {
      start: opened.start,
      make: (owner) => new ExclusiveSession(sessions, opened, identity, acks, owner),
      leave: () => sessions.leave(opened.hold),
    };
  }
}
