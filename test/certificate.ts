/** A certificate for this machine's loopback, for tests of TLS. */
import { generate, type SubjectAltNameEntry } from "selfsigned";

const LOOPBACK: readonly SubjectAltNameEntry[] = [
  { type: 2, value: "localhost" },
  { type: 7, ip: "127.0.0.1" },
];

/**
 * Certificate and private key (PKCS 8) in PEM; the certificate is its own authority.
 * @param altNames what it is good for.
 */
export async function loopbackCertificate(
  notBeforeDate?: Date,
  notAfterDate?: Date,
  altNames = LOOPBACK,
): Promise<{ cert: string; key: string }> {
  const made = await generate([{ name: "commonName", value: "localhost" }], {
    keySize: 2048,
    algorithm: "sha256",
    ...(notBeforeDate && { notBeforeDate }),
    ...(notAfterDate && { notAfterDate }),
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "subjectAltName", altNames: [...altNames] },
    ],
  });
  return { cert: made.cert, key: made.private };
}

/** Settings of a Kafka listener that shows this certificate. */
export function kafkaTlsSettings(made: { cert: string; key: string }): Record<string, string> {
  // In a properties file a line break within a value is written.
  const line = (pem: string): string => pem.trim().replaceAll(/\r?\n/g, "\\n");
  return {
    "ssl.keystore.type": "PEM",
    "ssl.keystore.certificate.chain": line(made.cert),
    "ssl.keystore.key": line(made.key),
  };
}
