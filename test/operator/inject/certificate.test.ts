/** The injector's certificate: what is made, when another is due, and what is trusted meanwhile. */
import { X509Certificate } from "node:crypto";
import { expect, test } from "@jest/globals";
import {
  bundleWith,
  expiryMs,
  isIn,
  makeCertificate,
  unfit,
} from "../../../operator/inject/certificate.ts";

const NOW_MS = Date.UTC(2026, 0, 10);
const DAY_MS = 24 * 60 * 60 * 1000;
const NAMES = ["inject.throughline.svc", "127.0.0.1"];
const [one, two] = [
  await makeCertificate(NAMES, 90 * DAY_MS, NOW_MS),
  await makeCertificate(NAMES, 90 * DAY_MS, NOW_MS + DAY_MS),
];

function why(certificate: Partial<typeof one>, names = NAMES, afterDays = 0): string | undefined {
  return unfit({ ...one, ...certificate }, names, 90 * DAY_MS, NOW_MS + afterDays * DAY_MS);
}

test("it is a server's, of these names, signed by an authority that can sign nothing else any more", () => {
  const [ca, leaf] = [new X509Certificate(one.ca), new X509Certificate(one.cert)];
  expect([ca.ca, leaf.ca, leaf.checkIssued(ca), leaf.verify(ca.publicKey)]).toEqual([
    ...[true, false, true, true],
  ]);
  expect(leaf.subjectAltName).toBe("DNS:inject.throughline.svc, IP Address:127.0.0.1");
  expect(leaf.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1"]);
  expect(expiryMs(one.cert)).toBe(NOW_MS + 90 * DAY_MS);
  expect(expiryMs(one.ca)).toBe(NOW_MS + 90 * DAY_MS);
  // Of clocks that differ by some minutes none refuses it.
  expect(new Date(leaf.validFrom).getTime()).toBe(NOW_MS - 300_000);
  expect(ca.subject).not.toBe(new X509Certificate(two.ca).subject);
});

test("another is due when a third of the validity is left, or when it is not what it should be", () => {
  expect([why({}), why({}, NAMES, 59)]).toEqual([undefined, undefined]);
  expect(why({}, NAMES, 61)).toBe("it expires soon");
  expect(why({}, [...NAMES, "other.svc"])).toBe("it does not name other.svc");
  expect(why({}, ["127.0.0.2"])).toBe("it does not name 127.0.0.2");
  expect(why({ ca: two.ca })).toBe("its authority is another");
  for (const bad of [{ ca: "" }, { cert: "nonsense" }, { key: "" }, { key: two.key }])
    expect(why(bad)).toBe("it cannot be read");
});

test("an authority stays in the bundle until it expires; order and repetition do not matter (K2)", () => {
  const bundle = (text: string, ca: string, days = 0): string =>
    bundleWith(text, ca, NOW_MS + days * DAY_MS);
  const both = bundle(bundle("", one.ca), two.ca);
  expect([isIn(both, one.ca), isIn(both, two.ca)]).toEqual([true, true]);
  expect(bundle(both, one.ca)).toBe(both);
  expect(bundle(both, two.ca)).toBe(both);
  const later = bundle(both, two.ca, 90.5);
  expect([isIn(later, one.ca), isIn(later, two.ca)]).toEqual([false, true]);
  expect(bundle("no certificate at all\n", one.ca)).toBe(bundle("", one.ca));
});

test("a bundle has an end: of many authorities the newest stay", async () => {
  const made = await Promise.all(
    Array.from({ length: 22 }, (_, i) => makeCertificate(NAMES, DAY_MS, NOW_MS + i)),
  );
  const bundle = made.reduce((text, { ca }) => bundleWith(text, ca, NOW_MS), "");
  expect(made.map(({ ca }) => isIn(bundle, ca)).indexOf(true)).toBe(2);
  expect(bundle.match(/BEGIN/g)).toHaveLength(20);
});
