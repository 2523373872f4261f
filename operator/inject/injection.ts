/**
 * What becomes of a pod that is made: untouched, refused with reasons, or a JSON Patch that adds the sidecar
 * (pure).
 *
 * Invariants:
 * - J1 A pod without an annotation of ours is never touched and never refused.
 * - J2 Each part is added only where it is missing: the API server asks again after other webhooks
 *   (reinvocationPolicy IfNeeded), and containers that they added are told the address too.
 * - J3 Nothing of the app's is replaced; what collides is refused.
 */
import type { V1Container, V1Pod } from "@kubernetes/client-node";
import { type ProgramSettings, SECRETS_VOLUME, secretsVolume } from "../program-container.ts";
import { GROUP } from "../topic-schema.ts";
import { INJECT, type PodSettings, settingsOfPod, type WrittenSettings } from "./pod-settings.ts";
import { CONTAINER, METRICS_PORT, sidecarContainer } from "./sidecar-container.ts";

export interface InjectionSettings {
  readonly server: ProgramSettings;
  /** Where a pod says nothing else. */
  readonly presets: WrittenSettings;
}

/** https://www.rfc-editor.org/rfc/rfc6902 */
export interface PatchOperation {
  readonly op: "add";
  readonly path: string;
  readonly value: unknown;
}

export type Injection =
  | { readonly kind: "untouched" }
  | { readonly kind: "injected"; readonly patch: readonly PatchOperation[] }
  /** Each names the field and the fix. */
  | { readonly kind: "refused"; readonly reasons: readonly string[] };

/** On a pod that has the sidecar: for selectors, and to know it again. */
const INJECTED = `${GROUP}/injected`;
/** Tells an app where the door is. */
const ADDRESS = "THROUGHLINE_ADDRESS";
const PRESET_GRACE_SECONDS = 30;

/** @param namespace where it is made; the pod itself need not say it yet. */
export function inject(pod: V1Pod, namespace: string, settings: InjectionSettings): Injection {
  const reasons: string[] = [];
  const wanted = settingsOfPod(pod.metadata?.annotations ?? {}, settings.presets, reasons);
  if (wanted === undefined) return { kind: "untouched" };
  for (const check of CHECKS) reasons.push(...check(pod, wanted));
  if (reasons.length > 0) return { kind: "refused", reasons: [...new Set(reasons)] };
  const { spec } = pod;
  const container = sidecarContainer(settings.server, {
    namespace,
    graceSeconds: spec?.terminationGracePeriodSeconds ?? PRESET_GRACE_SECONDS,
    runAsUser: spec?.securityContext?.runAsUser,
    settings: wanted,
  });
  const volume = secretsVolume(settings.server);
  const hasContainer = spec?.initContainers?.some(({ name }) => name === CONTAINER) ?? false;
  const hasVolume = spec?.volumes?.some(({ name }) => name === SECRETS_VOLUME) ?? false;
  const address = { name: ADDRESS, value: `127.0.0.1:${wanted.port}` };
  const patch = [
    ...(isInjected(pod) ? [] : member("/metadata/labels", pod.metadata?.labels, INJECTED, "true")),
    // By their places before the sidecar is put first.
    ...told("/spec/initContainers", spec?.initContainers, address),
    ...told("/spec/containers", spec?.containers, address),
    ...(hasContainer ? [] : first("/spec/initContainers", spec?.initContainers, container)),
    ...(volume && !hasVolume ? first("/spec/volumes", spec?.volumes, volume) : []),
  ];
  return patch.length > 0 ? { kind: "injected", patch } : { kind: "untouched" };
}

type Check = (pod: V1Pod, settings: PodSettings) => string[];

const CHECKS: readonly Check[] = [
  /** Loopback is then the node's: every pod there could use the door, and two would fight for the port. */
  ({ spec }) =>
    spec?.hostNetwork
      ? [
          `spec.hostNetwork is true: the sidecar's door would be open to the whole node. Remove it, or use a gateway and remove the annotation ${INJECT}.`,
        ]
      : [],
  /** The drain is begun by a signal to process 1 of the sidecar's own container. */
  ({ spec }) =>
    (["hostPID", "shareProcessNamespace"] as const)
      .filter((field) => spec?.[field])
      .map(
        (field) =>
          `spec.${field} is true: process 1 is then another than the sidecar's, and its drain cannot be begun. Remove it, or use a gateway and remove the annotation ${INJECT}.`,
      ),
  ({ spec }) =>
    spec?.os?.name === "windows"
      ? [
          `spec.os.name is windows: the sidecar runs on Linux. Use a gateway and remove the annotation ${INJECT}.`,
        ]
      : [],
  (pod) =>
    containersOf(pod)
      .filter(({ at, container: { name } }) =>
        isInjected(pod)
          ? name === CONTAINER && at.startsWith("spec.containers")
          : name === CONTAINER,
      )
      .map(
        ({ at }) =>
          `${at}.name is ${CONTAINER}, as the sidecar's: rename it; or if it is a sidecar that you wrote, remove the annotation ${INJECT}.`,
      ),
  (pod) =>
    isInjected(pod)
      ? []
      : (pod.spec?.volumes ?? []).flatMap(({ name }, i) =>
          name === SECRETS_VOLUME
            ? [`spec.volumes[${i}].name is ${name}, as the sidecar's: rename it.`]
            : [],
        ),
  /** Containers of a pod share one network. */
  (pod, { port, healthPort }) =>
    containersOf(pod)
      .filter(({ container: { name } }) => name !== CONTAINER)
      .flatMap(({ at, container }) =>
        (container.ports ?? []).flatMap((one, i) => {
          const where = `${at}.ports[${i}]`;
          const isTcp = (one.protocol ?? "TCP") === "TCP";
          const taken = [
            ...(isTcp && one.containerPort === port ? ["port"] : []),
            ...(isTcp && one.containerPort === healthPort ? ["health-port"] : []),
          ].map(
            (setting) =>
              `${where}.containerPort is ${one.containerPort}, as the sidecar's: choose another for it in the annotation ${GROUP}/${setting}.`,
          );
          return one.name === METRICS_PORT
            ? [...taken, `${where}.name is ${METRICS_PORT}, as the sidecar's: rename it.`]
            : taken;
        }),
      ),
];

function isInjected(pod: V1Pod): boolean {
  return pod.metadata?.labels?.[INJECTED] === "true";
}

function containersOf({ spec }: V1Pod): { at: string; container: V1Container }[] {
  return (["initContainers", "containers"] as const).flatMap((list) =>
    (spec?.[list] ?? []).map((container, i) => ({ at: `spec.${list}[${i}]`, container })),
  );
}

/** The address first, so that other variables may name it. */
function told(
  path: string,
  containers: readonly V1Container[] | undefined,
  address: { readonly name: string; readonly value: string },
): PatchOperation[] {
  return (containers ?? []).flatMap(({ name, env }, i) =>
    name === CONTAINER || env?.some((one) => one.name === ADDRESS)
      ? []
      : first(`${path}/${i}/env`, env, address),
  );
}

function first(
  path: string,
  list: readonly unknown[] | undefined,
  value: unknown,
): PatchOperation[] {
  return list ? [{ op: "add", path: `${path}/0`, value }] : [{ op: "add", path, value: [value] }];
}

function member(
  path: string,
  of: Readonly<Record<string, string>> | undefined,
  name: string,
  value: string,
): PatchOperation[] {
  const escaped = name.replaceAll("~", "~0").replaceAll("/", "~1");
  return of
    ? [{ op: "add", path: `${path}/${escaped}`, value }]
    : [{ op: "add", path, value: { [name]: value } }];
}
