/**
 * A real kube-apiserver and etcd on loopback. Its processes end with ours, also when ours is killed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KubeConfig } from "@kubernetes/client-node";
import { freePorts } from "../../local/free-ports.ts";
import { kubeConfigOf } from "../../operator/kube/kube-config.ts";
import { CONTROL, ensureBinaries } from "./binaries.ts";

const START_MS = 60_000;

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

export async function startControlPlane(onProgress: (line: string) => void): Promise<ControlPlane> {
  const binaries = await ensureBinaries(CONTROL, onProgress);
  const folder = mkdtempSync(join(tmpdir(), "throughline-cluster-"));
  const [etcdPort, peerPort, port] = await freePorts(3);
  const token = randomBytes(16).toString("hex");
  const tokens = file("tokens.csv", `${token},admin,admin,"system:masters"\n`);
  const keys = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs1", format: "pem" },
  });
  const [privateKey, publicKey] = [file("sa.key", keys.privateKey), file("sa.pub", keys.publicKey)];
  const running = new Set<ChildProcess>();
  /** The API server makes its own. */
  const certificate = join(folder, "certs/apiserver.crt");
  const etcd = `http://127.0.0.1:${etcdPort}`;
  try {
    await started(
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
            server: `https://127.0.0.1:${port}`,
            "certificate-authority-data": readFileSync(certificate).toString("base64"),
          },
        },
      ],
      users: [{ name: "admin", user: { token } }],
      contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
    });
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
    const child = await started(
      "kube-apiserver",
      [
        ...[`--etcd-servers=${etcd}`, `--cert-dir=${join(folder, "certs")}`],
        ...["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", `--secure-port=${port}`],
        ...["--endpoint-reconciler-type=none", "--authorization-mode=RBAC"],
        ...[`--token-auth-file=${tokens}`, "--service-cluster-ip-range=10.0.0.0/24"],
        "--service-account-issuer=https://kubernetes.default.svc",
        `--service-account-key-file=${publicKey}`,
        `--service-account-signing-key-file=${privateKey}`,
        // Nobody makes the "default" account of a namespace here.
        "--disable-admission-plugins=ServiceAccount",
      ],
      "Serving securely",
    );
    // It answers from here on; what it does at its start is not over yet.
    while ((await request("GET", "/readyz")).status !== 200);
    return child;
  }

  function request(
    method: string,
    path: string,
    body?: object,
  ): Promise<{ readonly status: number; readonly text: string }> {
    return new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
      const asked = httpsRequest(
        { host: "127.0.0.1", port, path, method, headers, ca: readFileSync(certificate) },
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

  /** Resolves when it has said `word`. */
  function started(name: string, flags: readonly string[], word: string): Promise<ChildProcess> {
    const child = spawn(join(binaries, name), flags, { stdio: ["ignore", "ignore", "pipe"] });
    running.add(child);
    const end = (): void => void child.kill("SIGKILL");
    process.once("exit", end);
    return new Promise((resolve, reject) => {
      let last = "";
      AbortSignal.timeout(START_MS).addEventListener("abort", () =>
        reject(new Error(`${name} did not start within ${START_MS} ms:\n${last}`)),
      );
      child.stderr?.on("data", (bytes: Buffer) => {
        last = `${last}${bytes}`.slice(-4000);
        if (last.includes(word)) resolve(child);
      });
      child.once("error", reject);
      child.once("exit", (code) => {
        process.removeListener("exit", end);
        running.delete(child);
        reject(new Error(`${name} ended with code ${code}:\n${last}`));
      });
    });
  }

  async function stop(): Promise<void> {
    await Promise.all([...running].map((child) => ended(child, "SIGTERM")));
    rmSync(folder, { recursive: true, force: true });
  }

  function file(name: string, text: string): string {
    const path = join(folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  }
}

function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    const hard = setTimeout(() => child.kill("SIGKILL"), 5000);
    child.once("exit", () => {
      clearTimeout(hard);
      resolve();
    });
    child.kill(signal);
  });
}
