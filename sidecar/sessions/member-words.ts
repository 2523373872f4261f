/** What the scripts of member-scripts.ts are asked, and what they answer: words (pure). */
import type { Position } from "../../kafka/log.ts";
import type { Holding, Join, Member, Membership, Renewal, Share } from "./membership.ts";
import type { Seen } from "./session-store.ts";

type Word = Buffer | null | undefined;

/** A field holds words between spaces. */
const word = (text: string): string => encodeURIComponent(text.toWellFormed());
const plain = (text: string): string => decodeURIComponent(text);
const flag = (is: boolean): string => (is ? "1" : "0");

export function placeWords(positions: readonly Position[]): string[] {
  return positions.flatMap(({ offset, epoch }) => [String(offset), String(epoch)]);
}

export function joinWords(join: Join): string[] {
  const { id, topicId, instance, attempt, server, lapseMs, revokeMs, partitions, known } = join;
  const places = known?.positions ?? [];
  return [
    ...[id, topicId, word(instance), String(attempt), word(server)],
    ...[lapseMs, revokeMs, partitions].map(String),
    ...[flag(join.anew === true), flag(join.start !== undefined)],
    ...[known?.topicId ?? "", String(known?.seeks ?? 0), String(places.length)],
    ...[...placeWords(places), ...placeWords(join.start ?? [])],
  ];
}

export function renewalWords(renewal: Renewal): string[] {
  const { id, topicId, instance, seeks, sequence, lapseMs, revokeMs, partitions } = renewal;
  return [
    ...[id, topicId, word(instance)],
    ...[seeks, sequence, lapseMs, revokeMs, partitions].map(String),
    ...[flag(renewal.leaves), ...renewal.holdings.flatMap(holdingWords)],
  ];
}

function holdingWords({ partition, generation, position, isClean, letsGo }: Holding): string[] {
  const [offset, epoch] = placeWords([position]) as [string, string];
  return [String(partition), String(generation), offset, epoch, flag(isClean), flag(letsGo)];
}

export function knownWords(known: Membership, lapseMs: number): string[] {
  const { topicId, generation, seeks, shares, members } = known;
  return [
    ...[topicId, ...[generation, seeks, lapseMs, shares.length].map(String)],
    ...shares.flatMap(({ generation, owner, target, position }) => [
      ...[String(generation), owner, target, ...placeWords([position])],
    ]),
    ...members.flatMap(({ id, attempt, instance, server }) => [
      ...[id, String(attempt), word(instance), word(server)],
    ]),
  ];
}

export function membershipOf(words: readonly Word[]): Seen {
  const texts = words.map(String);
  const [generation, seeks, topicId = "", changed, now, count, ...rest] = texts;
  const shares = rest.slice(0, Number(count)).map(shareOf);
  const pairs = rest.slice(Number(count));
  const members: Member[] = [];
  for (let i = 0; i < pairs.length; i += 2)
    members.push(memberOf(pairs[i] as string, pairs[i + 1] as string));
  members.sort((one, other) => Buffer.compare(Buffer.from(one.id), Buffer.from(other.id)));
  return {
    membership: {
      ...{ topicId, seeks: Number(seeks), generation: Number(generation), members, shares },
      changedMs: Number(changed),
    },
    nowMs: Number(now),
  };
}

function shareOf(text: string): Share {
  const [generation, owner = "", target = "", deadline, dirty, unclean, offset, epoch] =
    text.split(" ");
  return {
    ...{ generation: Number(generation), owner, target, deadlineMs: Number(deadline) },
    ...{ dirty: dirty === "1", unclean: unclean === "1" },
    position: { offset: Number(offset), epoch: Number(epoch) },
  };
}

function memberOf(id: string, text: string): Member {
  const [untilMs, attempt, sequence, instance = "", server = ""] = text.split(" ");
  return {
    ...{ id, instance: plain(instance), attempt: Number(attempt), server: plain(server) },
    ...{ untilMs: Number(untilMs), sequence: Number(sequence) },
  };
}
