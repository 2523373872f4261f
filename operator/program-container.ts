/**
 * A container that runs a program of ours in somebody's namespace: its flags, what it reads from files as keys of
 * Secrets of that namespace, and no more rights than it needs (pod security `restricted`). Pure.
 */
import type { V1Container, V1Probe, V1Volume } from "@kubernetes/client-node";

export const SECRETS_VOLUME = "throughline-secrets";
const SECRETS_PATH = "/etc/throughline/secrets";

/** A key of a Secret in the pod's own namespace. */
export interface SecretKey {
  readonly secret: string;
  readonly key: string;
}

/** What is the same for all pods of a program. */
export interface ProgramSettings {
  readonly image: string;
  /** Flags with their values, without dashes. */
  readonly flags: Readonly<Record<string, string>>;
  /** Flags that name a file, by what is in it. */
  readonly files: Readonly<Record<string, SecretKey>>;
  /** Flags whose value is in a Secret and may be in an environment. */
  readonly values: Readonly<Record<string, SecretKey>>;
}

export function programContainer(name: string, program: ProgramSettings) {
  const { image, flags, files, values } = program;
  const paths = Object.keys(files).map((flag) => [flag, `${SECRETS_PATH}/${flag}`] as const);
  const inEnvironment = Object.entries(values);
  return {
    ...{ name, image },
    args: [...Object.entries(flags), ...paths].map(([flag, value]) =>
      literally(`--${flag}=${value}`),
    ),
    ...(inEnvironment.length > 0 && {
      env: inEnvironment.map(([flag, { secret, key }]) => ({
        name: `THROUGHLINE_${flag.replaceAll("-", "_").toUpperCase()}`,
        valueFrom: { secretKeyRef: { name: secret, key } },
      })),
    }),
    securityContext: {
      ...{ allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
      ...{ readOnlyRootFilesystem: true, runAsNonRoot: true },
      seccompProfile: { type: "RuntimeDefault" },
    },
    // What it says when it cannot start stands in the pod's status.
    terminationMessagePolicy: "FallbackToLogsOnError",
    ...(paths.length > 0 && {
      volumeMounts: [{ name: SECRETS_VOLUME, mountPath: SECRETS_PATH, readOnly: true }],
    }),
  } satisfies V1Container;
}

/** Undefined: it needs none. */
export function secretsVolume({ files }: Pick<ProgramSettings, "files">): V1Volume | undefined {
  const sources = Object.entries(files).map(([flag, { secret, key }]) => ({
    secret: { name: secret, items: [{ key, path: flag }] },
  }));
  return sources.length > 0 ? { name: SECRETS_VOLUME, projected: { sources } } : undefined;
}

/** Of the page for probes and metrics. */
export function probe(
  path: "/readyz" | "/livez",
  port: string,
  pace: { readonly periodSeconds: number; readonly failureThreshold: number },
): V1Probe {
  return { httpGet: { path, port }, timeoutSeconds: 5, ...pace };
}

/** `$(NAME)` in arguments is a variable to Kubernetes. */
function literally(argument: string): string {
  return argument.replaceAll("$", "$$$$");
}
