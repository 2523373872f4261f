/**
/**
 * `npm run test:cluster`: operator, injector and chart against a real kube-apiserver and etcd with a real Kafka, and
 * what the controllers of Kubernetes do, on fake nodes. Builds what is missing (KUBEBUILDER_ASSETS is used when it has
 * all). Ends with one line that adds all up.
 */
import { type Counts, runJest } from "../jest-run.ts";
import { ensureBinaries, ensureHelm } from "./binaries.ts";
import { CONTROLLERS } from "./control-plane.ts";

async function run(): Promise<Counts> {
  try {
    await ensureBinaries([...CONTROLLERS, "kubectl"], console.log);
    await ensureHelm(console.log);
    const match = ["--testMatch", "**/test/cluster/*.cluster.ts", "--runInBand"];
    return runJest([...match, ...process.argv.slice(2)]);
  } catch (error) {
    console.error((error as Error).message);
    return { passed: 0, failed: 1 };
  }
}

const { passed, failed } = await run();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
