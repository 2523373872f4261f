/** Does each fault to the field, and resolves when everything that it took is up again. */
import { type Admin, Kafka, logLevel, type Producer } from "kafkajs";
import { pause } from "../clients/pace.ts";
import { processName } from "../clients/roster.ts";
import type { Field } from "../field.ts";
import { nowMs } from "../history.ts";
import type { Deed } from "../judge/world.ts";
import type { Witness } from "../witness.ts";
import { untilInSync } from "./in-sync.ts";
import { CUTS, type Cut, type Fault, LEGS, type Leg, STEPS, type Step } from "./kinds.ts";
import { freezeLoser } from "./loser.ts";
import type { Planned } from "./schedule.ts";
import { freeze, Wire } from "./wire.ts";

const MOST_PARTITIONS = 24;

export class Striker {
  readonly deeds: Deed[] = [];
  readonly #field: Field;
  readonly #witness: Witness;
  readonly #kafka: Kafka;
  readonly #admin: Admin;
  readonly #wire: Wire;
  #foreign = 0;

  constructor(field: Field, witness: Witness) {
    this.#field = field;
    this.#witness = witness;
    this.#wire = new Wire(field);
    this.#kafka = new Kafka({
      ...{ brokers: [...field.kafka.brokers], logLevel: logLevel.NOTHING, clientId: "striker" },
      retry: { retries: 100, maxRetryTime: 2000 },
    });
    this.#admin = this.#kafka.admin();
  }

  async open(): Promise<void> {
    await this.#admin.connect();
  }

  async close(): Promise<void> {
    await this.#admin.disconnect();
  }

  async strike(planned: Planned): Promise<Deed> {
    const fromMs = nowMs();
    const target = await this.#do(planned);
    // A step that did not come was not struck, and does not count.
    const fault = target === undefined ? `${planned.fault} (none came)` : planned.fault;
    const deed = { fault, target: target ?? "nobody", fromMs, toMs: nowMs() };
    this.deeds.push(deed);
    return deed;
  }

  /** @returns whom it hit. */
  #do({ fault, pick, holdMs }: Planned): Promise<string | undefined> {
    for (const step of Object.keys(STEPS) as Step[])
      if (fault === `at-${step}`) return this.#wire.atStep(step, pick, holdMs);
    for (const leg of LEGS) {
      for (const cut of CUTS)
        if (fault === `${leg}-${cut}`) return this.#wire.onLeg(leg, cut, pick, holdMs);
    }
    type Whole = Exclude<Fault, `${Leg}-${Cut}` | `at-${Step}`>;
    const deeds: Record<Whole, () => Promise<string | undefined>> = {
      "server-kill": () => this.#serverKill(pick, holdMs),
      "server-freeze": () => freeze(this.#field.seat(pick), holdMs),
      "loser-freeze": () => freezeLoser(this.#field),
      "client-kill": () => this.#clientKill(pick, holdMs),
      "client-freeze": () => this.#clientFreeze(pick, holdMs),
      "store-kill": () => this.#storeRestart("kept", holdMs),
      "store-emptied": () => this.#storeRestart("lost", holdMs),
      "store-freeze": () => this.#storeFreeze(holdMs),
      "transaction-aborted": () => this.#transaction(pick, 0),
      "transaction-hanging": () => this.#transaction(pick, 1000 + holdMs),
      "partitions-added": () => this.#grow(),
      retention: () => this.#trim(pick),
      "broker-kill": () => this.#brokerKill(pick, holdMs),
      "leaders-moved": () => this.#electLeaders(),
      "topic-recreated": () => this.#recreate(),
      "rolling-restart": () => this.#roll(),
    };
    return deeds[fault as keyof typeof deeds]();
  }

  async #serverKill(pick: number, holdMs: number): Promise<string> {
    const seat = this.#field.seat(pick);
    await this.#field.end(seat, "SIGKILL");
    await pause(holdMs / 3);
    await this.#field.restart(seat);
    return seat.name;
  }

  async #clientKill(pick: number, holdMs: number): Promise<string> {
    const index = pick % this.#field.children.length;
    await this.#field.killProcess(index);
    await pause(holdMs / 3);
    this.#field.startProcess(index);
    return processName(index);
  }

  async #clientFreeze(pick: number, holdMs: number): Promise<string> {
    const index = pick % this.#field.children.length;
    const child = this.#field.children[index];
    child?.kill("SIGSTOP");
    await pause(holdMs);
    child?.kill("SIGCONT");
    return processName(index);
  }

  async #storeRestart(data: "kept" | "lost", holdMs: number): Promise<string> {
    await this.#field.store.kill();
    await pause(holdMs / 2);
    await this.#field.store.restart(data);
    return "store";
  }

  async #storeFreeze(holdMs: number): Promise<string> {
    this.#field.store.freeze();
    await pause(holdMs);
    this.#field.store.thaw();
    return "store";
  }

  /** Of a producer of somebody else; it is never committed. @param holdMs how long it stays open */
  async #transaction(pick: number, holdMs: number): Promise<string> {
    const names = ["orders", "audit", "short"];
    const name = names[pick % names.length] as string;
    const topic = this.#field.topics.get(name)?.name as string;
    const producer: Producer = this.#kafka.producer({
      ...{ transactionalId: `foreign-${name}`, idempotent: true, maxInFlightRequests: 1 },
      transactionTimeout: 10_000,
    });
    await producer.connect();
    const transaction = await producer.transaction();
    const messages = Array.from({ length: 12 }, () => {
      const n = ++this.#foreign;
      return { key: `key-${n % 37}`, value: `aborted:${n}`, headers: { ce_type: "even" } };
    });
    await transaction.send({ topic, messages });
    await pause(holdMs);
    await transaction.abort();
    await producer.disconnect();
    return name;
  }

  async #grow(): Promise<string> {
    const { partitions } = this.#field.topics.get("growing") as { partitions: number };
    const wanted = Math.min(MOST_PARTITIONS, partitions + 1);
    await this.#field.apply("growing", wanted);
    return `growing to ${wanted}`;
  }

  /** Deletes what the witness holds, under clients that are behind. */
  async #trim(pick: number): Promise<string> {
    const topic = this.#field.topics.get("short");
    if (!topic) throw new Error("no topic to trim");
    const marks = await this.#witness.holds(topic);
    const partitions = marks.map((offset, partition) => {
      return { partition, offset: String(Math.max(0, offset - (pick % 100))) };
    });
    const logs = this.#witness.topics.get(topic.id)?.partitions ?? [];
    const fromMs = nowMs();
    for (const { partition, offset } of partitions) {
      logs[partition]?.trims.push({ below: Number(offset), fromMs, toMs: fromMs });
    }
    await this.#admin.fetchTopicOffsets(topic.name);
    await this.#admin.deleteTopicRecords({ topic: topic.name, partitions });
    return "short";
  }

  async #brokerKill(pick: number, holdMs: number): Promise<string> {
    const { kafka, brokers } = this.#field;
    const node = (pick % brokers.length) + 1;
    await kafka.kill(node);
    await pause(holdMs);
    await kafka.startNode(node);
    const names = [...this.#field.topics.values()].map(({ name }) => name);
    await untilInSync(this.#admin, names, brokers.length);
    return `broker ${node}`;
  }

  /** Leaders go back to where they are preferred. */
  async #electLeaders(): Promise<string> {
    const { kafka } = this.#field;
    const { code, stderr, stdout } = await kafka.java(
      "org.apache.kafka.tools.LeaderElectionCommand",
      [
        ...["--bootstrap-server", kafka.brokers[0] as string],
        ...["--election-type", "preferred", "--all-topic-partitions"],
      ],
    );
    if (code !== 0) throw new Error(`leaders were not moved: ${stderr || stdout}`);
    return "all";
  }

  async #recreate(): Promise<string> {
    const topic = this.#field.topics.get("phoenix");
    if (!topic) throw new Error("no topic to recreate");
    await this.#field.tell({ tell: "pause", topic: "phoenix" });
    await this.#witness.holds(topic);
    const incarnation = this.#witness.topics.get(topic.id);
    if (incarnation) incarnation.goneMs = nowMs();
    await this.#witness.leave(topic.id);
    await this.#field.log.admin.deleteTopic(topic.id);
    const made = await this.#field.apply("phoenix", topic.partitions, topic.id);
    await this.#witness.follow("phoenix", made);
    await this.#field.tell({ tell: "resume", topic: "phoenix" });
    return "phoenix";
  }

  /** Each server drains, ends and comes back before the next one does. */
  async #roll(): Promise<string> {
    for (const seat of this.#field.seats) {
      await this.#field.end(seat, "SIGTERM");
      await this.#field.restart(seat);
    }
    return "all servers";
  }
}
