/** A server in which one mechanism is broken: the first argument names it, the others are the server's. */
import { VARIANTS } from "./variants.ts";

const [name = ""] = process.argv.splice(2, 1);
const breakIt = VARIANTS[name];
if (!breakIt) throw new Error(`there is no variant ${name}`);
breakIt();
await import("../../../sidecar/main.ts");
