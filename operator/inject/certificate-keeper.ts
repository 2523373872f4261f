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
      if (looked.kind === "written") this.#failures = 0;
      const ms =
        looked.kind === "written"
          ? this.#lookMs
          : backoffMs(this.#failures++, FIRST_RETRY_MS, this.#lookMs, random);
      await pause(clock, ms, signal);
    }
  }

  /** Written: all is as it should be. */
  async #look(): Promise<WriteOutcome> {
    const { store, names, validityMs, make, wallMs, onNews } = this.#options;
    const kept = await store.readCertificate();
    if (kept.kind === "failed") return failed("The certificate's Secret cannot be read", kept);
    let { certificate } = kept;
    const why = unfit(certificate, names, validityMs, wallMs());
    if (why !== undefined) {
      certificate = await make(wallMs());
      const outcome = await store.writeCertificate(certificate, kept.version);
      if (outcome.kind === "failed")
        return failed("The certificate's Secret cannot be written", outcome);
      if (outcome.kind === "conflict") return outcome;
      onNews(
        kept.certificate.cert === ""
          ? "a certificate was made: there was none"
          : `a certificate was made in place of the one in the Secret: ${why}`,
      );
    }
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
    this.#settle(
      certificate,
      seen.bundles.every((one) => isIn(one, certificate.ca)),
    );
    return { kind: "written" };
  }

  /** K1. @param wasTrusted its authority stood in every bundle before. */
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
