/** What tests of real stores share: a store with the real clock, and a plain connection beside it. */
import { createClient, RESP_TYPES } from "@redis/client";
import { openRedisStore, type RedisStoreOptions } from "../../sidecar/sessions/redis-store.ts";
import type { SessionStore } from "../../sidecar/sessions/session-store.ts";

export const SLOW_MS = 120_000;
export const CLOCK = {
  now: () => performance.now(),
  setTimer: (ms: number, fire: () => void): (() => void) => {
    const timer = setTimeout(fire, ms);
    return () => clearTimeout(timer);
  },
};

export function openStore(port: number, more: Partial<RedisStoreOptions> = {}): SessionStore {
  return openRedisStore({
    addresses: [{ host: "127.0.0.1", port }],
    cluster: false,
    tls: undefined,
    user: undefined,
    password: undefined,
    clock: CLOCK,
    random: Math.random,
    // A busy machine is no fault.
    timeoutMs: 20_000,
    ...more,
  });
}

export interface Plain {
  ask(...command: (string | Buffer)[]): Promise<unknown>;
  close(): void;
}

export async function openPlain(
  port: number,
  access: { readonly username?: string; readonly password?: string; readonly ca?: string } = {},
): Promise<Plain> {
  const { ca, ...user } = access;
  const at = { host: "127.0.0.1", port };
  const client = createClient({
    RESP: 2,
    socket: ca === undefined ? at : { ...at, tls: true, ca },
    ...user,
    commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
  });
  client.on("error", () => {});
  await client.connect();
  return {
    ask: (...command) => client.sendCommand(command),
    close: () => client.destroy(),
  };
}
