/**
 * Are the server's certificates good? Said at its start, by the flag that names the file: what a client is
 * told is only that there is no connection. Pure; the time comes in.
 */
import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";

const PEM = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]+-----END [^-]+-----/g;

export interface CertificatePair {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Why no connection could be made with this pair, whatever the time. */
export function unusable(
  pair: CertificatePair,
  certFlag: string,
  keyFlag: string,
): string | undefined {
  const { cert, key } = pair;
  if (refusal(pair) === undefined) return undefined;
  const ofCert = refusal({ cert });
  if (ofCert) return `${certFlag}: is no certificate in PEM (${ofCert}).`;
  const ofKey = refusal({ key });
  if (ofKey) return `${keyFlag}: is no private key in PEM without a passphrase (${ofKey}).`;
  return `${keyFlag}: is not the key of the certificate in ${certFlag}.`;
}

/** What the other side does not accept now: a sentence for each such certificate of the file. */
export function outOfDate(cert: Buffer, flag: string, nowMs: number): string[] {
  return (cert.toString("latin1").match(PEM) ?? []).flatMap((pem) => {
    const read = certificate(pem);
    if (!read) return [];
    const whose = `${flag}: the certificate of ${read.subject.split("\n").join(", ")}`;
    const [from, to] = [new Date(read.validFrom), new Date(read.validTo)];
    if (to.getTime() < nowMs)
      return [
        `${whose} expired at ${to.toISOString()}, and nobody accepts it: renew it and start this server again, or see this machine's clock`,
      ];
    if (from.getTime() > nowMs)
      return [
        `${whose} is valid from ${from.toISOString()}, and nobody accepts it before: see this machine's clock, or whether it is the right one`,
      ];
    return [];
  });
}

/** Undefined: not to be read, which is said where it is used. */
function certificate(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

function refusal(pair: Partial<CertificatePair>): string | undefined {
  try {
    createSecureContext(pair);
    return undefined;
  } catch (error) {
    // "error:05800074:x509 certificate routines::key values mismatch"
    return (error as Error).message.split(":").at(-1);
  }
}
