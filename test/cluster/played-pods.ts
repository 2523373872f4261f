/**
 * What the controller of Deployments and a kubelet do, where there is neither: the one container of a Deployment's
 * pods as processes, told as the pod would be (arguments, Secrets as files), ready when their page says so, and
 * counted in the Deployment's status. With `maxUnavailable: 100%` the old ones end first, else the new ones begin first.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { KubeConfig, V1Deployment, V1PodSpec, V1Secret } from "@kubernetes/client-node";
import { freePorts } from "../../local/free-ports.ts";
import { programOf } from "../shipped.ts";
import { ask } from "./api-request.ts";
import { ended } from "./processes.ts";

const PACE_MS = 100;
const MERGE = "application/merge-patch+json";

interface PlayedPod {
  readonly template: string;
  readonly child: ChildProcess;
  readonly healthPort: number;
}

export class PlayedPods {
  readonly #kube: KubeConfig;
  readonly #folder: string;
  readonly #path: string;
  /** By the Deployment's uid. */
  readonly #pods = new Map<string, PlayedPod[]>();
  readonly #pace: NodeJS.Timeout;
  #busy: Promise<void> | undefined;
  #made = 0;

  /** Begins at once. @param folder for Secrets. */
  constructor(kube: KubeConfig, folder: string, namespace: string) {
    this.#kube = kube;
    this.#folder = folder;
    this.#path = `/apis/apps/v1/namespaces/${namespace}/deployments`;
    this.#pace = setInterval(() => {
      this.#busy ??= this.#look()
        .catch(console.error)
        .finally(() => {
          this.#busy = undefined;
        });
    }, PACE_MS);
  }

  /** Processes of all pods that are there. */
  get children(): readonly ChildProcess[] {
    return [...this.#pods.values()].flat().map(({ child }) => child);
  }

  async stop(): Promise<void> {
    clearInterval(this.#pace);
    await this.#busy;
    for (const child of this.children) await ended(child, "SIGKILL");
  }

  async #look(): Promise<void> {
    const { body } = await ask(this.#kube, "GET", this.#path);
    const all = body["items"] as V1Deployment[];
    for (const deployment of all) await this.#play(deployment);
    for (const [uid, pods] of this.#pods) {
      if (all.some(({ metadata }) => metadata?.uid === uid)) continue;
      this.#pods.delete(uid);
      for (const { child } of pods) await ended(child, "SIGTERM");
    }
  }

  async #play({ metadata = {}, spec, status }: V1Deployment): Promise<void> {
    const { uid = "", name, generation } = metadata;
    const wanted = spec?.replicas ?? 0;
    const template = JSON.stringify(spec?.template);
    const there = (this.#pods.get(uid) ?? []).filter(({ child }) => isAlive(child));
    const fresh = there.filter((pod) => pod.template === template);
    let old = there.filter((pod) => pod.template !== template);
    const ready = await Promise.all(fresh.map(isReady));
    const readyReplicas = ready.filter(Boolean).length;
    const endsFirst = spec?.strategy?.rollingUpdate?.maxUnavailable === "100%";
    if (endsFirst || readyReplicas >= wanted) {
      for (const { child } of old) await ended(child, "SIGTERM");
      old = [];
    }
    for (const { child } of fresh.splice(wanted)) await ended(child, "SIGTERM");
    while (fresh.length < wanted) {
      const pod = await this.#start(template, spec?.template.spec as V1PodSpec, metadata.namespace);
      if (!pod) break;
      fresh.push(pod);
    }
    this.#pods.set(uid, [...old, ...fresh]);
    const now = {
      ...{ observedGeneration: generation, replicas: old.length + fresh.length },
      ...{ updatedReplicas: fresh.length, readyReplicas },
    };
    const isNews = Object.entries(now).some(
      ([field, value]) => (status?.[field as keyof typeof now] ?? 0) !== value,
    );
    if (isNews)
      await ask(this.#kube, "PATCH", `${this.#path}/${name}/status`, { status: now }, MERGE);
  }

  /** Undefined while a Secret is missing. */
  async #start(template: string, spec: V1PodSpec, namespace = ""): Promise<PlayedPod | undefined> {
    const [container] = spec.containers;
    const folder = join(this.#folder, `pod-${++this.#made}`);
    mkdirSync(folder, { recursive: true });
    for (const { secret } of (spec.volumes ?? []).flatMap((v) => v.projected?.sources ?? [])) {
      const path = `/api/v1/namespaces/${namespace}/secrets/${secret?.name}`;
      const { status, body } = await ask(this.#kube, "GET", path);
      if (status !== 200) return undefined;
      const { data = {} } = body as unknown as V1Secret;
      for (const { key, path: file } of secret?.items ?? [])
        writeFileSync(join(folder, file), Buffer.from(data[key] ?? "", "base64"), { mode: 0o600 });
    }
    const healthPort = (await freePorts(1))[0] as number;
    const args = (container?.args ?? []).map((arg) =>
      arg
        .replaceAll("$$", "$")
        .replace("/etc/throughline/secrets", folder)
        .replace(/^--health-listen=.*/, `--health-listen=127.0.0.1:${healthPort}`),
    );
    const child = spawn(process.execPath, [programOf("sequencer"), ...args], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    return { template, child, healthPort };
  }
}

function isAlive({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode === null && signalCode === null;
}

async function isReady({ healthPort }: PlayedPod): Promise<boolean> {
  const page = await fetch(`http://127.0.0.1:${healthPort}/readyz`).catch(() => undefined);
  return page?.ok ?? false;
}
