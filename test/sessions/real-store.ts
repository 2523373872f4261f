/** What tests of real stores share: a store with the real clock, and a plain connection beside it. */
import { createClient, RESP_TYPES } from "@redis/client";
import { openRedisStore, type RedisStoreOptions } from "../../sidecar/sessions/redis-store.ts";
import type { SessionKey, SessionStore } from "../../sidecar/sessions/session-store.ts";
import type { Driver } from "./cases.ts";

export const SLOW_MS = 120_000;
export const DAY_MS = 86_400_000;
const CLOCK = {
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

/** Where the product keeps the session: written out here, for another release must find it. */
export function keyOf({ session }: SessionKey): string {
  return `throughline:{d/shop/shop%2Forders/${session}}`;
}

/** All that this release knows, under a format that it does not. */
const NEWER = {
  ...{ format: "throughline-session/2", generation: "1", claim: "c", seeks: "0", topic: "t" },
  ...{ instance: "i", attempt: "1", server: "s", held: "1", unclean: "0", sequence: "1" },
  ...{ changed: "1", position: "p" },
};

export function plainDeeds(ask: Plain["ask"]): Omit<Driver, "store" | "other"> {
  return {
    empty: async () => void (await ask("FLUSHALL")),
    spoil: async (key, as) => {
      if (as === "text") await ask("SET", keyOf(key), "somebody's");
      else await ask("HSET", keyOf(key), ...Object.entries(NEWER).flat());
    },
    raw: (key) => ask("DUMP", keyOf(key)),
    isGoneInADay: async (key) => {
      const ms = Number(await ask("PTTL", keyOf(key)));
      return ms > 0 && ms <= DAY_MS;
    },
  };
}
