/**
 * Ports on loopback that are free, all different. They lie below those that the system gives to connections by
 * itself: one of these may be gone again before who asked for it listens. Processes begin at places of their own.
 */
import { createServer } from "node:net";

const FIRST = 12_000;
const COUNT = 18_000;
/** A process seldom asks for more. */
const PLACE = 61;

/** The next to look at: who asks twice at once must not hear the same. */
let next = (process.pid * PLACE) % COUNT;

export async function freePorts(count: number): Promise<number[]> {
  const found: number[] = [];
  while (found.length < count) {
    const port = FIRST + next;
    next = (next + 1) % COUNT;
    if (await isFree(port)) found.push(port);
  }
  return found;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
