/** A Redis Cluster of three primaries on loopback, for tests. */
import { createServer } from "node:net";
import { join } from "node:path";
import { type EmbeddedStore, startStore } from "../../local/embedded-store.ts";
import { openPlain, type Plain } from "./real-store.ts";

const NODES = 3;
const SLOTS = 16_384;

export interface StoreCluster {
  readonly nodes: readonly EmbeddedStore[];
  /** To each node, in their order. */
  readonly plain: readonly Plain[];
  /** Asks the node that answers for the key. */
  ask(...command: (string | Buffer)[]): Promise<unknown>;
  stop(): Promise<void>;
}

export async function startCluster(directory: string): Promise<StoreCluster> {
  const nodes: EmbeddedStore[] = [];
  for (let node = 0; node < NODES; node++) {
    nodes.push(
      await startStore({
        directory: join(directory, `node-${node}`),
        port: await portPair(),
        settings: {
          "cluster-enabled": "yes",
          // A node that is frozen or killed is missed by nobody but its own sessions.
          "cluster-node-timeout": "60000",
          "cluster-require-full-coverage": "no",
        },
      }),
    );
  }
  const plain = await Promise.all(nodes.map(({ port }) => openPlain(port)));
  const share = Math.ceil(SLOTS / NODES);
  for (const [i, { ask }] of plain.entries()) {
    await ask("CLUSTER", "SET-CONFIG-EPOCH", String(i + 1));
    const slots = Array.from({ length: share }, (_none, n) => i * share + n);
    await ask("CLUSTER", "ADDSLOTS", ...slots.filter((slot) => slot < SLOTS).map(String));
    await ask("CLUSTER", "MEET", "127.0.0.1", String(nodes[0]?.port));
  }
  for (const { ask } of plain) {
    for (let known = 0; known < NODES; )
      known = ((await ask("CLUSTER", "SLOTS")) as unknown[]).length;
    while (!String(await ask("CLUSTER", "INFO")).includes("cluster_state:ok"));
  }
  return {
    nodes,
    plain,
    ask: async (...command) => {
      for (const { ask } of plain) {
        const answer = await ask(...command).catch((error: Error) => error);
        if (!(answer instanceof Error)) return answer;
        if (!answer.message.startsWith("MOVED")) throw answer;
      }
      throw new Error("no node has the key");
    },
    stop: async () => {
      for (const one of plain) one.close();
      await Promise.all(nodes.map((node) => node.kill()));
    },
  };
}

/** The nodes talk to each other 10 000 ports above; below what systems give to outgoing connections. */
async function portPair(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 9000);
    if ((await isFree(port)) && (await isFree(port + 10_000))) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
