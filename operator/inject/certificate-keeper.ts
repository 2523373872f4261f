/**
 * Keeps a certificate that the API server trusts in the injector's hands, for ever: looks at Secret and bundle,
 * makes the next certificate in time, has its authority trusted, and only then serves it.
 *
 * Invariants:
 * - K1 A certificate is served when its authority has been seen in every bundle for the settling time (API
 *   servers follow the configuration by watching it); another only where what is served has expired.
 * - K2 An authority leaves the bundle only when it has expired (certificate.ts): what any replica serves stays
 *   trusted, also while two write at once and after the Secret was deleted.
 * - K3 All replicas serve what the Secret says; who loses the race to write it takes the winner's.
 * - K4 A failure changes nothing that is served.
 */
import type { Clock } from "../../process/clock.ts";
import type { ApiFailure } from "../kube/api-error.ts";
import { backoffMs, pause } from "../pauses.ts";
import { bundleWith, type Certificate, expiryMs, isIn, unfit } from "./certificate.ts";
import type { CertificateStore, WriteOutcome } from "./certificate-store.ts";

export interface CertificateKeeperOptions {
  readonly store: CertificateStore;
  readonly make: (nowMs: number) => Promise<Certificate>;
  readonly names: readonly string[];
  readonly validityMs: number;
  readonly clock: Clock;
  /** Certificates hold by the wall clock. */
  readonly wallMs: () => number;
  /** 0 to 1. */
  readonly random: () => number;
  readonly serve: (certificate: Certificate) => void;
  readonly onNews: (message: string) => void;
  readonly onTrouble: (message: string) => void;
}

type Unwritten = Exclude<WriteOutcome, { readonly kind: "written" }>;
type Trust =
  /** Its authority is in every bundle; whether it was there before. */
  { readonly kind: "trusted"; readonly wasTrusted: boolean } | Unwritten;

const LONGEST_LOOK_MS = 5000;
const LONGEST_SETTLING_MS = 10_000;
/** Of the validity: there is time to look, to settle and to fail some times before the end. */
const PACE_SHARE = 1 / 20;
const FIRST_RETRY_MS = 100;

export class CertificateKeeper {
  readonly #options: CertificateKeeperOptions;
  readonly #closing = new AbortController();
  readonly #lookMs: number;
  readonly #settlingMs: number;
  #served: { readonly certificate: Certificate; readonly isTrusted: boolean } | undefined;
  /** Of the Secret's: since when its authority has been in every bundle. */
  #settling: { readonly ca: string; readonly sinceMs: number } | undefined;
  #failures = 0;
  #running: Promise<void> | undefined;

  constructor(options: CertificateKeeperOptions) {
    this.#options = options;
    const share = options.validityMs * PACE_SHARE;
    this.#lookMs = Math.min(LONGEST_LOOK_MS, share);
    this.#settlingMs = Math.min(LONGEST_SETTLING_MS, share);
  }

  /** Whether the API server can be expected to trust what is served. */
  get isTrusted(): boolean {
    return (this.#served?.isTrusted ?? false) && this.expiresMs > this.#options.wallMs();
  }

  /** When what is served expires; 0: nothing is. */
  get expiresMs(): number {
    return this.#served ? expiryMs(this.#served.certificate.cert) : 0;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, random, onTrouble } = this.#options;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const looked = await this.#look();
      if (looked.kind === "failed") onTrouble(looked.reason);
      if (looked.kind === "trusted") this.#failures = 0;
      const ms =
        looked.kind === "trusted"
          ? this.#lookMs
          : backoffMs(this.#failures++, FIRST_RETRY_MS, this.#lookMs, random);
      await pause(clock, ms, signal);
    }
  }

  async #look(): Promise<Trust> {
    const kept = await this.#keep();
    if (kept.kind !== "kept") {
      // What is served stays trusted all the same.
      if (this.#served) await this.#trust(this.#served.certificate);
      return kept;
    }
    const trust = await this.#trust(kept.certificate);
    if (trust.kind === "trusted") this.#settle(kept.certificate, trust.wasTrusted);
    return trust;
  }

  /** The certificate of the Secret, or another in its place. */
  async #keep(): Promise<{ kind: "kept"; certificate: Certificate } | Unwritten> {
    const { store, names, validityMs, make, wallMs, onNews } = this.#options;
    const found = await store.readCertificate();
    if (found.kind === "failed") return failed("The certificate's Secret cannot be read", found);
    const why = unfit(found.certificate, names, validityMs, wallMs());
    if (why === undefined) return { kind: "kept", certificate: found.certificate };
    const certificate = await make(wallMs());
    const outcome = await store.writeCertificate(certificate, found.version);
    if (outcome.kind === "failed")
      return failed("The certificate's Secret cannot be written", outcome);
    if (outcome.kind === "conflict") return outcome;
    onNews(
      found.certificate.cert === ""
        ? "a certificate was made: there was none"
        : `a certificate was made in place of the one in the Secret: ${why}`,
    );
    return { kind: "kept", certificate };
  }

  /** Its authority in every bundle. */
  async #trust(certificate: Certificate): Promise<Trust> {
    const { store, wallMs } = this.#options;
    const seen = await store.readBundles();
    if (seen.kind === "failed")
      return failed("The webhook configuration cannot be read, so nobody asks for pods", seen);
    const bundles = seen.bundles.map((one) => bundleWith(one, certificate.ca, wallMs()));
    if (bundles.some((one, i) => one !== seen.bundles[i])) {
      const outcome = await store.writeBundles(bundles, seen.version);
      if (outcome.kind === "failed")
        return failed("The webhook configuration's caBundle cannot be written", outcome);
      if (outcome.kind === "conflict") return outcome;
    }
    const wasTrusted = seen.bundles.every((one) => isIn(one, certificate.ca));
    return { kind: "trusted", wasTrusted };
  }

  /** K1 */
  #settle(certificate: Certificate, wasTrusted: boolean): void {
    const { clock, wallMs, serve } = this.#options;
    const { ca, cert } = certificate;
    if (!wasTrusted || this.#settling?.ca !== ca) this.#settling = { ca, sinceMs: clock.now() };
    const isTrusted = clock.now() - this.#settling.sinceMs >= this.#settlingMs;
    const isServed = this.#served?.certificate.cert === cert;
    if (isServed ? !isTrusted : !isTrusted && this.expiresMs > wallMs()) return;
    if (!isServed) serve(certificate);
    this.#served = { certificate, isTrusted };
  }
}

function failed(what: string, { reason }: ApiFailure): ApiFailure {
  return { kind: "failed", reason: `${what}: ${reason}` };
}
