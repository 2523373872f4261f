/**
 * Strikes at the moment when certain bytes pass one of the proxies that were made with it: before them, so that
 * what they ask is lost, or when the answer comes, so that it was done and nobody hears of it.
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

export class Trap {
  #armed: Armed | undefined;

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

  #sees(way: Way, connection: ProxiedConnection, bytes: Buffer): void {
    const armed = this.#armed;
    if (!armed || armed.bait.way !== way || armed.bait.among?.has(connection) === false) return;
    if (armed.bait.bytes && !bytes.includes(armed.bait.bytes)) return;
    if (!armed.bait.atAnswer) armed.strike(connection, bytes);
    else armed.bait = { way: way === "up" ? "down" : "up", among: new Set([connection]) };
  }
}
