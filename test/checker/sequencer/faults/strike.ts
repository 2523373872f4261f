/** Does each fault to the field, and resolves when everything that it took is up again. */
import { type Admin, Kafka, logLevel } from "kafkajs";
import { pause } from "../../clients/pace.ts";
import { cutWire } from "../../faults/cut.ts";
import { untilInSync } from "../../faults/in-sync.ts";
import { CUTS, type Cut } from "../../faults/kinds.ts";
import type { Field } from "../field.ts";
import { TOPICS } from "../field.ts";
import type { Deed, Watched } from "../judge/evidence.ts";
import type { WordWatch } from "../word-watch.ts";
import { BAITS } from "./baits.ts";
import { Disasters, type Done } from "./disasters.ts";
import { type Blow, DISASTERS, type Fault, LEGS, STEPS, type Step, WHOLE } from "./kinds.ts";
import type { Planned } from "./schedule.ts";

/** More than the 5 s after which a sequencer is taken for frozen. */
const FROZEN_MS = 6500;
/** For a step that does not come. */
const STEP_MS = 10_000;

export class Striker {
  readonly deeds: Deed[] = [];
  readonly #field: Field;
  readonly #admin: Admin;
  readonly #disasters: Disasters;

  /** @param watched whoever must have had what is deleted. */
  constructor(field: Field, word: WordWatch, watched: readonly Watched[]) {
    this.#field = field;
    this.#admin = new Kafka({
      ...{ brokers: [...field.kafka.brokers], logLevel: logLevel.NOTHING, clientId: "striker" },
      retry: { retries: 100, maxRetryTime: 2000 },
    }).admin();
    this.#disasters = new Disasters(field, { admin: this.#admin, word, watched });
  }

  async open(): Promise<void> {
    await this.#admin.connect();
  }

  async close(): Promise<void> {
    await this.#admin.disconnect();
  }

  async strike(planned: Planned): Promise<Deed> {
    const fromMs = Date.now();
    const done = await this.#do(planned);
    const { target, ...stops } = typeof done === "object" ? done : { target: done };
    // What was not to be had was not struck, and does not count.
    const fault = target === undefined ? `${planned.fault} (none came)` : planned.fault;
    const deed = { fault, target: target ?? "nobody", fromMs, toMs: Date.now(), ...stops };
    this.deeds.push(deed);
    return deed;
  }

  /** @returns whom it hit. */
  async #do(planned: Planned): Promise<string | Done | undefined> {
    const { fault, pick, holdMs } = planned;
    const disaster = DISASTERS.find((one) => one === fault);
    if (disaster) return this.#disasters.do(disaster, pick, holdMs);
    const whole = WHOLE.find((one) => one === fault);
    if (whole) return this.#whole(whole, pick, holdMs);
    for (const step of STEPS)
      if (fault.startsWith(`${step}: `))
        return this.#atStep(step, fault.slice(step.length + 2) as Blow, pick, holdMs);
    for (const leg of LEGS)
      for (const cut of CUTS)
        if (fault === `${leg}-${cut}`) {
          const broker = pick % this.#field.brokers.length;
          const seat = this.#field.active(pick);
          const proxy = leg === "kafka" ? this.#field.brokers[broker] : seat.leg;
          if (proxy) await cutWire(proxy, cut, pick, holdMs);
          return leg === "kafka" ? `broker ${broker + 1}` : seat.name;
        }
    throw new Error(`no such fault: ${fault}`);
  }

  async #whole(fault: Extract<Fault, (typeof WHOLE)[number]>, pick: number, holdMs: number) {
    const { database, kafka, brokers } = this.#field;
    const isOfSequencer = fault === "sequencer-kill" || fault === "sequencer-freeze";
    if (isOfSequencer && !(await this.#field.isAtWork(STEP_MS))) return undefined;
    const node = (pick % brokers.length) + 1;
    switch (fault) {
      case "postgres-freeze":
        database.freeze();
        await pause(holdMs * 3);
        database.thaw();
        return "PostgreSQL";
      case "broker-kill":
        await kafka.kill(node);
        await pause(holdMs);
        await kafka.startNode(node);
        await untilInSync(
          this.#admin,
          TOPICS.map((topic) => this.#field.kafkaTopic(topic)),
          brokers.length,
        );
        return `broker ${node}`;
      case "broker-freeze":
        kafka.freeze(node);
        await pause(holdMs * 2);
        kafka.thaw(node);
        return `broker ${node}`;
      default:
        return this.#blow(fault, pick, holdMs);
    }
  }

  /** Begins at once: the step that it is done at is passing. */
  #blow(blow: Exclude<Blow, Cut>, pick: number, holdMs: number): Promise<string> {
    switch (blow) {
      case "sequencer-kill":
        return this.#killSequencer(pick, holdMs);
      case "sequencer-freeze":
        return this.#freezeSequencer(pick, holdMs);
      case "postgres-kill":
        return this.#killPostgres(holdMs);
    }
  }

  async #killSequencer(pick: number, holdMs: number): Promise<string> {
    const seat = this.#field.active(pick);
    seat.killNow();
    await seat.ended();
    await pause(holdMs / 3);
    seat.start();
    return seat.name;
  }

  async #freezeSequencer(pick: number, holdMs: number): Promise<string> {
    const seat = this.#field.active(pick);
    seat.freeze();
    await pause(FROZEN_MS + holdMs);
    seat.thaw();
    return seat.name;
  }

  async #killPostgres(holdMs: number): Promise<string> {
    const { database } = this.#field;
    database.killNow();
    await pause(holdMs / 3);
    await database.revive();
    return "PostgreSQL";
  }

  async #atStep(step: Step, blow: Blow, pick: number, holdMs: number): Promise<string | undefined> {
    const { leg, ...bait } = BAITS[step];
    // Before it, so that it is not done; or at the answer, so that it is done and nobody hears of it.
    const atAnswer = bait.way === "up" && pick % 8 < 4;
    let over: Promise<unknown> | undefined;
    await this.#field.traps[leg].set({ ...bait, atAnswer }, STEP_MS, (connection) => {
      const cut = CUTS.find((one) => one === blow);
      over = cut
        ? cutWire(connection, cut, pick >> 3, holdMs)
        : this.#blow(blow as Exclude<Blow, Cut>, pick, holdMs);
      if (bait.way === "down" || atAnswer) return;
      // It has sent it already: what it is struck before must not come there.
      if (blow === "sequencer-kill") connection.reset();
      if (blow !== "sequencer-freeze") return;
      connection.fault({ kind: "freeze" });
      over = over.then(() => connection.fault({ kind: "none" }));
    });
    await over;
    return over && (atAnswer ? "at the answer" : "before it");
  }
}
