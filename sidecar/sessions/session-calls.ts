/** GetSession, SeekSession and ForgetSession: what may be asked of a session without a stream. */
import type { Log, TopicInfo } from "../../kafka/log.ts";
import type {
  ForgetSessionRequest,
  ForgetSessionResponse,
  GetSessionRequest,
  GetSessionResponse,
  SeekSessionRequest,
  SeekSessionResponse,
  SessionMember,
} from "../../proto/gen/throughline/v1/throughline.ts";
import type { CatalogTopic } from "../catalog.ts";
import { Failure } from "../failure.ts";
import { LOSSES, resolveStart } from "../open.ts";
import type { ServerContext } from "../server-context.ts";
import { encodeToken, type TokenIdentity } from "../token.ts";
import { resolveTopic, topicInfo } from "../topics.ts";
import { type Membership, tokenOf } from "./membership.ts";
import { lossAt } from "./position-check.ts";
import { lagBehind } from "./saved-position.ts";
import { unavailable } from "./session-hold.ts";
import { checkSessionName } from "./session-options.ts";
import type { SessionKey, SessionStore, Unusable } from "./session-store.ts";
import { readStored, type Sessions } from "./sessions.ts";

const EXCLUSIVE = 1;
const SHARED = 2;

interface Asked {
  readonly topic: CatalogTopic;
  readonly info: TopicInfo;
  readonly identity: TokenIdentity;
  readonly key: SessionKey;
  readonly store: SessionStore;
}

/** @throws Failure from each, when what is asked cannot be done; nothing has changed then. */
export interface SessionCalls {
  get(request: GetSessionRequest): Promise<GetSessionResponse>;
  seek(request: SeekSessionRequest): Promise<SeekSessionResponse>;
  forget(request: ForgetSessionRequest): Promise<ForgetSessionResponse>;
}

export function sessionCalls(server: ServerContext, sessions: Sessions | undefined): SessionCalls {
  const asked = (of: { topic: string; session: string }): Asked => {
    if (!sessions) throw new Failure("NO_SESSION_STORE", "This server has no session store.");
    const topic = resolveTopic(server.catalog, server.namespace, of.topic, "subscribe");
    const { deploymentId } = server;
    const identity = { deploymentId, topic: topic.name, topicId: topic.topicId };
    const key = sessions.key(topic.name, checkSessionName("session", of.session));
    return { topic, info: topicInfo(topic), identity, key, store: sessions.store };
  };
  return {
    get: async (request) => {
      const { info, identity, key, store } = asked(request);
      const state = usable(await store.read(key));
      if (state.kind === "none") throw notFound(request.session);
      const topicId = state.kind === "shared" ? state.membership.topicId : state.topicId;
      if (topicId !== info.id) {
        throw new Failure(
          "POSITION_LOST",
          "The topic was recreated after this position was saved.",
          {
            loss: LOSSES.gone,
          },
        );
      }
      if (state.kind === "shared") {
        const { membership } = state;
        const token = tokenOf(key, membership);
        return {
          token,
          lag: BigInt(await lagOf(server.log, info, identity, token)),
          held: membership.members.length > 0,
          ...{ instance: "", server: "", mode: SHARED, members: membersOf(membership) },
          generation: BigInt(membership.generation),
          changedMs: BigInt(membership.changedMs),
        };
      }
      const { position, fence, holder, held, changedMs } = state;
      return {
        ...{ mode: EXCLUSIVE, members: [] },
        token: position ?? Buffer.alloc(0),
        lag: BigInt(await lagOf(server.log, info, identity, position)),
        held,
        instance: holder.instance,
        server: holder.server,
        generation: BigInt(fence.generation),
        changedMs: BigInt(changedMs),
      };
    },
    seek: async (request) => {
      const { topic, info, identity, key, store } = asked(request);
      if (!request.to?.at) throw new Failure("INVALID_REQUEST", "to: is required; say where.");
      if (request.to.at.$case === "token" && request.to.at.value.after.length > 0) {
        throw new Failure(
          "INVALID_REQUEST",
          "to.token.after: is for streams, not for sessions; leave it out.",
        );
      }
      const start = await resolveStart(server.log, info, topic, identity, 0, request.to);
      if (start.kind === "recreated") throw new Failure("INTERNAL", "A recreated start resolved.");
      const { positions, verified } = start;
      const loss = verified ? undefined : await lossAt(server.log, info, positions, "to.token");
      if (loss) throw loss;
      const position = encodeToken(identity, positions);
      const outcome = usable(await store.seek(key, { topicId: info.id, position, positions }));
      if (outcome.kind === "none") throw notFound(request.session);
      sessions?.changed(key);
      return { token: position };
    },
    forget: async (request) => {
      const { key, store } = asked(request);
      const outcome = usable(await store.forget(key));
      if (outcome.kind === "none") throw notFound(request.session);
      sessions?.changed(key);
      return {};
    },
  };
}

function membersOf({ members, shares }: Membership): SessionMember[] {
  return members.map(({ id, instance, server }) => {
    const partitions: number[] = [];
    const awaited: number[] = [];
    for (const [partition, { owner, target }] of shares.entries()) {
      if (owner === id) partitions.push(partition);
      else if (target === id) awaited.push(partition);
    }
    return { instance, server, partitions, awaited };
  });
}

function usable<T extends { kind: string }>(outcome: T | Unusable): Exclude<T, Unusable> {
  if (outcome.kind === "unavailable") throw unavailable((outcome as Unusable).reason);
  if (outcome.kind === "unreadable") {
    throw new Failure("SESSION_UNREADABLE", (outcome as Unusable).reason);
  }
  return outcome as Exclude<T, Unusable>;
}

function notFound(session: string): Failure {
  return new Failure(
    "SESSION_NOT_FOUND",
    `Nobody has opened a session "${session}" of this topic.`,
  );
}

/** -1 when it is not known. */
async function lagOf(
  log: Log,
  info: TopicInfo,
  identity: TokenIdentity,
  position: Buffer | undefined,
): Promise<number> {
  const positions = readStored(position, identity, info.partitions);
  if (!positions) return -1;
  const ends = await Promise.all(positions.map((_, p) => log.offset(info, p, "latest")));
  const offsets = ends.map((end) => (end.kind === "offset" ? end.offset : undefined));
  return lagBehind(positions, offsets) ?? -1;
}
