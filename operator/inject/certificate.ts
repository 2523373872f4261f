/**
 * The injector's certificate and the authority that signed it, in PEM: made, judged, bundled. The authority
 * signs one certificate and its key is thrown away: nobody can make another that the API server would trust.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { generate, type SubjectAltNameEntry } from "selfsigned";

export interface Certificate {
  /** The authority. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** A certificate is replaced when so much of the validity of a new one is left. */
const RENEWED_WITH = 1 / 3;
/** The API server's clock may be so far behind. */
const CLOCKS_DIFFER_MS = 5 * 60_000;
/** Two are usual. Of more than so many the oldest go: replicas that want different names would fill it. */
const MAX_AUTHORITIES = 20;
const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** @param names DNS names and IP addresses. */
export async function makeCertificate(
  names: readonly string[],
  validityMs: number,
  nowMs: number,
): Promise<Certificate> {
  const times = {
    notBeforeDate: new Date(nowMs - CLOCKS_DIFFER_MS),
    notAfterDate: new Date(nowMs + validityMs),
  };
  const kind = { keyType: "ec", curve: "P-256", algorithm: "sha256" } as const;
  // Of two authorities with one name a verifier would have to guess.
  const authorityName = `throughline-injector-ca-${nowMs}`;
  const authority = await generate([{ name: "commonName", value: authorityName }], {
    ...{ ...times, ...kind },
    extensions: [
      { name: "basicConstraints", cA: true, pathLenConstraint: 0, critical: true },
      { name: "keyUsage", keyCertSign: true, critical: true },
    ],
  });
  const made = await generate([{ name: "commonName", value: "throughline-injector" }], {
    ...{ ...times, ...kind },
    ca: { key: authority.private, cert: authority.cert },
    extensions: [
      { name: "basicConstraints", cA: false, critical: true },
      { name: "keyUsage", digitalSignature: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      { name: "subjectAltName", altNames: names.map(altName) },
    ],
  });
  return { ca: authority.cert, cert: made.cert, key: made.private };
}

/** Why another must be made, or undefined. */
export function unfit(
  { ca, cert, key }: Certificate,
  names: readonly string[],
  validityMs: number,
  nowMs: number,
): string | undefined {
  const [authority, leaf] = [read(ca), read(cert)];
  if (!authority || !leaf || !isKeyOf(key, leaf)) return "it cannot be read";
  if (!leaf.verify(authority.publicKey)) return "its authority is another";
  const unnamed = names.find(
    (name) => (isIP(name) ? leaf.checkIP(name) : leaf.checkHost(name)) === undefined,
  );
  if (unnamed !== undefined) return `it does not name ${unnamed}`;
  if (expiryMs(cert) - nowMs < validityMs * RENEWED_WITH) return "it expires soon";
  return undefined;
}

/** 0: it cannot be read. */
export function expiryMs(cert: string): number {
  const found = read(cert);
  return found ? new Date(found.validTo).getTime() : 0;
}

export function isIn(bundle: string, ca: string): boolean {
  const wanted = read(ca)?.fingerprint256;
  return pemsIn(bundle).some((pem) => read(pem)?.fingerprint256 === wanted);
}

/**
 * The bundle with this authority. Another that is still valid stays: a replica may serve a certificate of it. So
 * replicas that write at once agree in the end, whatever the order.
 */
export function bundleWith(bundle: string, ca: string, nowMs: number): string {
  const valid = pemsIn(bundle).filter((pem) => expiryMs(pem) > nowMs);
  const all = isIn(bundle, ca) ? valid : [...valid, ca.trim()];
  return all
    .slice(-MAX_AUTHORITIES)
    .map((pem) => `${pem}\n`)
    .join("");
}

function pemsIn(text: string): readonly string[] {
  return text.match(PEM) ?? [];
}

function altName(name: string): SubjectAltNameEntry {
  return isIP(name) ? { type: 7, ip: name } : { type: 2, value: name };
}

function read(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

function isKeyOf(key: string, leaf: X509Certificate): boolean {
  try {
    return leaf.checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
}
