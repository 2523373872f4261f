/**
 * Strikes at the moment when certain bytes pass one of the proxies that were made with it: before them, so that
 * what they ask is lost, or when the answer comes, so that it was done and nobody hears of it. Or holds back all
 * that one asks, by bytes that are in all of it.
 */
import type { FaultProxyOptions, ProxiedConnection, Way } from "../../faults/fault-proxy.ts";

export interface Bait {
  readonly way: Way;
  /** Undefined: any. */
  readonly bytes?: Buffer;
  /** Undefined: all. */
  readonly among?: ReadonlySet<ProxiedConnection>;
  /** Strikes when something comes back on that connection. */
  readonly atAnswer?: boolean;
}

/** @param bytes what passes then. */
type Strike = (connection: ProxiedConnection, bytes: Buffer) => void;

interface Armed {
  bait: Bait;
  readonly strike: Strike;
}

interface Held {
  readonly bytes: Buffer;
  readonly connections: Set<ProxiedConnection>;
}

export class Trap {
  #armed: Armed | undefined;
  readonly #held = new Set<Held>();

  /** What the proxies are made with. */
  readonly options: Required<Pick<FaultProxyOptions, "onUp" | "onDown">> = {
    onUp: (connection, bytes) => this.#sees("up", connection, bytes),
    onDown: (connection, bytes) => this.#sees("down", connection, bytes),
  };

  /** One at a time. @returns whether it struck within that time. */
  set(bait: Bait, withinMs: number, strike: Strike): Promise<boolean> {
    return new Promise((resolve) => {
      const over = (struck: boolean): void => {
        clearTimeout(late);
        this.#armed = undefined;
        resolve(struck);
      };
      const late = setTimeout(over, withinMs, false);
      this.#armed = {
        bait,
        strike: (connection, bytes) => {
          over(true);
          strike(connection, bytes);
        },
      };
    });
  }

  /**
   * From now on connections pass nothing once these bytes come up on them.
   * @param first one that passes nothing at once.
   * @returns lets them pass, in order.
   */
  hold(bytes: Buffer, first?: ProxiedConnection): () => void {
    const held = { bytes, connections: new Set<ProxiedConnection>() };
    this.#held.add(held);
    if (first) hold(first, held);
    return () => {
      this.#held.delete(held);
      for (const connection of held.connections) connection.fault({ kind: "none" });
    };
  }

  #sees(way: Way, connection: ProxiedConnection, bytes: Buffer): void {
    for (const held of this.#held)
      if (way === "up" && bytes.includes(held.bytes)) hold(connection, held);
    const armed = this.#armed;
    if (!armed || armed.bait.way !== way || armed.bait.among?.has(connection) === false) return;
    if (armed.bait.bytes && !bytes.includes(armed.bait.bytes)) return;
    if (!armed.bait.atAnswer) armed.strike(connection, bytes);
    else armed.bait = { way: way === "up" ? "down" : "up", among: new Set([connection]) };
  }
}

function hold(connection: ProxiedConnection, { connections }: Held): void {
  connections.add(connection);
  connection.fault({ kind: "freeze" });
}
