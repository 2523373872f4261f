/** A store that shows a certificate which is not good: unavailable, and the words say what to renew or check. */
import { createServer } from "node:tls";
import { afterEach, expect, test } from "@jest/globals";
import type { SessionStore } from "../../sidecar/sessions/session-store.ts";
import { loopbackCertificate } from "../certificate.ts";
import { claimOf, holder, newKey } from "./cases.ts";
import { openStore } from "./real-store.ts";

const DAY_MS = 24 * 60 * 60 * 1000;

let end: (() => Promise<unknown>) | undefined;
afterEach(() => end?.());

async function storeShowing(made: { cert: string; key: string }): Promise<SessionStore> {
  const server = createServer(made, (socket) => socket.on("error", () => {}));
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const store = openStore(port, { tls: { ca: Buffer.from(made.cert) } });
  end = async () => {
    await store.close();
    server.close();
  };
  return store;
}

test.each([
  ["expired", [-3 * DAY_MS, -DAY_MS], /certificate has expired; renew it/],
  ["not valid yet", [DAY_MS, 3 * DAY_MS], /certificate is not yet valid; .*clock/],
] as const)("a certificate that is %s", async (_what, [from, to], said) => {
  const now = Date.now();
  const store = await storeShowing(
    await loopbackCertificate(new Date(now + from), new Date(now + to)),
  );
  const outcome = await store.claim(newKey(), claimOf(holder("a")));
  expect(outcome).toMatchObject({ kind: "unavailable", reason: expect.stringMatching(said) });
});
