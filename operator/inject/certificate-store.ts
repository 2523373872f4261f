/** Where the injector's certificate is kept and where it is trusted: the port, and its Kubernetes side. */
import type { KubeConfig } from "@kubernetes/client-node";
import { type ApiFailure, failureOf, statusOf } from "../kube/api-error.ts";
import { KubeClient } from "../kube/kube-client.ts";
import type { Certificate } from "./certificate.ts";

/** What a write must replace, as a read gave it: nothing (undefined), or exactly this. */
export type Version = unknown;
export type WriteOutcome =
  | { readonly kind: "written" }
  /** Someone else wrote meanwhile. */
  | { readonly kind: "conflict" }
  | ApiFailure;

export interface CertificateStore {
  /** Fields that it does not have are empty; without a version there is none. */
  readCertificate(): Promise<
    | { readonly kind: "read"; readonly certificate: Certificate; readonly version: Version }
    | ApiFailure
  >;
  writeCertificate(certificate: Certificate, over: Version): Promise<WriteOutcome>;
  /** The bundles of all webhooks of the configuration, in their order. */
  readBundles(): Promise<
    | { readonly kind: "read"; readonly bundles: readonly string[]; readonly version: Version }
    | ApiFailure
  >;
  writeBundles(bundles: readonly string[], over: Version): Promise<WriteOutcome>;
}

const REQUEST_MS = 30_000;
const NONE: Certificate = { ca: "", cert: "", key: "" };

interface Secret {
  readonly data?: Readonly<Record<string, string>>;
}

interface WebhookConfiguration {
  readonly metadata: { readonly resourceVersion: string };
  readonly webhooks?: readonly { readonly clientConfig: { readonly caBundle?: string } }[];
}

export class KubeCertificateStore implements CertificateStore {
  readonly #client: KubeClient;
  readonly #secret: { readonly namespace: string; readonly name: string };
  readonly #secrets: string;
  readonly #webhookConfiguration: string;

  constructor(
    kube: KubeConfig,
    secret: { readonly namespace: string; readonly name: string },
    webhookConfiguration: string,
  ) {
    this.#client = new KubeClient(kube, REQUEST_MS);
    this.#secret = secret;
    this.#secrets = `/api/v1/namespaces/${secret.namespace}/secrets`;
    this.#webhookConfiguration = `/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/${webhookConfiguration}`;
  }

  async readCertificate() {
    try {
      const secret = await this.#client.get<Secret>(`${this.#secrets}/${this.#secret.name}`);
      const text = (key: string): string =>
        Buffer.from(secret.data?.[key] ?? "", "base64").toString();
      return {
        kind: "read" as const,
        certificate: { ca: text("ca.crt"), cert: text("tls.crt"), key: text("tls.key") },
        version: secret as Version,
      };
    } catch (error) {
      if (statusOf(error) !== 404) return failureOf(error);
      return { kind: "read" as const, certificate: NONE, version: undefined };
    }
  }

  /** Labels and the like of a Secret that somebody else made stay. */
  async writeCertificate({ ca, cert, key }: Certificate, over: Version): Promise<WriteOutcome> {
    const stringData = { "ca.crt": ca, "tls.crt": cert, "tls.key": key };
    if (over !== undefined) {
      const body = { ...(over as Secret), data: {}, stringData };
      const path = `${this.#secrets}/${this.#secret.name}`;
      return written(() => this.#client.send("PUT", path, body));
    }
    const body = { metadata: this.#secret, stringData };
    const made = (): Promise<unknown> => this.#client.send("POST", this.#secrets, body);
    const outcome = await written(made, [409]);
    if (outcome.kind !== "failed") return outcome;
    const { reason } = outcome;
    return {
      kind: "failed",
      reason: `it is gone and cannot be made (${reason}): make it again, empty, and it is filled`,
    };
  }

  async readBundles() {
    try {
      const { webhooks = [], metadata } = await this.#client.get<WebhookConfiguration>(
        this.#webhookConfiguration,
      );
      return {
        kind: "read" as const,
        bundles: webhooks.map(({ clientConfig }) =>
          Buffer.from(clientConfig.caBundle ?? "", "base64").toString(),
        ),
        version: metadata.resourceVersion as Version,
      };
    } catch (error) {
      return failureOf(error);
    }
  }

  writeBundles(bundles: readonly string[], over: Version): Promise<WriteOutcome> {
    const body = [
      // Refused as a conflict when it is another by now.
      { op: "replace", path: "/metadata/resourceVersion", value: over },
      ...bundles.map((bundle, i) => ({
        ...{ op: "add", path: `/webhooks/${i}/clientConfig/caBundle` },
        value: Buffer.from(bundle).toString("base64"),
      })),
    ];
    return written(() => this.#client.send("PATCH", this.#webhookConfiguration, body));
  }
}

/** Not found is a conflict of its own: it was there when it was read. */
async function written(
  write: () => Promise<unknown>,
  conflicts = [404, 409],
): Promise<WriteOutcome> {
  try {
    await write();
    return { kind: "written" };
  } catch (error) {
    return conflicts.includes(statusOf(error) ?? 0) ? { kind: "conflict" } : failureOf(error);
  }
}
