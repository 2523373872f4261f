/**
 * The programs of a Kubernetes control plane: of KUBEBUILDER_ASSETS when it has them all, else built once
 * from Go modules (test/cluster/kube/go.mod pins them) into a cache outside the checkout.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { environment } from "../../local/config.ts";

const MODULES = join(import.meta.dirname, "kube");
export const CONTROL = ["etcd", "kube-apiserver"] as const;
/** Packages that carry the version that the programs tell. */
const VERSIONED = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];

/** @returns the folder that has them. @throws with the next step. */
export async function ensureBinaries(
  programs: readonly string[],
  onProgress: (line: string) => void,
  assets = process.env["KUBEBUILDER_ASSETS"],
): Promise<string> {
  const has = (folder: string): boolean => programs.every((name) => existsSync(join(folder, name)));
  if (assets && has(assets)) return assets;
  const pins = ["go.mod", "go.sum"].map((name) => readFileSync(join(MODULES, name), "utf8"));
  const version = /^(?:require )?\s*k8s\.io\/kubernetes (v[0-9.]+)/m.exec(pins[0] as string)?.[1];
  if (!version) throw new Error(`${MODULES}/go.mod names no version of k8s.io/kubernetes`);
  const hash = createHash("sha256").update(pins.join("")).digest("hex").slice(0, 12);
  const folder = join(environment.cache, `kube-${version}-${hash}`);
  mkdirSync(folder, { recursive: true });
  for (const name of programs) {
    const program = join(folder, name);
    if (existsSync(program)) continue;
    onProgress(`Building ${name} ${version} from source; once, it takes minutes`);
    await build(name, version, `${program}.${process.pid}`, onProgress);
    renameSync(`${program}.${process.pid}`, program);
  }
  return folder;
}

function build(
  name: string,
  version: string,
  to: string,
  onProgress: (line: string) => void,
): Promise<void> {
  const minor = version.split(".")[1];
  const told = VERSIONED.flatMap((path) => [
    ...[`-X ${path}.gitVersion=${version}`, `-X ${path}.gitMajor=1`],
    ...[`-X ${path}.gitMinor=${minor}`, `-X ${path}.gitTreeState=clean`],
  ]);
  const from = name === "etcd" ? "go.etcd.io/etcd/server/v3" : `k8s.io/kubernetes/cmd/${name}`;
  const flags = ["-mod=readonly", "-trimpath", "-ldflags", ["-s", "-w", ...told].join(" ")];
  const begunMs = performance.now();
  return new Promise((resolve, reject) => {
    const go = spawn("go", ["build", ...flags, "-o", to, from], {
      ...{ cwd: MODULES, env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-buildvcs=false" } },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    go.stderr.on("data", (bytes: Buffer) => {
      said = `${said}${bytes}`.slice(-4000);
    });
    const tell = (): void => {
      onProgress(`  still building ${name}, ${Math.round((performance.now() - begunMs) / 1000)} s`);
    };
    const progress = setInterval(tell, 30_000);
    go.once("error", (error) => {
      clearInterval(progress);
      reject(
        new Error(
          `Go cannot be run (${error.message}): install Go 1.25 or later, or name a folder with ${CONTROL.join(", ")} in KUBEBUILDER_ASSETS.`,
        ),
      );
    });
    go.once("exit", (code) => {
      clearInterval(progress);
      if (code === 0) resolve();
      else reject(new Error(`${name} cannot be built:\n${said}`));
    });
  });
}
