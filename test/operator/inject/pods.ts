/** Pods and settings for tests of injection, and what a patch makes of a pod. */
import type { V1Container, V1Pod } from "@kubernetes/client-node";
import {
  type InjectionSettings,
  inject,
  type PatchOperation,
} from "../../../operator/inject/injection.ts";
import { POD_SETTINGS } from "../../../operator/inject/pod-settings.ts";

export const SETTINGS: InjectionSettings = {
  server: {
    image: "throughline:1",
    flags: { kafka: "k1:9092", "deployment-id": "prod" },
    ...{ files: {}, values: {} },
  },
  presets: Object.fromEntries(
    Object.entries(POD_SETTINGS).flatMap(([name, setting]) =>
      "default" in setting ? [[name, setting.default]] : [],
    ),
  ),
};

/** One that asks. @param annotations without `throughline.dev/`. */
export function pod(
  spec: Partial<V1Pod["spec"]> = {},
  annotations: Readonly<Record<string, string>> = { inject: "true" },
): V1Pod {
  const named = Object.entries(annotations).map(([name, value]) => [
    `throughline.dev/${name}`,
    value,
  ]);
  return {
    metadata: { name: "app-1", annotations: Object.fromEntries(named) },
    spec: { containers: [{ name: "app", image: "app:1" }], ...spec },
  };
}

/** @throws when it is refused. */
export function injected(one: V1Pod, settings = SETTINGS): V1Pod {
  const injection = inject(one, "shop", settings);
  if (injection.kind === "refused") throw new Error(injection.reasons.join("\n"));
  return injection.kind === "untouched" ? one : patched(one, injection.patch);
}

export function sidecarOf(one: V1Pod): V1Container {
  const found = one.spec?.initContainers?.find(({ name }) => name === "throughline");
  if (!found) throw new Error("there is no sidecar");
  return found;
}

export function reasonsFor(one: V1Pod): readonly string[] {
  const injection = inject(one, "shop", SETTINGS);
  return injection.kind === "refused" ? injection.reasons : [];
}

/** RFC 6902, as far as `add` goes. @throws where an API server would refuse it. */
export function patched(one: V1Pod, patch: readonly PatchOperation[]): V1Pod {
  const root = structuredClone(one);
  for (const { path, value } of patch) {
    const names = path
      .split("/")
      .slice(1)
      .map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = names.pop() as string;
    const parent = names.reduce<unknown>(
      (at, name) => (at as Record<string, unknown> | undefined)?.[name],
      root,
    );
    if (typeof parent !== "object" || parent === null) throw new Error(`${path}: no parent`);
    if (!Array.isArray(parent)) (parent as Record<string, unknown>)[last] = value;
    else if (Number(last) <= parent.length) parent.splice(Number(last), 0, value);
    else throw new Error(`${path}: no such place`);
  }
  return root;
}
