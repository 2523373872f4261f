/**
 * 200 changes while operators are killed with SIGKILL and their connections cut, by a seed: what is then in Kafka
 * and in the catalog is exactly what was declared (P9). `SEED=n` replays the choices; their timing is the machine's.
 */
import type { ChildProcess } from "node:child_process";
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { CatalogReader } from "../../operator/catalog-reader.ts";
import { CatalogState } from "../../proto/gen/throughline/stored/v1/stored.ts";
import { FaultProxy, type ProxiedConnection, type Way } from "../faults/fault-proxy.ts";
import { Random } from "../sim/random.ts";
import { ended } from "./processes.ts";
import { isReady, SLOW_MS, TopicBed } from "./topic-bed.ts";

const CHANGES = 200;
const NAMES = 40;
/** The next leader waits for the Lease of one that was killed. */
const KILLS = 4;
const CUTS = 40;
const RUN_MS = 400_000;
const CONVERGE_MS = 90_000;
const DEPLOYMENT = "faults";

let bed: TopicBed;
let kafkaWire: Wire;
let apiWire: Wire;
let flags: string[];

/** A way to a server that is cut at the next bytes: a request that never arrives, or an answer that is lost. */
interface Wire {
  readonly proxy: FaultProxy;
  cutAtNext(way: Way): void;
}

async function wire(): Promise<Wire> {
  let armed: Way | undefined;
  const trap = (way: Way) => (connection: ProxiedConnection) => {
    if (armed !== way) return;
    armed = undefined;
    connection.reset();
  };
  const proxy = await FaultProxy.listen({ onUp: trap("up"), onDown: trap("down") });
  return {
    proxy,
    cutAtNext: (way) => {
      armed = way;
    },
  };
}

beforeAll(async () => {
  [kafkaWire, apiWire] = await Promise.all([wire(), wire()]);
  bed = await TopicBed.start({ secured: "PLAINTEXT", advertisedPorts: [kafkaWire.proxy.port] });
  kafkaWire.proxy.target = Number(bed.kafka.securedBrokers[0]?.split(":")[1]);
  const direct = bed.plane.kube.getCurrentCluster()?.server as string;
  apiWire.proxy.target = Number(new URL(direct).port);
  const through = bed.plane.kubeconfig.replace(direct, `https://${apiWire.proxy.address}`);
  flags = [
    ...["--namespaces", "f", "--kafka", kafkaWire.proxy.address],
    ...["--kubeconfig", bed.file("through-the-wire", through)],
  ];
  await bed.namespace("f");
}, SLOW_MS);

afterAll(async () => {
  await bed?.stop();
  await apiWire?.proxy.close();
  await kafkaWire?.proxy.close();
}, SLOW_MS);

interface Declared {
  readonly partitions: number;
  readonly flushMs: number;
}

class Run {
  readonly #random: Random;
  /** By short name; undefined: deleted. */
  readonly declared = new Map<string, Declared | undefined>();
  /** Partitions of what is retained: they never become fewer. */
  readonly #had = new Map<string, number>();
  #operators: ChildProcess[] = [];
  isOver = false;

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  /** Another in the place of each that ends, as a Deployment does. */
  start(): void {
    const operator = bed.operator(DEPLOYMENT, ...flags);
    this.#operators.push(operator);
    operator.once("exit", () => {
      this.#operators = this.#operators.filter((one) => one !== operator);
      if (!this.isOver) this.start();
    });
  }

  async changes(): Promise<void> {
    const kills = this.#moments(KILLS);
    const cuts = this.#moments(CUTS);
    for (let i = 0; i < CHANGES; i++) {
      const name = `t${this.#random.int(0, NAMES - 1)}`;
      await this.#change(name);
      if (kills.has(i)) await this.#kill();
      if (cuts.has(i)) this.#cut();
      // Some changes come in a heap, others when the one before is done.
      if (this.#random.chance(1 / 3)) await this.#settled(name);
    }
  }

  /** Kafka's more often: the watch alone has bytes on the other for most of the time. */
  #cut(): void {
    const wire = this.#random.chance(0.7) ? kafkaWire : apiWire;
    wire.cutAtNext(this.#random.chance(0.5) ? "up" : "down");
  }

  /** The older one is the leader, or will be. */
  async #kill(): Promise<void> {
    const which = this.#random.chance(0.25) ? 1 : 0;
    const operator = this.#operators[which] ?? this.#operators[0];
    if (operator) await ended(operator, "SIGKILL");
  }

  async #settled(name: string): Promise<void> {
    const full = `f/${name}`;
    if (this.declared.get(name)) await bed.until(full, (topic) => isReady(topic));
    else await bed.untilGone(full);
  }

  async #change(name: string): Promise<void> {
    const known = this.declared.get(name);
    const full = `f/${name}`;
    if (!known) {
      // One that is being deleted cannot be made anew.
      await bed.untilGone(full);
      const made = { partitions: this.#random.int(1, 2), flushMs: this.#random.int(1, 100) };
      const deletionPolicy = policyOf(name);
      // What was retained may have more.
      const partitions = Math.max(made.partitions, this.#had.get(name) ?? 0);
      await bed.apply(full, { ...specOf({ ...made, partitions }), deletionPolicy });
      this.#declare(name, { ...made, partitions });
    } else if (this.#random.chance(1 / 3)) {
      await bed.delete(full);
      this.declared.set(name, undefined);
    } else {
      const grown = known.partitions + (this.#random.chance(0.5) && known.partitions < 6 ? 1 : 0);
      const changed = { partitions: grown, flushMs: this.#random.int(1, 100) };
      await bed.patch(full, { spec: specOf(changed) });
      this.#declare(name, changed);
    }
  }

  #declare(name: string, what: Declared): void {
    this.declared.set(name, what);
    if (policyOf(name) === "Retain") this.#had.set(name, what.partitions);
  }

  #moments(count: number): Set<number> {
    const found = new Set<number>();
    while (found.size < count) found.add(this.#random.int(0, CHANGES - 1));
    return found;
  }
}

/** The same over a name's whole life: half of them stay in Kafka. */
function policyOf(name: string): "Retain" | "Delete" {
  return Number(name.slice(1)) % 2 === 0 ? "Delete" : "Retain";
}

function specOf({ partitions, flushMs }: Declared) {
  return { partitions, config: { "flush.ms": String(flushMs) } };
}

/** What there is, as one value to compare: Kafka's topics, and the catalog's records. */
async function actual(declared: ReadonlyMap<string, Declared | undefined>) {
  const listed = await bed.log.admin.listTopics();
  if (listed.kind !== "done") throw new Error(listed.reason);
  const kafka: Record<string, Declared> = {};
  for (const kafkaTopic of listed.value.filter((name) => name.startsWith("f."))) {
    const name = kafkaTopic.slice(2);
    // Of what was retained it says only that it is somebody's.
    if (policyOf(name) === "Retain" && !declared.get(name)) continue;
    const settings = await bed.log.admin.settings(kafkaTopic);
    const info = await bed.kafkaTopic(kafkaTopic);
    if (settings.kind !== "done" || !info) continue;
    kafka[name] = { partitions: info.partitions, flushMs: Number(settings.value["flush.ms"]) };
  }
  const topic = await bed.kafkaTopic(`_throughline.${DEPLOYMENT}.catalog`);
  if (!topic) throw new Error("there is no catalog");
  const catalog = new CatalogReader(bed.log, topic);
  await catalog.read();
  const ids = new Map<string, string | undefined>();
  for (const name of listed.value) ids.set(name, (await bed.kafkaTopic(name))?.id);
  const isTrue = ({ kafkaTopic, topicId }: { kafkaTopic: string; topicId: Buffer }): boolean =>
    ids.get(kafkaTopic) === topicId.toString("hex");
  const records = [...catalog.records].map(([name, record]) => [name.slice(2), record] as const);
  const ready = records.filter(([, { state }]) => state === CatalogState.CATALOG_STATE_READY);
  const retained = records.filter(([, { state }]) => state === CatalogState.CATALOG_STATE_RETAINED);
  return {
    kafka,
    ready: ready.map(([name]) => name).sort(),
    untrue: records.filter(([, record]) => !isTrue(record)).map(([name]) => name),
    // In Kafka, and nobody's.
    leftOver: listed.value.filter(
      (name) => name.startsWith("f.") && !catalog.records.has(`f/${name.slice(2)}`),
    ),
    wronglyRetained: retained.map(([name]) => name).filter((name) => policyOf(name) === "Delete"),
    begun: [...catalog.begun.keys()],
  };
}

test(
  "kills and cuts during 200 changes end in what was declared: nothing lost, doubled or left over",
  async () => {
    const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
    console.log(`seed ${seed}`);
    const run = new Run(seed);
    try {
      await judge(seed, run);
    } finally {
      run.isOver = true;
    }
  },
  RUN_MS,
);

async function judge(seed: number, run: Run): Promise<void> {
  run.start();
  run.start();
  await run.changes();
  const living = [...run.declared].filter((entry): entry is [string, Declared] => !!entry[1]);
  for (const [name, declared] of run.declared)
    if (declared) await bed.until(`f/${name}`, (topic) => isReady(topic));
    else await bed.untilGone(`f/${name}`);
  const wanted = {
    kafka: Object.fromEntries(living),
    ready: living.map(([name]) => name).sort(),
    ...{ untrue: [], leftOver: [], wronglyRetained: [], begun: [] },
  };
  // What is gone from the API server is retained in the catalog a moment later.
  const deadline = performance.now() + CONVERGE_MS;
  for (;;) {
    const found = await actual(run.declared);
    if (isDeepStrictEqual(found, wanted)) break;
    if (performance.now() > deadline) expect({ seed, ...found }).toEqual({ seed, ...wanted });
  }
  for (const [name] of living) {
    const { status } = await bed.topic(`f/${name}`);
    const info = await bed.kafkaTopic(`f.${name}`);
    expect([seed, name, status?.topicId]).toEqual([seed, name, info?.id]);
    // Nothing was ever lost on the way.
    expect(status?.conditions?.map(({ type }) => type)).toEqual(["Ready"]);
  }
}
