/** Builds the programs of Kubernetes, and helm, that the tiers on a cluster run and that are not there yet. */
import { PODS } from "../pods/node.ts";
import { ensureBinaries, ensureHelm } from "./binaries.ts";

await ensureBinaries([...PODS, "kubectl"], console.log);
await ensureHelm(console.log);
