/**
 * What may differ from pod to pod: one table gives the injector's flags (`--sidecar-<name>`, the presets), the
 * annotations of a pod (`throughline.dev/<name>`), and the check of both (pure).
 */
import { bytesOf } from "../quantities.ts";
import { GROUP } from "../topic-schema.ts";
import {
  type BudgetName,
  BYTE_BUDGETS,
  budgetFlags,
  LEAST_MEMORY,
  roomFor,
} from "./byte-budgets.ts";

export interface PodSettings {
  /** Of the door, on loopback. */
  readonly port: number;
  /** Of the page for probes and metrics, on the pod's address. */
  readonly healthPort: number;
  readonly logLevel: string;
  readonly resources: {
    readonly requests: Readonly<Record<"cpu" | "memory", string>>;
    readonly limits: { readonly cpu?: string; readonly memory: string };
  };
  /** The server's flags for them; none: its presets. */
  readonly byteBudgets: Readonly<Record<string, string>>;
}

/** Asks for the sidecar: "true". */
export const INJECT = `${GROUP}/inject`;

export const POD_SETTINGS = {
  port: { value: "port", help: "where apps connect, on 127.0.0.1", default: "7070" },
  "health-port": {
    value: "port",
    help: "plain HTTP on the pod's address: /livez, /readyz, /metrics",
    default: "7071",
  },
  "log-level": { value: "level", help: "trace, debug, info, warn, error, silent", default: "info" },
  "cpu-request": { value: "quantity", help: "like 50m or 0.5", default: "50m" },
  "cpu-limit": { value: "quantity", help: "like 500m or 2 (default: none)" },
  "memory-request": { value: "quantity", help: "like 128Mi", default: "128Mi" },
  "memory-limit": { value: "quantity", help: "like 256Mi, which is the least", default: "256Mi" },
  "tail-bytes": {
    value: "quantity",
    help: "newest events, to resume from without Kafka (default: a share)",
  },
  "catch-up-bytes": {
    value: "quantity",
    help: "what clients that are behind read (default: a share)",
  },
  "in-flight-bytes": {
    value: "quantity",
    help: "frames that clients have not taken yet (default: a share)",
  },
  "publish-bytes": {
    value: "quantity",
    help: "events that Kafka has not acknowledged yet (default: a share)",
  },
} as const;

export type PodSettingName = keyof typeof POD_SETTINGS;
/** As they are written. */
export type WrittenSettings = Partial<Readonly<Record<PodSettingName, string>>>;

const NAMES = Object.keys(POD_SETTINGS) as PodSettingName[];
const BUDGETS = Object.keys(BYTE_BUDGETS) as BudgetName[];
const LEVELS = ["trace", "debug", "info", "warn", "error", "silent"];
/** Below 1024 a port needs rights that a sidecar does not have. */
const PORTS = { least: 1024, most: 65_535 };
/** Far above what a sidecar is for. */
const MOST_MEMORY = "32Gi";

/**
 * @param nameOf how whoever wrote a setting knows it.
 * @param errors takes what is wrong, each naming the setting and the fix.
 */
export function readPodSettings(
  written: WrittenSettings,
  nameOf: (name: PodSettingName) => string,
  errors: string[],
): PodSettings {
  const refuse = (name: PodSettingName, rule: string): void => {
    errors.push(`${nameOf(name)} is "${written[name]}"; it must be ${rule}.`);
  };
  const port = (name: PodSettingName): number => {
    const text = written[name] ?? "";
    const value = Number(text);
    if (!/^\d{1,5}$/.test(text) || value < PORTS.least || value > PORTS.most)
      refuse(name, `a port of ${PORTS.least} to ${PORTS.most}`);
    return value;
  };
  const cpu = (name: PodSettingName): string => {
    const text = written[name] ?? "";
    if (!(millisOf(text) > 0)) refuse(name, "a quantity of CPU, like 50m or 0.5");
    return text;
  };
  const memory = (name: PodSettingName): string => {
    const text = written[name] ?? "";
    if (!/^[1-9]\d{0,9}(Ki|Mi|Gi)$/.test(text)) refuse(name, "a quantity of memory, like 256Mi");
    return text;
  };
  const found = { port: port("port"), healthPort: port("health-port") };
  if (found.port === found.healthPort)
    errors.push(`${nameOf("port")} and ${nameOf("health-port")} are both ${found.port}.`);
  const logLevel = written["log-level"] ?? "";
  if (!LEVELS.includes(logLevel)) refuse("log-level", `one of ${LEVELS.join(", ")}`);
  const requests = { cpu: cpu("cpu-request"), memory: memory("memory-request") };
  const cpuLimit = written["cpu-limit"] === undefined ? undefined : cpu("cpu-limit");
  const limits = { ...(cpuLimit && { cpu: cpuLimit }), memory: memory("memory-limit") };
  const limitBytes = bytesOf(limits.memory);
  if (limitBytes < bytesOf(LEAST_MEMORY))
    refuse("memory-limit", `${LEAST_MEMORY} or more: the server's byte budgets need it`);
  if (limitBytes > bytesOf(MOST_MEMORY)) refuse("memory-limit", `${MOST_MEMORY} or less`);
  if (bytesOf(requests.memory) > bytesOf(limits.memory))
    refuse("memory-request", `at most ${nameOf("memory-limit")}, which is ${limits.memory}`);
  if (cpuLimit && millisOf(requests.cpu) > millisOf(cpuLimit))
    refuse("cpu-request", `at most ${nameOf("cpu-limit")}, which is ${cpuLimit}`);
  const named: { [name in BudgetName]?: number } = {};
  for (const name of BUDGETS) {
    if (written[name] === undefined) continue;
    const bytes = bytesOf(memory(name));
    named[name] = bytes;
    const { least } = BYTE_BUDGETS[name];
    if (bytes < least) refuse(name, `${mebibytes(least)} or more`);
  }
  const sum = Object.values(named).reduce((total, bytes) => total + bytes, 0);
  const room = roomFor(limitBytes, named);
  if (sum > room)
    errors.push(
      `${BUDGETS.filter((name) => name in named)
        .map(nameOf)
        .join(
          " and ",
        )}: ${mebibytes(sum)} in all, and ${nameOf("memory-limit")}, which is ${limits.memory}, has room for ${mebibytes(room)} of them: lower the former or raise the latter.`,
    );
  const byteBudgets = errors.length > 0 ? {} : budgetFlags(limitBytes, named);
  return { ...found, logLevel, resources: { requests, limits }, byteBudgets };
}

function mebibytes(bytes: number): string {
  return `${Math.floor(bytes / 2 ** 20)}Mi`;
}

/**
 * What a pod says in its annotations, over the presets. Undefined: it does not ask. One that has annotations of
 * ours but does not ask was meant to, and is an error; `inject: "false"` turns all of them off.
 */
export function settingsOfPod(
  annotations: Readonly<Record<string, string>>,
  presets: WrittenSettings,
  errors: string[],
): PodSettings | undefined {
  const ours = Object.entries(annotations).filter(([name]) => name.startsWith(`${GROUP}/`));
  const asks = annotations[INJECT];
  if (ours.length === 0 || asks === "false") return undefined;
  if (asks === undefined)
    errors.push(
      `${ours[0]?.[0]} does nothing without ${INJECT}: set that to "true", or remove both.`,
    );
  else if (asks !== "true") errors.push(`${INJECT} is "${asks}"; it must be "true" or "false".`);
  const written: Record<string, string> = {};
  for (const [annotation, value] of ours) {
    const name = annotation.slice(GROUP.length + 1);
    if (NAMES.includes(name as PodSettingName)) written[name] = value;
    else if (annotation !== INJECT)
      errors.push(
        `${annotation} is not an annotation of the sidecar: remove or correct it. There are ${["inject", ...NAMES].join(", ")}.`,
      );
  }
  return readPodSettings({ ...presets, ...written }, (name) => `${GROUP}/${name}`, errors);
}

/** NaN: it is no such quantity. */
function millisOf(cpu: string): number {
  const [, digits, unit] = /^(\d{1,6}(?:\.\d{1,3})?)(m?)$/.exec(cpu) ?? [];
  if (unit === "m") return digits?.includes(".") ? Number.NaN : Number(digits);
  return Number(digits) * 1000;
}
