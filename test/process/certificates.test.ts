/** What a server says at its start of the certificates that it was given. */
import { expect, test } from "@jest/globals";
import { outOfDate, unusable } from "../../process/certificates.ts";
import { loopbackCertificate } from "../certificate.ts";

const DAY_MS = 24 * 60 * 60 * 1000;
const NOW_MS = Date.UTC(2026, 0, 10);
const FLAG = "--tls-cert-file";

async function pem(fromDays: number, toDays: number): Promise<string> {
  const [from, to] = [fromDays, toDays].map((days) => new Date(NOW_MS + days * DAY_MS));
  return (await loopbackCertificate(from, to)).cert;
}

function said(text: string): string[] {
  return outOfDate(Buffer.from(text), FLAG, NOW_MS);
}

test("a certificate that has expired is named by its flag, with when and what to do", async () => {
  const [first, ...more] = said(await pem(-3, -1));
  expect(more).toEqual([]);
  expect(first).toMatch(
    /^--tls-cert-file: the certificate of CN=localhost expired at 2026-01-09T00:00:00.000Z, .* renew it and start this server again/,
  );
});

test("one that is not valid yet too: the clock may be wrong", async () => {
  expect(said(await pem(1, 3))).toEqual([
    expect.stringMatching(/valid from 2026-01-11T00:00:00.000Z, .* this machine's clock/),
  ]);
});

test("every certificate of a chain is looked at; of a good one nothing is said, nor of what is none", async () => {
  const good = await pem(-1, 1);
  expect(said(good)).toEqual([]);
  expect(said(`${good}\n${await pem(-3, -1)}`)).toHaveLength(1);
  expect(said("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")).toEqual([]);
});

test("what makes a pair unusable is named by the flag of its file; a good pair is not", async () => {
  const [one, two] = [await loopbackCertificate(), await loopbackCertificate()];
  const why = (cert: string, key: string): string | undefined =>
    unusable({ cert: Buffer.from(cert), key: Buffer.from(key) }, FLAG, "--tls-key-file");
  expect(why(one.cert, one.key)).toBeUndefined();
  expect(why("nonsense", one.key)).toMatch(/^--tls-cert-file: is no certificate in PEM/);
  expect(why(one.cert, "nonsense")).toMatch(/^--tls-key-file: is no private key in PEM/);
  expect(why(one.cert, two.key)).toMatch(/^--tls-key-file: is not the key of the certificate/);
});
