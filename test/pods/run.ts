/**
 * `npm run test:pods`: Throughline in real pods. A kubelet, containerd and runc run in namespaces of their own
 * (machine.ts), so that nothing of it is on this machine but processes, which end with this one, and control
 * groups, which are removed at the end and at the next start.
 *
 * Where something is missing it is skipped, and says what; in CI (`CI=true`) a skip is a failure.
 */
import { spawn } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { environment } from "../../local/config.ts";
import { ensureJava } from "../../local/java.ts";
import { ensureKafkaJars } from "../../local/kafka-jars.ts";
import { ensureStoreBinary, storeMachine } from "../../local/store-binary.ts";
import { ensureBinaries, ensureHelm } from "../cluster/binaries.ts";
import { RUN_NAME, removeCgroups, removeOrphanedCgroups } from "./cgroups.ts";
import { ensureDebianPackages } from "./debian-packages.ts";
import { missingHere } from "./needs.ts";
import { PODS } from "./node.ts";

/** What cannot be had inside, where no network is. @throws with the next step. */
async function fetchAll(): Promise<void> {
  ensureJava(console.log);
  const { cache, mavenRepository } = environment;
  await ensureKafkaJars(cache, mavenRepository, console.log);
  await ensureStoreBinary(storeMachine(cache, mavenRepository), console.log);
  await ensureDebianPackages(console.log);
  await ensureBinaries(PODS, console.log);
  await ensureHelm(console.log);
}

async function missing(): Promise<string | undefined> {
  const found = missingHere();
  if (found !== undefined) return found;
  return fetchAll().then(
    () => undefined,
    (error: Error) => error.message,
  );
}

/** @returns its exit code. */
function runInside(logs: string): Promise<number> {
  // The shell is the first process there: it takes in orphans. When this process ends, however, the pipe does,
  // and with the first process the kernel ends all of them.
  const first = '(read -r _ <&3; kill -KILL -1) & "$@" 3<&-; exit $?';
  const inside = spawn(
    "unshare",
    [
      ...["--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"],
      ...["sh", "-c", first, "sh", process.execPath, "--disable-warning=ExperimentalWarning"],
      ...[join(import.meta.dirname, "inside.ts"), logs, ...process.argv.slice(2)],
    ],
    { stdio: ["ignore", "inherit", "inherit", "pipe"] },
  );
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.once(signal, () => inside.kill("SIGKILL"));
  return new Promise((resolve, reject) => {
    inside.once("error", reject);
    inside.once("close", (code) => resolve(code ?? 1));
  });
}

const lack = await missing();
if (lack !== undefined) {
  console.log(`SKIPPED: the pods tier does not run here. ${lack}`);
  const isFailure = process.env["CI"] === "true";
  console.log(`0 passed, ${isFailure ? 1 : 0} failed`);
  process.exit(isFailure ? 1 : 0);
}
removeOrphanedCgroups();
const logs = join(tmpdir(), RUN_NAME);
mkdirSync(logs, { recursive: true });
const code = await runInside(logs);
await removeCgroups(RUN_NAME);
if (code === 0) rmSync(logs, { recursive: true, force: true });
else console.log(`What the cluster's programs and containers said is in ${logs}`);
process.exit(code);
