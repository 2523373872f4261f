/**
 * AdmissionReview v1, in and out (pure): what the API server asks, and the answer.
 * https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request
 */
import type { V1Pod } from "@kubernetes/client-node";
import type { Injection } from "./injection.ts";

const VERSION = { apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview" };

export interface PodRequest {
  readonly uid: string;
  readonly namespace: string;
  /** For people: its name is not known yet where it is generated. */
  readonly name: string;
  /** Undefined: it is not about a pod that is made. */
  readonly pod: V1Pod | undefined;
}

/** @returns a sentence: it is no AdmissionReview. */
export function podRequestOf(body: string): PodRequest | string {
  const review = parsed(body);
  if (review === undefined) return "The body is not JSON.";
  const { apiVersion, kind, request } = review;
  if (apiVersion !== VERSION.apiVersion || kind !== VERSION.kind)
    return `The body is not an ${VERSION.kind} of ${VERSION.apiVersion}.`;
  const { uid, namespace, operation, object, resource, subResource, name } = request ?? {};
  if (typeof uid !== "string") return "request.uid is missing.";
  const isPod =
    resource?.group === "" && resource.resource === "pods" && !subResource && isObject(object);
  const pod = isPod && operation === "CREATE" ? (object as V1Pod) : undefined;
  return {
    ...{ uid, namespace: namespace ?? "" },
    name: name || pod?.metadata?.name || `${pod?.metadata?.generateName ?? ""}*`,
    pod,
  };
}

export function answerTo({ uid }: PodRequest, injection: Injection): string {
  switch (injection.kind) {
    case "untouched":
      return answer({ uid, allowed: true });
    case "injected": {
      const patch = Buffer.from(JSON.stringify(injection.patch)).toString("base64");
      return answer({ uid, allowed: true, patchType: "JSONPatch", patch });
    }
    case "refused": {
      const message = injection.reasons.join(" ");
      return answer({ uid, allowed: false, status: { code: 422, reason: "Invalid", message } });
    }
  }
}

function answer(response: object): string {
  return JSON.stringify({ ...VERSION, response });
}

interface Review {
  readonly apiVersion?: unknown;
  readonly kind?: unknown;
  readonly request?: {
    readonly uid?: unknown;
    readonly namespace?: string;
    readonly name?: string;
    readonly operation?: string;
    readonly object?: unknown;
    readonly resource?: { readonly group?: string; readonly resource?: string };
    readonly subResource?: string;
  };
}

function parsed(body: string): Review | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
