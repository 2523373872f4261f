/**
 * Clients with a named session each, as a process of their own: how long each takes to its first event on
 * the other server, after Moving, or after its server was lost (from its reconnect).
 */
import { ThroughlineClient } from "../../client/client.ts";
import { answer } from "./child.ts";

export interface MoverOrder {
  readonly addresses: readonly string[];
  readonly topic: string;
  readonly sessions: number;
  /** Of each client; then all have moved that often and the report is made. */
  readonly moves: number;
}

export interface MoverReport {
  /** From Moving to the first event on the other server. */
  readonly plannedMs: readonly number[];
  /** From the loss, which is the reconnect, to the first event on the other server. */
  readonly crashMs: readonly number[];
  /** From the first loss to the first event of the last client, per round of losses. */
  readonly allLiveMs: number;
}

answer(move);

async function move(order: MoverOrder): Promise<MoverReport> {
  const plannedMs: number[] = [];
  const crashMs: number[] = [];
  let firstLoss = Number.POSITIVE_INFINITY;
  let lastLive = 0;
  const client = async (name: string): Promise<void> => {
    const connection = new ThroughlineClient(order.addresses);
    const abort = new AbortController();
    let left: { readonly at: number; readonly to: number[] } | undefined;
    const leave = (to: number[]): void => {
      const at = performance.now();
      firstLoss = Math.min(firstLoss, at);
      left ??= { at, to };
    };
    let moves = 0;
    const deliveries = connection.subscribe({
      topic: order.topic,
      session: { name },
      start: { $case: "latest", value: {} },
      signal: abort.signal,
      onNotice: ({ $case }) => {
        if ($case === "moving") leave(plannedMs);
      },
      onBreak: ({ error }) => {
        if (error !== "DRAINING") leave(crashMs);
      },
    });
    for await (const _ of deliveries) {
      if (!left) continue;
      lastLive = performance.now();
      left.to.push(lastLive - left.at);
      left = undefined;
      if (++moves === order.moves) break;
    }
    connection.close();
  };
  await Promise.all(Array.from({ length: order.sessions }, (_, i) => client(`mover-${i}`)));
  return { plannedMs, crashMs, allLiveMs: lastLive - firstLoss };
}
