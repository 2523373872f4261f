/** The demo's killer: SIGKILL for one server after the other in mid-stream, and slow clients that fall behind. */
import type { DemoClient } from "./demo-clients.ts";
import type { DispatchCounters } from "./demo-counters.ts";
import type { Kill } from "./demo-report.ts";
import type { LocalServer } from "./throughline.ts";

/** A server is killed when this many flights are published. */
const KILLS_AT = [3000, 6500, 10_000, 13_500, 17_000];
/** How long before a kill the slow clients stop taking. */
const PAUSE_EVENTS = 1500;
const DOWN_MS = 500;

/** Kills the server that all clients are on, in turn, and brings it back. */
export class DemoKiller {
  readonly kills: Kill[] = [];
  /** The server that publishing goes through. */
  survivor: LocalServer;
  down: string | undefined;
  readonly #servers: readonly [LocalServer, LocalServer];
  readonly #clients: readonly DemoClient[];
  readonly #counters: DispatchCounters;
  readonly #say: (line: string) => void;
  readonly #left = [...KILLS_AT];
  #back: Promise<void> = Promise.resolve();

  constructor(
    a: LocalServer,
    b: LocalServer,
    clients: readonly DemoClient[],
    counters: DispatchCounters,
    say: (line: string) => void,
  ) {
    this.#servers = [a, b];
    this.#clients = clients;
    this.#counters = counters;
    this.#say = say;
    this.survivor = a;
  }

  /** @param published flights so far. */
  async at(published: number): Promise<void> {
    const next = this.#left[0];
    if (next === undefined || published < next - PAUSE_EVENTS) return;
    for (const client of this.#clients) if (client.slow) client.pause();
    if (published < next) return;
    this.#left.shift();
    await this.#back;
    const [a, b] = this.#servers;
    const victim = this.survivor;
    this.survivor = victim === a ? b : a;
    // Its counters go with it.
    await this.#counters.read();
    this.#say(`SIGKILL server ${victim.name} after ${published} flights`);
    this.kills.push({ server: victim.name, afterEvents: published });
    this.down = victim.name;
    for (const client of this.#clients) client.serverKilled();
    this.#back = this.#killAndBring(victim);
    for (const client of this.#clients) client.resume();
  }

  done(): Promise<void> {
    return this.#back;
  }

  async #killAndBring(victim: LocalServer): Promise<void> {
    await victim.kill();
    await new Promise((resolve) => setTimeout(resolve, DOWN_MS));
    await victim.restart();
    this.down = undefined;
    this.#say(`Server ${victim.name} is back`);
  }
}
