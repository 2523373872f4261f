/**
/**
 * `npm run test:cluster`: operator, injector and chart against a real kube-apiserver and etcd with a real Kafka, and
 * what the controllers of Kubernetes do, on fake nodes. Builds what is missing (KUBEBUILDER_ASSETS is used when it has
 * all). Ends with one line that adds all up.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Counts, runJest } from "../jest-run.ts";
import { kafkaClasses } from "../kafka-classes.ts";
import { bundled } from "../shipped.ts";
import { ensureBinaries, ensureHelm } from "./binaries.ts";
import { CONTROLLERS } from "./control-plane.ts";

async function run(): Promise<Counts> {
  const scratch = mkdtempSync(join(tmpdir(), "throughline-test-"));
  try {
    await ensureBinaries([...CONTROLLERS, "kubectl"], console.log);
    await ensureHelm(console.log);
    const match = ["--testMatch", "**/test/cluster/*.cluster.ts", "--runInBand"];
    return runJest([...match, ...process.argv.slice(2)], {
      ...(await kafkaClasses()),
      ...bundled(scratch),
    });
  } catch (error) {
    console.error((error as Error).message);
    return { passed: 0, failed: 1 };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

const { passed, failed } = await run();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
