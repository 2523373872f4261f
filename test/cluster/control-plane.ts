/**
 * A real kube-apiserver and etcd, on loopback or on a node of real pods, and with it, where asked for, the
 * controllers and the scheduler. Its processes end with ours, also when ours is killed.
 */
import type { ChildProcess } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KubeConfig } from "@kubernetes/client-node";
import { freePorts } from "../../local/free-ports.ts";
import { kubeConfigOf } from "../../operator/kube/kube-config.ts";
import { until } from "../story/waits.ts";
import { CONTROL, ensureBinaries } from "./binaries.ts";
import { ended, Processes } from "./processes.ts";

/** What it runs with controllers. */
export const CONTROLLERS = [...CONTROL, "kube-controller-manager", "kube-scheduler"] as const;
const SERVICES = "10.0.0.0/24";
/** The first of the Services' addresses is the API server's, for pods. */
export const KUBERNETES_SERVICE = "10.0.0.1";

export interface ControlPlaneOptions {
  /** Deployments have pods and namespaces have accounts; else nothing follows from an object. */
  readonly controllers?: boolean;
  /**
   * Address of the node that this machine is: pods reach the API server at the Service `kubernetes`, whose
   * address must be this machine's too, and it reaches the node's kubelet and the pods.
   */
  readonly node?: string;
}

export interface ControlPlane {
  /** As a member of system:masters. */
  readonly kubeconfig: string;
  readonly kube: KubeConfig;
  /**
   * Makes what the body says, as it is: the client's typed calls drop fields that their types do not have
   * (x-kubernetes-validations). @throws with the server's words.
   */
  make(path: string, body: object): Promise<void>;
  /** SIGKILL, then the API server again on the same port with the same data. */
  restartApiServer(): Promise<void>;
  stop(): Promise<void>;
}

export async function startControlPlane(
  onProgress: (line: string) => void,
  { controllers = false, node }: ControlPlaneOptions = {},
): Promise<ControlPlane> {
  const binaries = await ensureBinaries(controllers ? CONTROLLERS : CONTROL, onProgress);
  const folder = mkdtempSync(join(tmpdir(), "throughline-cluster-"));
  const [etcdPort, peerPort, freePort, controllersPort, schedulerPort] = await freePorts(5);
  const [host, port] = node ? [KUBERNETES_SERVICE, 443] : ["127.0.0.1", freePort];
  const token = randomBytes(16).toString("hex");
  const tokens = file("tokens.csv", `${token},admin,admin,"system:masters"\n`);
  const keys = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs1", format: "pem" },
  });
  const [privateKey, publicKey] = [file("sa.key", keys.privateKey), file("sa.pub", keys.publicKey)];
  const processes = new Processes();
  /** The API server makes its own. */
  const certificate = join(folder, "certs/apiserver.crt");
  const etcd = `http://127.0.0.1:${etcdPort}`;
  try {
    await start(
      "etcd",
      [
        ...[`--data-dir=${join(folder, "etcd")}`, `--listen-client-urls=${etcd}`],
        ...[`--advertise-client-urls=${etcd}`, `--listen-peer-urls=http://127.0.0.1:${peerPort}`],
        "--unsafe-no-fsync",
      ],
      "ready to serve client requests",
    );
    let apiServer = await startApiServer();
    const kubeconfig = JSON.stringify({
      ...{ apiVersion: "v1", kind: "Config", "current-context": "test" },
      clusters: [
        {
          name: "test",
          cluster: {
            server: `https://${host}:${port}`,
            "certificate-authority-data": readFileSync(certificate).toString("base64"),
          },
        },
      ],
      users: [{ name: "admin", user: { token } }],
      contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
    });
    if (controllers) await startControllers(file("kubeconfig", kubeconfig));
    return {
      ...{ kubeconfig, kube: kubeConfigOf(kubeconfig), stop },
      make: async (path, body) => {
        const { status, text } = await request("POST", path, body);
        if (status !== 201) throw new Error(text);
      },
      restartApiServer: async () => {
        await ended(apiServer, "SIGKILL");
        apiServer = await startApiServer();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }

  async function startApiServer(): Promise<ChildProcess> {
    const child = await start(
      "kube-apiserver",
      [
        ...[`--etcd-servers=${etcd}`, `--cert-dir=${join(folder, "certs")}`],
        ...(node ? onNode(node) : ON_LOOPBACK),
        ...[`--secure-port=${port}`, "--authorization-mode=RBAC"],
        ...[`--token-auth-file=${tokens}`, `--service-cluster-ip-range=${SERVICES}`],
        "--service-account-issuer=https://kubernetes.default.svc",
        `--service-account-key-file=${publicKey}`,
        `--service-account-signing-key-file=${privateKey}`,
        // Without controllers nobody makes the "default" account of a namespace.
        ...(controllers ? [] : ["--disable-admission-plugins=ServiceAccount"]),
      ],
      "Serving securely",
    );
    // It answers from here on; what it does at its start is not over yet.
    await until(async () => (await request("GET", "/readyz")).status === 200);
    return child;
  }

  async function startControllers(kubeconfig: string): Promise<void> {
    const flags = [
      ...[`--kubeconfig=${kubeconfig}`, "--leader-elect=false", "--bind-address=127.0.0.1"],
      `--cert-dir=${join(folder, "certs")}`,
    ];
    const word = "Serving securely";
    const signs = `--service-account-private-key-file=${privateKey}`;
    const trusts = `--root-ca-file=${certificate}`;
    // By default it makes a folder in /usr.
    const plugins = `--flex-volume-plugin-dir=${join(folder, "plugins")}`;
    await Promise.all([
      start(
        "kube-controller-manager",
        [...flags, `--secure-port=${controllersPort}`, signs, trusts, plugins],
        word,
      ),
      start("kube-scheduler", [...flags, `--secure-port=${schedulerPort}`], word),
    ]);
    const account = "/api/v1/namespaces/default/serviceaccounts/default";
    await until(async () => (await request("GET", account)).status === 200);
  }

  function request(
    method: string,
    path: string,
    body?: object,
  ): Promise<{ readonly status: number; readonly text: string }> {
    return new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
      const asked = httpsRequest(
        { host, port, path, method, headers, ca: readFileSync(certificate) },
        (response) => {
          let text = "";
          response.on("data", (bytes: Buffer) => {
            text += bytes;
          });
          response.once("end", () => resolve({ status: response.statusCode ?? 0, text }));
        },
      );
      asked.once("error", reject);
      asked.end(body && JSON.stringify(body));
    });
  }

  function start(name: string, flags: readonly string[], word: string): Promise<ChildProcess> {
    return processes.start(join(binaries, name), flags, word);
  }

  async function stop(): Promise<void> {
    await processes.stop();
    rmSync(folder, { recursive: true, force: true });
  }

  function file(name: string, text: string): string {
    const path = join(folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  }
}

const ON_LOOPBACK = [
  ...["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"],
  "--endpoint-reconciler-type=none",
];

function onNode(address: string): readonly string[] {
  return [
    ...["--bind-address=0.0.0.0", `--advertise-address=${address}`],
    "--kubelet-preferred-address-types=InternalIP",
    // Nobody forwards the addresses of Services here: their pods are asked themselves.
    "--enable-aggregator-routing=true",
  ];
}
