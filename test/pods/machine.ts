/**
 * The machine that pods run on: this one, in namespaces of its own. No network but its own; what is written to
 * /run, /var and the settings of the kernel is gone with its last process, and never was on the machine itself.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KUBERNETES_SERVICE } from "../cluster/control-plane.ts";

/** In memory. */
export const SCRATCH = "/run/throughline";
/** Of the node: pods reach what this process serves there. */
export const NODE_ADDRESS = "10.250.0.1";
/** The kubelet sets these for a whole machine: here it finds files in their places. */
const KERNEL_SETTINGS = [
  ...["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"],
  ...["kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"],
];

/** Once, in a process that has just entered its namespaces. */
export function makeMachine(): void {
  mount("-t", "tmpfs", "tmpfs", "/run");
  const [upper, work, settings] = ["upper", "work", "kernel"].map((name) => join(SCRATCH, name));
  for (const folder of [upper, work, settings]) mkdirSync(folder as string, { recursive: true });
  mount(
    ...["-t", "overlay", "overlay", "-o"],
    ...[`lowerdir=/var,upperdir=${upper},workdir=${work}`, "/var"],
  );
  for (const setting of KERNEL_SETTINGS) {
    const real = join("/proc/sys", setting);
    const file = join(settings as string, setting.replaceAll("/", "."));
    writeFileSync(file, readFileSync(real));
    mount("--bind", file, real);
  }
  // A kubelet's volumes are seen by containers that run already.
  mount("--make-rshared", "/");
  ip("link", "set", "lo", "up");
  ip("link", "add", "node", "type", "veth", "peer", "name", "nobody");
  ip("address", "add", `${NODE_ADDRESS}/24`, "dev", "node");
  // The API server itself listens there: nothing forwards the addresses of Services.
  addAddress(KUBERNETES_SERVICE);
  for (const end of ["nobody", "node"]) ip("link", "set", end, "up");
  ip("route", "add", "default", "via", NODE_ADDRESS);
}

/** One more address of the node. */
export function addAddress(address: string): void {
  ip("address", "add", `${address}/32`, "dev", "node");
}

function mount(...args: readonly string[]): void {
  execFileSync("mount", args, { stdio: "pipe" });
}

function ip(...args: readonly string[]): void {
  execFileSync("ip", args, { stdio: "pipe" });
}
