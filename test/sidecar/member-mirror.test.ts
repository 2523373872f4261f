/** Shared sessions as people see them in Kafka: members on two servers, over real gRPC. */
import { afterEach, expect, jest, test } from "@jest/globals";
import { SessionBed, type Stream } from "./session-bed.ts";

const SHARED = 2;

let bed: SessionBed;

afterEach(() => bed.stop());

/** Acknowledges all that comes, from now on. */
function member(server: "A" | "B", instance: string): Stream {
  const stream = bed.stream(server, { mode: SHARED, instance });
  stream.onBatch = ({ events, partition }) =>
    stream.ack(Number(events.at(-1)?.offset ?? 0), partition);
  return stream;
}

test("one member shows the whole session as group offsets; when it has gone another does", async () => {
  bed = await new SessionBed({}, { mirrorMs: 50 }).start(2);
  const commits = jest.spyOn(bed.log.groups, "commit");
  const shown = (...offsets: number[]): number =>
    commits.mock.calls.filter(
      ([, , positions]) => positions.map(({ offset }) => offset).join() === offsets.join(),
    ).length;
  const one = member("A", "one");
  await one.next("assigned");
  const two = member("B", "two");
  await two.next("assigned");
  expect((await two.next("assigned")).partitions).toEqual([1]);
  await bed.publish(3, 1);
  while (shown(0, 3) === 0) await one.next("heartbeat");
  await bed.publish(2, 0);
  while (shown(2, 3) === 0) await one.next("heartbeat");
  // Several beats of both servers.
  for (let i = 0; i < 5; i++) await two.next("heartbeat");
  expect([shown(0, 3), shown(2, 3)]).toEqual([1, 1]);
  await one.leave();
  await bed.publish(1, 0);
  while (shown(3, 3) === 0) await two.next("heartbeat");
  const [group] = bed.log.groups.names;
  expect(bed.log.groups.committed(group as string, "shop.orders")).toEqual([3, 3]);
});
