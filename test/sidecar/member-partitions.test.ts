/** What a member does with its partitions as the store tells it who has them. */
import { expect, test } from "@jest/globals";
import {
  type Arrival,
  MemberPartitions,
  type MemberStream,
} from "../../sidecar/sessions/member-partitions.ts";
import type { Membership, Share } from "../../sidecar/sessions/membership.ts";

function membership(share: Partial<Share>): Membership {
  const settled = { owner: "me", target: "me", deadlineMs: 0, dirty: false, unclean: false };
  const shares = [{ ...settled, generation: 1, position: { offset: 10, epoch: 0 }, ...share }];
  return { topicId: "t", seeks: 0, generation: 9, members: [], shares, changedMs: 0 };
}

test("P3: what a member sent of a partition that was another's meanwhile comes again with the mark", async () => {
  const delivered: Arrival[] = [];
  const stream = {
    isSettled: () => true,
    position: () => ({ offset: 10, epoch: 0 }),
    prepare: () => Promise.resolve(),
    delivers: (arrivals: readonly Arrival[]) => delivered.push(...arrivals),
    revoked: () => {},
    released: () => {},
    stands: () => {},
  } as unknown as MemberStream;
  const clock = { now: () => 0, setTimer: () => () => {} };
  const parts = { id: "me", clock, urgent: () => {}, failed: () => {} };
  const partitions = new MemberPartitions(parts, stream, membership({ owner: "", generation: 0 }));
  partitions.judge({ membership: membership({ generation: 1 }), nowMs: 0 });
  expect(delivered.splice(0)).toMatchObject([{ partition: 0, unclean: false }]);

  // Another had it and left in order; that was not heard of here while it went on.
  partitions.judge({ membership: membership({ generation: 3 }), nowMs: 0 });
  await Promise.resolve();
  await Promise.resolve();
  expect(delivered).toMatchObject([{ partition: 0, unclean: true }]);
});
