/**
 * Cuts at the wire: of a whole leg, or of one connection at a step of a handoff, which is told by the bytes that
 * pass, or by the server's metrics. Each resolves when the wire is whole again.
 */
import { SCRIPTS } from "../../../sidecar/sessions/redis-scripts.ts";
import type { FaultProxy } from "../../faults/fault-proxy.ts";
import { pause } from "../clients/pace.ts";
import type { Field, Seat } from "../field.ts";
import { nowMs } from "../history.ts";
import { cutWire } from "./cut.ts";
import { CUTS, type Cut, type Leg, type Step } from "./kinds.ts";
import type { Bait } from "./trap.ts";

/** For a step that does not come. */
const STEP_MS = 5000;
const LOOK_MS = 20;

/** More than what the servers are given to let go of a partition. */
const PAST_REVOKE_MS = 800;

/** Resolves when it goes on. */
export async function freeze({ server, name }: Seat, holdMs: number): Promise<string> {
  server.signal("SIGSTOP");
  await pause(holdMs);
  server.signal("SIGCONT");
  return name;
}

export class Wire {
  readonly #field: Field;

  constructor(field: Field) {
    this.#field = field;
  }

  async onLeg(leg: Leg, cut: Cut, pick: number, holdMs: number): Promise<string> {
    const { brokers } = this.#field;
    const seat = this.#field.seat(pick);
    const broker = pick % brokers.length;
    const proxy = leg === "client" ? seat.clients : leg === "store" ? seat.store : brokers[broker];
    if (!proxy) throw new Error(`no proxy on leg ${leg}`);
    await cutWire(proxy, cut, pick, holdMs);
    return leg === "kafka" ? `broker ${broker + 1}` : seat.name;
  }

  async atStep(step: Step, pick: number, holdMs: number): Promise<string | undefined> {
    const cut = CUTS[pick % CUTS.length] as Cut;
    if (step === "join" && pick % 2 === 0) return this.#freezeAtJoin(pick, holdMs);
    switch (step) {
      case "claim":
      case "save":
      case "join":
      case "renew": {
        const bytes = Buffer.from(SCRIPTS[step].sha1);
        return this.#trap("store", { way: "up", bytes, atAnswer: pick % 8 < 4 }, cut, pick, holdMs);
      }
      // A token names its Topic; a server names itself in what it says first.
      case "resume":
        return this.#trap("client", { way: "up", bytes: Buffer.from("shop/") }, cut, pick, holdMs);
      case "opened": {
        const bytes = Buffer.from("server-");
        return this.#trap("client", { way: "down", bytes }, cut, pick, holdMs);
      }
      case "drain":
        return this.#atDrain(pick, cut, holdMs);
      default:
        return this.#atCatchUp(pick, cut, holdMs);
    }
  }

  async #trap(
    leg: "client" | "store",
    bait: Bait,
    cut: Cut,
    pick: number,
    holdMs: number,
  ): Promise<string | undefined> {
    let over: Promise<void> | undefined;
    const isStruck = await this.#field.traps[leg].set(bait, STEP_MS, (connection) => {
      over = cutWire(connection, cut, pick, holdMs);
    });
    await over;
    return isStruck ? cut : undefined;
  }

  /** Another server than the one that a member joins at: it misses until when to let go of what moves. */
  async #freezeAtJoin(pick: number, holdMs: number): Promise<string | undefined> {
    let frozen: Promise<string> | undefined;
    const bait = { way: "up", bytes: Buffer.from(SCRIPTS.join.sha1) } as const;
    await this.#field.traps.store.set(bait, STEP_MS, (connection) => {
      const others = this.#field.seats.filter(({ store }) => !store.connections.has(connection));
      frozen = freeze(others[(pick >> 1) % others.length] as Seat, PAST_REVOKE_MS + holdMs);
    });
    return frozen;
  }

  /** Of a server that drains, at the first thing that it says then. */
  async #atDrain(pick: number, cut: Cut, holdMs: number): Promise<string | undefined> {
    const seat = this.#field.seat(pick);
    await seat.restarted;
    const ended = this.#field.end(seat, "SIGTERM");
    const bait = { way: "down", among: seat.clients.connections } as const;
    const struck = await this.#trap("client", bait, cut, pick, holdMs);
    await ended;
    await this.#field.restart(seat);
    return struck && `${cut}, ${seat.name}`;
  }

  async #atCatchUp(pick: number, cut: Cut, holdMs: number): Promise<string | undefined> {
    const untilMs = nowMs() + STEP_MS;
    while (nowMs() < untilMs) {
      for (const { name, server } of this.#field.seats) {
        // One that is down has no metrics.
        const bytes = await server.metric("catch_up_bytes").catch(() => 0);
        if (!(bytes > 0)) continue;
        const { brokers } = this.#field;
        await cutWire(brokers[pick % brokers.length] as FaultProxy, cut, pick, holdMs);
        return `${cut}, ${name}`;
      }
      await pause(LOOK_MS);
    }
    return undefined;
  }
}
