/**
 * The judge (pure): the histories of all clients beside the log and the deeds. One small function per class;
 * here they are called. Clients come in groups, those of one session together, so that a long run's
 * histories need not be in memory at once.
 */
import type { History } from "../history.ts";
import type { Anomaly, Class } from "./anomaly.ts";
import * as delivery from "./delivery.ts";
import { crash, harm, lag, rss, stuck, undelivered } from "./liveness.ts";
import { brokenToken, falseAlarm, silentLoss, silentRecreation } from "./loss.ts";
import * as members from "./members.ts";
import { mirror } from "./mirror.ts";
import { unheeded } from "./moves.ts";
import { duplicate, internal, lost, placesOf } from "./publishing.ts";
import {
  lateWins,
  movedBySuperseded,
  passedUnacknowledged,
  repeatAcross,
  storedBackward,
  twoStreams,
  unverified,
} from "./sessions.ts";
import { isMember, type Stream, streamsOf } from "./streams.ts";
import { heartbeatAhead, tokenInside } from "./tokens.ts";
import type { World } from "./world.ts";

export interface Verdict {
  readonly deliveries: number;
  readonly streams: number;
  readonly counts: ReadonlyMap<Class, number>;
  /** Of each class the first few. */
  readonly examples: readonly Anomaly[];
}

const EXAMPLES = 3;

export function judge(world: World, groups: Iterable<readonly History[]>): Verdict {
  const counts = new Map<Class, number>();
  const examples: Anomaly[] = [];
  const places = placesOf(world);
  let deliveries = 0;
  let count = 0;
  const take = (anomalies: readonly Anomaly[]): void => {
    for (const anomaly of anomalies) {
      const before = counts.get(anomaly.class) ?? 0;
      counts.set(anomaly.class, before + 1);
      if (before < EXAMPLES) examples.push(anomaly);
    }
  };
  take(rss(world));
  take(crash(world));
  for (const histories of groups) {
    const sessions = new Map<string, Stream[]>();
    for (const history of histories) {
      const streams = streamsOf(history);
      for (const stream of streams) {
        take(ofStream(stream, world));
        count++;
        for (const run of stream.runs) deliveries += run.deliveries.length;
        const { session, topic } = stream.open;
        if (session === undefined) continue;
        const name = `${topic}/${session}`;
        sessions.set(name, [...(sessions.get(name) ?? []), stream]);
      }
      take(stuck(history, world));
      take(undelivered(history, streams, world));
      take(lost(history, places));
      take(duplicate(history, places, world));
      take(internal(history));
    }
    for (const streams of sessions.values()) take(ofSession(streams, world));
  }
  return { deliveries, streams: count, counts, examples };
}

const OF_RUN = [
  delivery.gap,
  delivery.repeat,
  delivery.backward,
  delivery.merge,
  delivery.resume,
  delivery.phantom,
  delivery.disagree,
  delivery.filter,
  silentLoss,
];

const OF_STREAM = [
  delivery.resumedElsewhere,
  silentRecreation,
  falseAlarm,
  brokenToken,
  tokenInside,
  heartbeatAhead,
  lag,
  members.unassigned,
  unverified,
  harm,
];

function ofStream(stream: Stream, world: World): Anomaly[] {
  const compared = delivery.comparedOf(stream, world);
  return [
    ...OF_RUN.flatMap((find) => compared.flatMap(find)),
    ...OF_STREAM.flatMap((find) => find(stream, world)),
  ];
}

const OF_SESSION = [
  lateWins,
  twoStreams,
  repeatAcross,
  movedBySuperseded,
  passedUnacknowledged,
  storedBackward,
  mirror,
  unheeded,
];

const OF_SHARED = [
  members.gapOfAll,
  members.repeatOfAll,
  members.twoMembers,
  members.orphaned,
  members.savedUnacknowledged,
  members.savedBackward,
];

function ofSession(streams: readonly Stream[], world: World): Anomaly[] {
  const inOrder = streams.toSorted((a, b) => a.open.at - b.open.at);
  const all = inOrder.some(isMember) ? OF_SHARED : OF_SESSION;
  return all.flatMap((find) => find(inOrder, world));
}
