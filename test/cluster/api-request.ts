/** One request to an API server, with what the typed client keeps to itself: status, words, warnings. */
import { request } from "node:https";
import type { KubeConfig } from "@kubernetes/client-node";

export interface Answer {
  readonly status: number;
  /** Of the object, or the server's own sentence. */
  readonly body: { readonly message?: string; readonly [field: string]: unknown };
  /** https://kubernetes.io/blog/2020/09/03/warnings/ */
  readonly warnings: readonly string[];
}

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [field: string]: unknown;
}

export function ask(
  kube: KubeConfig,
  method: string,
  path: string,
  body?: object,
  type = "application/json",
): Promise<Answer> {
  const { server = "", caData = "" } = kube.getCurrentCluster() ?? {};
  const headers = {
    authorization: `Bearer ${kube.getCurrentUser()?.token}`,
    ...(body && { "content-type": type }),
  };
  const options = { method, headers, ca: Buffer.from(caData, "base64") };
  return new Promise((resolve, reject) => {
    const asked = request(new URL(path, server), options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (some: string) => {
        text += some;
      });
      response.once("end", () => {
        const warnings = [response.headers["warning"] ?? []].flat() as string[];
        // What is not served yet is told in plain words.
        const isJson = response.headers["content-type"]?.includes("json");
        const body = isJson ? JSON.parse(text) : { message: text };
        resolve({ status: response.statusCode ?? 0, body, warnings });
      });
    });
    asked.once("error", reject);
    asked.end(body && JSON.stringify(body));
  });
}

const PLURALS: Record<string, string> = { NetworkPolicy: "networkpolicies" };
const CLUSTER_WIDE =
  /^(ClusterRole|ClusterRoleBinding|CustomResourceDefinition|MutatingWebhookConfiguration|Namespace)$/;

/** Where an object is, by its kind's regular plural. */
function pathOf({ apiVersion, kind, metadata: { name, namespace } }: KubeObject): string {
  const api = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const within = CLUSTER_WIDE.test(kind) ? "" : `/namespaces/${namespace}`;
  return `${api}${within}/${PLURALS[kind] ?? `${kind.toLowerCase()}s`}/${name}`;
}

/** What the server would say to it; unknown fields are errors. Nothing is made. */
export function dryRun(kube: KubeConfig, object: KubeObject): Promise<Answer> {
  const query = "dryRun=All&fieldManager=test&fieldValidation=Strict&force=true";
  return ask(kube, "PATCH", `${pathOf(object)}?${query}`, object, "application/apply-patch+yaml");
}
