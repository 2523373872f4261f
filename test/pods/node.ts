/** The node of the pods: containerd with the images, and a kubelet that is a node of the control plane's. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CoreV1Api } from "@kubernetes/client-node";
import { ensureBinaries } from "../cluster/binaries.ts";
import { CONTROLLERS, type ControlPlane } from "../cluster/control-plane.ts";
import { Processes } from "../cluster/processes.ts";
import { until } from "../story/waits.ts";
import { makeCgroups } from "./cgroups.ts";
import { ensureDebianPackages } from "./debian-packages.ts";
import { PAUSE } from "./images.ts";
import { NODE_ADDRESS, SCRATCH } from "./machine.ts";

/** Programs of Kubernetes, with those of the control plane. */
export const PODS = [...CONTROLLERS, "kubelet"] as const;
const NODE = "node-1";
const FOLDER = join(SCRATCH, "node");
const SOCKET = join(FOLDER, "containerd.sock");

interface NodeOptions {
  /** A tar of them. */
  readonly images: string;
  /** Name of the group that holds those of the pods. */
  readonly cgroup: string;
  /** Takes what the programs and the containers say. */
  readonly logs: string;
  readonly onProgress: (line: string) => void;
}

/** Resolves when it is Ready; @returns what stops it. */
export async function startNode(
  plane: ControlPlane,
  { images, cgroup, logs, onProgress }: NodeOptions,
): Promise<() => Promise<void>> {
  const packages = await ensureDebianPackages(onProgress);
  const binaries = await ensureBinaries(PODS, onProgress);
  const processes = new Processes(logs);
  mkdirSync(join(FOLDER, "cni"), { recursive: true });
  makeCgroups(cgroup);
  writeFileSync(join(FOLDER, "cni/bridge.conflist"), JSON.stringify(NETWORK));
  const found = {
    PATH: `${join(packages, "usr/bin")}:${join(packages, "usr/sbin")}:${process.env["PATH"]}`,
    LD_LIBRARY_PATH: join(packages, "usr/lib/x86_64-linux-gnu"),
  };
  try {
    onProgress("Starting containerd");
    const settings = file("containerd.toml", containerdSettings(join(packages, "usr/lib/cni")));
    const containerd = join(packages, "usr/bin/containerd");
    await processes.start(containerd, ["--config", settings], "successfully booted", found);
    const args = ["--address", SOCKET, "--namespace", "k8s.io", "images", "import", images];
    execFileSync(join(packages, "usr/bin/ctr"), args, { stdio: "pipe" });
    onProgress("Starting the kubelet");
    const config = file("kubelet.yaml", JSON.stringify(kubeletSettings(cgroup, logs)));
    await processes.start(
      join(binaries, "kubelet"),
      [
        ...[`--config=${config}`, `--kubeconfig=${file("kubeconfig", plane.kubeconfig)}`],
        ...[`--root-dir=${join(FOLDER, "kubelet")}`, `--cert-dir=${join(FOLDER, "pki")}`],
        ...[`--hostname-override=${NODE}`, `--node-ip=${NODE_ADDRESS}`],
      ],
      "Started kubelet",
      found,
    );
    const core = plane.kube.makeApiClient(CoreV1Api);
    await until(async () => {
      const node = await core.readNode({ name: NODE }).catch(() => undefined);
      return node?.status?.conditions?.some(isReady) ?? false;
    });
  } catch (error) {
    await processes.stop();
    throw error;
  }
  return () => processes.stop();
}

function isReady({ type, status }: { readonly type: string; readonly status: string }): boolean {
  return type === "Ready" && status === "True";
}

function file(name: string, text: string): string {
  const path = join(FOLDER, name);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

/** A bridge on which pods reach each other and the node. */
const NETWORK = {
  ...{ cniVersion: "0.4.0", name: "pods" },
  plugins: [
    {
      ...{ type: "bridge", bridge: "pods", isGateway: true, hairpinMode: true },
      ipam: {
        ...{ type: "host-local", dataDir: join(FOLDER, "addresses") },
        ranges: [[{ subnet: "10.244.0.0/24" }]],
        routes: [{ dst: "0.0.0.0/0" }],
      },
    },
  ],
};

function containerdSettings(plugins: string): string {
  return `version = 2
root = "${FOLDER}/containerd"
state = "${FOLDER}/containerd-state"
[grpc]
address = "${SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
path = "${FOLDER}/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${PAUSE}"
disable_apparmor = true
# Who has not the right to lower a process's score may leave it as it is.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "${plugins}"
conf_dir = "${FOLDER}/cni"
`;
}

function kubeletSettings(cgroup: string, logs: string): object {
  return {
    ...{ apiVersion: "kubelet.config.k8s.io/v1beta1", kind: "KubeletConfiguration" },
    // Open, for logs and exec through the API server: nobody but this machine reaches it.
    ...{ address: NODE_ADDRESS, authorization: { mode: "AlwaysAllow" } },
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    ...{ cgroupDriver: "cgroupfs", cgroupRoot: `/${cgroup}`, enforceNodeAllocatable: [] },
    ...{ containerRuntimeEndpoint: `unix://${SOCKET}`, podLogsDir: join(logs, "containers") },
    ...{ failSwapOn: false, resolvConf: "", imageGCHighThresholdPercent: 100 },
    volumePluginDir: join(FOLDER, "volume-plugins"),
    evictionHard: { "memory.available": "50Mi" },
  };
}
