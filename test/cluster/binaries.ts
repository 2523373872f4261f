/**
 * The programs of a Kubernetes control plane, and helm: of KUBEBUILDER_ASSETS when it has them all, else built
 * once from Go modules into a cache outside the checkout. A go.mod pins each of the two: test/cluster/kube/,
 * test/cluster/helm/.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { environment } from "../../local/config.ts";

export const CONTROL = ["etcd", "kube-apiserver"] as const;

/** Programs of one go.mod. */
interface Source {
  /** The folder of the go.mod, beside this file. */
  readonly folder: string;
  /** The module whose version is that of the programs. */
  readonly module: string;
  readonly packageOf: (program: string) => string;
  /** Variables of Go packages that carry the version that the programs tell. */
  readonly told: (version: string, pins: string) => readonly string[];
}

const KUBE: Source = {
  folder: "kube",
  module: "k8s.io/kubernetes",
  packageOf: (program) =>
    program === "etcd" ? "go.etcd.io/etcd/server/v3" : `k8s.io/kubernetes/cmd/${program}`,
  told: (version) =>
    ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].flatMap((path) => [
      ...[`${path}.gitVersion=${version}`, `${path}.gitMajor=1`],
      ...[`${path}.gitMinor=${version.split(".")[1]}`, `${path}.gitTreeState=clean`],
    ]),
};

const HELM: Source = {
  folder: "helm",
  module: "helm.sh/helm/v3",
  packageOf: () => "helm.sh/helm/v3/cmd/helm",
  // Without these it takes Kubernetes for 1.20 when it renders without a cluster.
  told: (version, pins) => {
    const minor = versionIn(pins, "k8s.io/client-go")?.split(".")[1];
    const kubernetes = ["pkg/chartutil", "pkg/lint/rules"].flatMap((path) => [
      ...[`helm.sh/helm/v3/${path}.k8sVersionMajor=1`],
      ...[`helm.sh/helm/v3/${path}.k8sVersionMinor=${minor}`],
    ]);
    return [`helm.sh/helm/v3/internal/version.version=${version}`, ...kubernetes];
  },
};

/** @returns the folder that has them. @throws with the next step. */
export function ensureBinaries(
  programs: readonly string[],
  onProgress: (line: string) => void,
): Promise<string> {
  return ensure(KUBE, programs, onProgress);
}

/** @returns the program. @throws with the next step. */
export async function ensureHelm(onProgress: (line: string) => void): Promise<string> {
  return join(await ensure(HELM, ["helm"], onProgress), "helm");
}

async function ensure(
  source: Source,
  programs: readonly string[],
  onProgress: (line: string) => void,
): Promise<string> {
  const assets = process.env["KUBEBUILDER_ASSETS"];
  const has = (folder: string): boolean => programs.every((name) => existsSync(join(folder, name)));
  if (assets && has(assets)) return assets;
  const modules = join(import.meta.dirname, source.folder);
  const pins = ["go.mod", "go.sum"].map((name) => readFileSync(join(modules, name), "utf8"));
  const version = versionIn(pins[0] as string, source.module);
  if (!version) throw new Error(`${modules}/go.mod names no version of ${source.module}`);
  const hash = createHash("sha256").update(pins.join("")).digest("hex").slice(0, 12);
  const folder = join(environment.cache, `${source.folder}-${version}-${hash}`);
  mkdirSync(folder, { recursive: true });
  for (const name of programs) {
    const program = join(folder, name);
    if (existsSync(program)) continue;
    onProgress(`Building ${name} ${version} from source; once, it takes minutes`);
    const told = source.told(version, pins[0] as string).map((variable) => `-X ${variable}`);
    const made = `${program}.${process.pid}`;
    await build({ name, from: source.packageOf(name), to: made, modules, told }, onProgress);
    renameSync(made, program);
  }
  return folder;
}

function versionIn(pins: string, module: string): string | undefined {
  const name = module.replaceAll(".", "\\.");
  return new RegExp(`^(?:require )?\\s*${name} (v[0-9.]+)`, "m").exec(pins)?.[1];
}

interface Build {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  readonly modules: string;
  readonly told: readonly string[];
}

function build(
  { name, from, to, modules, told }: Build,
  onProgress: (line: string) => void,
): Promise<void> {
  const flags = ["-mod=readonly", "-trimpath", "-ldflags", ["-s", "-w", ...told].join(" ")];
  const begunMs = performance.now();
  return new Promise((resolve, reject) => {
    const go = spawn("go", ["build", ...flags, "-o", to, from], {
      ...{ cwd: modules, env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-buildvcs=false" } },
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
          `Go cannot be run (${error.message}): install Go 1.26 or later, or name a folder with ${name} in KUBEBUILDER_ASSETS.`,
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
