/**
 * What people see of sessions: GetSession, metrics, and the mirror as Kafka's own tool describes it, say the
 * same numbers; over a server that is killed, one that stops, SeekSession and ForgetSession.
 */
import { credentials, type ServiceError } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { EmbeddedStore } from "../../local/embedded-store.ts";
import {
  type GetSessionResponse,
  type SubscribeOpen,
  ThroughlineServiceClient,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { decodeToken } from "../../sidecar/token.ts";
import { Bed, SLOW_MS } from "./bed.ts";
import { describedAs, describedGroup, GROUP_TOOL, type Said } from "./group-tool.ts";
import type { StoryServer } from "./story-server.ts";
import { type RawStream, rawStream } from "./subscriber.ts";
import { until } from "./waits.ts";

const TOPIC = "orders.eu";
const SESSION = "book keeping/1";
const PARTITIONS = 2;

let bed: Bed;
let store: EmbeddedStore;

beforeAll(async () => {
  bed = await Bed.open();
  store = await bed.store();
}, SLOW_MS);

afterAll(() => bed?.close(), SLOW_MS);

/** The group and its topic, as Kafka's tool calls them. */
function group(): [Bed, string, string] {
  const { name } = bed.part;
  return [bed, `_throughline.${name}.${name}.orders%2Eeu.book%20keeping%2F1`, `${name}.${TOPIC}`];
}

function call<T>(
  server: StoryServer,
  ask: (
    stub: ThroughlineServiceClient,
    done: (error: ServiceError | null, answer: T) => void,
  ) => void,
): Promise<T> {
  const stub = new ThroughlineServiceClient(server.address, credentials.createInsecure());
  return new Promise<T>((resolve, reject) => {
    ask(stub, (error, answer) => (error ? reject(error) : resolve(answer)));
  }).finally(() => stub.close());
}

const NAMES = { topic: TOPIC, session: SESSION };

test(
  "GetSession, Kafka's tool and the metrics say the same position and lag, whatever happens to the session",
  async () => {
    const topic = await bed.topic(TOPIC, { partitions: PARTITIONS });
    const { name } = bed.part;
    const identity = { deploymentId: name, topic: `${name}/${TOPIC}`, topicId: topic.id };
    const start = (...flags: string[]): Promise<StoryServer> =>
      bed.server([TOPIC], "--session-store", store.url, "--mirror-ms", "200", ...flags);
    const a = await start();
    await bed.append(topic, 0, 400);

    const asked = async (server: StoryServer): Promise<Said> => {
      const { token, lag } = await call<GetSessionResponse>(server, (stub, done) =>
        stub.getSession(NAMES, done),
      );
      const { positions } = decodeToken(token, identity, PARTITIONS);
      return { offsets: positions.map(({ offset }) => offset), lag: Number(lag) };
    };
    const saved = async (server: StoryServer, offsets: readonly number[]): Promise<Said> => {
      let said: Said = { offsets: [], lag: 0 };
      await until(async () => {
        said = await asked(server);
        return said.offsets.join() === offsets.join();
      });
      return said;
    };
    const open = async (server: StoryServer, attempt: number): Promise<RawStream> => {
      const session: SubscribeOpen["session"] = {
        ...{ name: SESSION, mode: 0, instance: "one", strict: false, acks: 0 },
        ...{ knownToken: Buffer.alloc(0), knownSeeks: 0n },
        attempt: BigInt(attempt),
      };
      const stream = rawStream(server.address, { topic: TOPIC, session });
      await stream.until(() => stream.down.some(({ $case }) => $case === "opened"));
      return stream;
    };
    const delivered = (stream: RawStream, count: number): Promise<void> =>
      stream.until(() => {
        const batches = stream.down.filter(({ $case }) => $case === "batch");
        const events = batches.map(({ value }) => (value as { events: unknown[] }).events.length);
        return events.reduce((sum, n) => sum + n, 0) >= count;
      });
    const ack = (stream: RawStream, ...offsets: number[]): void =>
      stream.send({
        $case: "ack",
        value: {
          positions: offsets.map((offset, partition) => ({
            partition,
            offset: BigInt(offset - 1),
          })),
          token: Buffer.alloc(0),
        },
      });

    const ends = await Promise.all(
      Array.from({ length: PARTITIONS }, async (_, partition) => {
        const end = await bed.log.offset(topic, partition, "latest");
        return end.kind === "offset" ? end.offset : -1;
      }),
    );
    const [end0, end1] = ends as [number, number];
    expect(end0 + end1).toBe(400);

    // Acknowledged in part: what is saved is shown, not what was delivered.
    const first = await open(a, 1);
    await delivered(first, 400);
    ack(first, 100, 50);
    const early = await saved(a, [100, 50]);
    expect(early.lag).toBe(250);
    await describedAs(...group(), early);
    expect(await describedGroup(...group())).toEqual(early);
    await until(async () => (await a.metric("session_lag_events")) === 250);
    expect(await a.metric("sessions")).toBe(1);
    expect(await a.metric("sessions_unverified")).toBe(0);
    expect(await a.metric("session_lag_max_events")).toBe(250);
    expect(await a.metric("session_saves_total")).toBeGreaterThanOrEqual(2);
    expect(await a.metric("session_mirror_commits_total")).toBeGreaterThanOrEqual(1);

    // Its server is killed: the next one shows what was saved, and goes on.
    ack(first, 110, 60);
    await saved(a, [110, 60]);
    await a.kill();
    first.close();
    const b = await start();
    const second = await open(b, 2);
    await describedAs(...group(), { offsets: [110, 60], lag: 230 });
    await delivered(second, 230);

    // Its server stops in order, long before its next beat.
    const slow = await start("--mirror-ms", "3600000");
    const third = await open(slow, 3);
    await second.fails();
    expect(await b.metric("session_superseded_total")).toBe(1);
    await delivered(third, 230);
    ack(third, 120, 70);
    const late = await saved(slow, [120, 70]);
    slow.signal("SIGTERM");
    await third.until(() => third.down.some(({ $case }) => $case === "moving"));
    third.close();
    expect(await slow.ended).toBe(0);
    expect(await describedGroup(...group())).toEqual(late);

    // Sought while nobody holds it, then forgotten.
    await call(b, (stub, done) =>
      stub.seekSession({ ...NAMES, to: { at: { $case: "earliest", value: {} } } }, done),
    );
    expect(await asked(b)).toEqual({ offsets: [0, 0], lag: 400 });
    await describedAs(...group(), { offsets: [0, 0], lag: 400 });
    await call(b, (stub, done) => stub.forgetSession(NAMES, done));
    await describedAs(...group(), undefined);
    expect(await b.metric("sessions")).toBe(0);
    await until(async () => (await b.metric("session_lag_events")) === 0);
  },
  SLOW_MS,
);

test(
  "with --mirror-ms 0 nothing is shown",
  async () => {
    const topic = await bed.topic("off", { partitions: 1 });
    await bed.append(topic, 0, 10);
    const flags = ["--session-store", store.url, "--mirror-ms", "0"];
    const server = await bed.server(["off"], ...flags);
    const client = bed.subscriber([server.address], { topic: "off", session: { name: "off" } });
    await client.told("opened");
    await client.stop();
    server.signal("SIGTERM");
    expect(await server.ended).toBe(0);
    const { code, stdout } = await bed.part.java(GROUP_TOOL, [
      ...["--bootstrap-server", bed.part.brokers.join(","), "--list"],
    ]);
    expect({
      code,
      groups: stdout.split("\n").filter((name) => name.includes(`${bed.part.name}.off.`)),
    }).toEqual({
      code: 0,
      groups: [],
    });
  },
  SLOW_MS,
);
