/** Where the injector's certificate is kept and where it is trusted: the port, and its Kubernetes side. */
import {
  AdmissionregistrationV1Api,
  CoreV1Api,
  type KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  type V1Secret,
} from "@kubernetes/client-node";
import { type ApiFailure, failureOf, statusOf } from "../kube/api-error.ts";
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

const JSON_PATCH = setHeaderOptions("Content-Type", PatchStrategy.JsonPatch);
const NONE: Certificate = { ca: "", cert: "", key: "" };

export class KubeCertificateStore implements CertificateStore {
  readonly #core: CoreV1Api;
  readonly #registrations: AdmissionregistrationV1Api;
  readonly #secret: { readonly namespace: string; readonly name: string };
  readonly #webhookConfiguration: string;

  constructor(
    kube: KubeConfig,
    secret: { readonly namespace: string; readonly name: string },
    webhookConfiguration: string,
  ) {
    this.#core = kube.makeApiClient(CoreV1Api);
    this.#registrations = kube.makeApiClient(AdmissionregistrationV1Api);
    this.#secret = secret;
    this.#webhookConfiguration = webhookConfiguration;
  }

  async readCertificate() {
    try {
      const secret = await this.#core.readNamespacedSecret(this.#secret);
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
    const { namespace } = this.#secret;
    const stringData = { "ca.crt": ca, "tls.crt": cert, "tls.key": key };
    if (over !== undefined) {
      const body = { ...(over as V1Secret), data: {}, stringData };
      return written(() => this.#core.replaceNamespacedSecret({ ...this.#secret, body }));
    }
    const body = { metadata: this.#secret, stringData };
    const made = (): Promise<unknown> => this.#core.createNamespacedSecret({ namespace, body });
    const outcome = await written(made, [409]);
    if (outcome.kind !== "failed") return outcome;
    const { reason } = outcome;
    return {
      kind: "failed",
      reason: `it is gone and cannot be made (${reason}): make it again, empty, and it is filled`,
    };
  }

  async readBundles() {
    const name = this.#webhookConfiguration;
    try {
      const { webhooks = [], metadata } =
        await this.#registrations.readMutatingWebhookConfiguration({ name });
      return {
        kind: "read" as const,
        bundles: webhooks.map(({ clientConfig }) =>
          Buffer.from(clientConfig.caBundle ?? "", "base64").toString(),
        ),
        version: metadata?.resourceVersion as Version,
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
    const name = this.#webhookConfiguration;
    return written(() =>
      this.#registrations.patchMutatingWebhookConfiguration({ name, body }, JSON_PATCH),
    );
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
