/**
 * containerd, runc and network plugins of Debian 12, fetched by version and checksum and unpacked into the cache
 * outside the checkout; nothing is installed.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { environment } from "../../local/config.ts";
import { fetchFile } from "../../local/fetch-file.ts";

const MIRROR = process.env["DEBIAN_MIRROR"] ?? "http://deb.debian.org/debian";
const PACKAGES = [
  {
    path: "pool/main/c/containerd/containerd_1.6.20~ds1-1+deb12u3_amd64.deb",
    sha256: "8669d264eeb0fcdb4a0b1ba436ab88ec5dafde4a66e1278ec279d830db4c2216",
  },
  {
    path: "pool/main/r/runc/runc_1.1.5+ds1-1+deb12u1_amd64.deb",
    sha256: "a00351f8c0318de0b424ecf5cd0fdb69880a89f3511cae4f6fff7de3e57881c5",
  },
  {
    path: "pool/main/g/golang-github-containernetworking-plugins/containernetworking-plugins_1.1.1+ds1-3+b5_amd64.deb",
    sha256: "4cac8143474d1249b19f7b0e80b8d0daaa6dfdaa8bd514bc468d38d4a108099f",
  },
  {
    path: "pool/main/libs/libseccomp/libseccomp2_2.5.4-1+deb12u1_amd64.deb",
    sha256: "108fe67957ca7cf9ba51d801118a1b37d404bea7b6e365025cd00779e9eca38d",
  },
];
const NEED = {
  for: "pods",
  mirror: "DEBIAN_MIRROR",
  instead: "pin newer packages in test/pods/debian-packages.ts if Debian has replaced this one",
};

/** @returns the folder that has them as a root folder would. @throws with the next step. */
export async function ensureDebianPackages(onProgress: (line: string) => void): Promise<string> {
  const sums = PACKAGES.map(({ sha256 }) => sha256).join();
  const hash = createHash("sha256").update(sums).digest("hex").slice(0, 12);
  const folder = join(environment.cache, `pods-debian-12-${hash}`);
  if (existsSync(folder)) return folder;
  onProgress("Fetching containerd, runc and network plugins (Debian 12, 35 MB)");
  mkdirSync(environment.cache, { recursive: true });
  const scratch = mkdtempSync(`${folder}.`);
  try {
    const root = join(scratch, "root");
    for (const file of PACKAGES) {
      const archive = join(scratch, "package.deb");
      await fetchFile(MIRROR, file, archive, NEED);
      execFileSync("dpkg-deb", ["--extract", archive, root], { stdio: "pipe" });
    }
    if (!existsSync(folder)) renameSync(root, folder);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return folder;
}
