/** What this machine must have for pods, which cannot be fetched. */
import { spawnSync } from "node:child_process";

const PROGRAMS = ["unshare", "ip", "mount", "sh", "sleep", "ldd", "tar", "dpkg-deb"];
/** What the bed does for itself, tried where it leaves nothing. */
const TRIED = `set -e
ip link add one type veth peer name other
ip link add between type bridge
mount -t tmpfs tmpfs /run
mkdir /run/upper /run/work
mount -t overlay overlay -o lowerdir=/var,upperdir=/run/upper,workdir=/run/work /var`;

/** @returns what is missing, with the next step; undefined when all is there. */
export function missingHere(): string | undefined {
  const kind = `${process.platform}-${process.arch}`;
  if (kind !== "linux-x64")
    return `It needs Linux on x64, where Debian's containerd and runc run; this is ${kind}.`;
  if (process.getuid?.() !== 0) return "It needs root: run it as root.";
  const absent = PROGRAMS.filter((name) => !runs("which", name));
  if (absent.length > 0)
    return `It needs ${absent.join(", ")}: install util-linux, iproute2, coreutils, tar, libc-bin and dpkg.`;
  const { status, stderr } = spawnSync("unshare", ["--mount", "--net", "sh", "-c", TRIED], {
    encoding: "utf8",
  });
  if (status !== 0)
    return `It needs namespaces, veth, bridge, tmpfs and overlayfs of the kernel: ${stderr.trim()}.`;
  return undefined;
}

function runs(...[command, ...args]: readonly [string, ...string[]]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}
