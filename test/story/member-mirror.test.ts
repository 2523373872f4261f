/**
 * What people see of a shared session whose members are on two servers: GetSession, Kafka's own tool and the
 * metrics of both servers together say the same numbers.
 */
import { credentials } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { EmbeddedStore } from "../../local/embedded-store.ts";
import {
  type GetSessionResponse,
  ThroughlineServiceClient,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { decodeToken } from "../../sidecar/token.ts";
import { Bed, SLOW_MS } from "./bed.ts";
import { describedAs, describedGroup, type Said } from "./group-tool.ts";
import type { StoryServer } from "./story-server.ts";
import { type RawStream, rawStream } from "./subscriber.ts";
import { until } from "./waits.ts";

const NAMES = { topic: "orders", session: "pickers" };
const PARTITIONS = 2;
const SHARED = 2;

let bed: Bed;
let store: EmbeddedStore;

beforeAll(async () => {
  bed = await Bed.open();
  store = await bed.store();
}, SLOW_MS);

afterAll(() => bed?.close(), SLOW_MS);

function start(): Promise<StoryServer> {
  return bed.server(
    ["orders"],
    ...["--session-store", store.url, "--mirror-ms", "200"],
    ...["--member-lapse-ms", "4000", "--member-return-ms", "500"],
  );
}

function member({ address }: StoryServer, instance: string): RawStream {
  return rawStream(address, {
    topic: "orders",
    session: {
      ...{ name: NAMES.session, mode: SHARED, instance, attempt: 1n, strict: false, acks: 0 },
      ...{ knownToken: Buffer.alloc(0), knownSeeks: 0n },
    },
  });
}

async function has(stream: RawStream, ...partitions: number[]): Promise<void> {
  await stream.until(() => {
    const given = stream.down.flatMap((m) => (m.$case === "assigned" ? m.value.partitions : []));
    return partitions.every((partition) => given.includes(partition));
  });
}

function delivered(stream: RawStream, partition: number, through: number): Promise<void> {
  return stream.until(() =>
    stream.down.some(
      (m) =>
        m.$case === "batch" &&
        m.value.partition === partition &&
        m.value.events.some(({ offset }) => Number(offset) === through),
    ),
  );
}

function ack(stream: RawStream, partition: number, next: number): void {
  const positions = [{ partition, offset: BigInt(next - 1) }];
  stream.send({ $case: "ack", value: { positions, token: Buffer.alloc(0) } });
}

test(
  "GetSession, Kafka's tool and the servers' metrics say the same position and lag, whoever is a member",
  async () => {
    const topic = await bed.topic("orders", { partitions: PARTITIONS });
    const { name } = bed.part;
    const identity = { deploymentId: name, topic: `${name}/orders`, topicId: topic.id };
    const group = `_throughline.${name}.${name}.orders.pickers`;
    const a = await start();
    const b = await start();
    const stub = new ThroughlineServiceClient(b.address, credentials.createInsecure());
    const asked = async (): Promise<Said> => {
      const answer = await new Promise<GetSessionResponse>((resolve, reject) =>
        stub.getSession(NAMES, (error, said) => (error ? reject(error) : resolve(said))),
      );
      const { positions } = decodeToken(answer.token, identity, PARTITIONS);
      return { offsets: positions.map(({ offset }) => offset), lag: Number(answer.lag) };
    };
    const saved = async (...offsets: number[]): Promise<Said> => {
      let said: Said = { offsets: [], lag: 0 };
      await until(async () => {
        said = await asked();
        return said.offsets.join() === offsets.join();
      });
      return said;
    };
    const described = (wanted: Said | undefined): Promise<void> =>
      describedAs(bed, group, topic.name, wanted);
    const lags = async (...servers: StoryServer[]): Promise<number> => {
      const each = await Promise.all(servers.map((server) => server.metric("session_lag_events")));
      return each.reduce((sum, lag) => sum + lag, 0);
    };

    const one = member(a, "one");
    await has(one, 0, 1);
    const two = member(b, "two");
    await has(two, 1);
    await bed.append(topic, 0, 400);
    // Acknowledged in part, by each what it has.
    await delivered(one, 0, 99);
    await delivered(two, 1, 49);
    ack(one, 0, 100);
    ack(two, 1, 50);
    const early = await saved(100, 50);
    expect(early.lag).toBe(250);
    await described(early);
    await until(async () => (await lags(a, b)) === 250);
    for (const server of [a, b]) {
      expect(await server.metric("sessions")).toBe(1);
      expect(await server.metric("sessions_unverified")).toBe(0);
      expect(await server.metric("session_saves_total")).toBeGreaterThanOrEqual(1);
    }

    // The server of the member that shows it is killed: the other has all, and shows it.
    await a.kill();
    one.close();
    await has(two, 0, 1);
    await delivered(two, 0, 109);
    ack(two, 0, 110);
    const late = await saved(110, 50);
    await described(late);
    await until(async () => (await lags(b)) === late.lag);

    // The last member leaves; what is left is shown before its server has stopped.
    ack(two, 1, 60);
    const last = await saved(110, 60);
    const c = await start();
    b.signal("SIGTERM");
    await two.until(() => two.down.some(({ $case }) => $case === "moving"));
    two.close();
    expect(await b.ended).toBe(0);
    expect(await describedGroup(bed, group, topic.name)).toEqual(last);

    const other = new ThroughlineServiceClient(c.address, credentials.createInsecure());
    await new Promise<void>((resolve, reject) =>
      other.forgetSession(NAMES, (error) => (error ? reject(error) : resolve())),
    );
    await described(undefined);
    other.close();
    stub.close();
  },
  SLOW_MS,
);
