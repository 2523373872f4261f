/** Builds the programs of Kubernetes, and helm, that the tiers on a cluster run here and that are not there yet. */
import { missingHere } from "../pods/needs.ts";
import { PODS } from "../pods/node.ts";
import { ensureBinaries, ensureHelm } from "./binaries.ts";
import { CONTROLLERS } from "./control-plane.ts";

const ofNode = missingHere() === undefined ? PODS : CONTROLLERS;
await ensureBinaries([...ofNode, "kubectl"], console.log);
await ensureHelm(console.log);
