/** The certificate of several injectors in virtual time: what each serves is trusted (K1 to K4). */
import { expect, test } from "@jest/globals";
import {
  bundleWith,
  type Certificate,
  expiryMs,
  isIn,
  makeCertificate,
} from "../../../operator/inject/certificate.ts";
import { CertificateKeeper } from "../../../operator/inject/certificate-keeper.ts";
import type { CertificateStore, WriteOutcome } from "../../../operator/inject/certificate-store.ts";
import { Random } from "../../sim/random.ts";
import { VirtualClock } from "../../sim/virtual-clock.ts";

const BEGUN_MS = Date.UTC(2026, 0, 10);
const VALIDITY_MS = 100_000;
/** API servers trust a bundle so long after it was written. */
const FOLLOWS_MS = 1000;
const NAMES = ["127.0.0.1"];
const NONE: Certificate = { ca: "", cert: "", key: "" };

function bed(seed = 1) {
  const random = new Random(seed);
  const clock = new VirtualClock(random);
  const wallMs = (): number => BEGUN_MS + clock.now();
  const making = new Set<Promise<Certificate>>();
  let secret: { certificate: Certificate; version: number } | undefined;
  let bundle = { text: "", version: 1, before: "", sinceMs: Number.NEGATIVE_INFINITY };
  let version = 1;
  const writes: string[] = [];
  const setBundle = (text: string): void => {
    bundle = { text, version: ++version, before: bundle.text, sinceMs: clock.now() };
  };
  /** What an API server trusts now, in the worst case. */
  const trusts = (ca: string): boolean =>
    isIn(bundle.text, ca) &&
    (clock.now() - bundle.sinceMs >= FOLLOWS_MS || isIn(bundle.before, ca));
  const keeper = (name: string) => {
    const said: string[] = [];
    const harm: string[] = [];
    const replica = {
      ...{ said, harm, served: undefined as Certificate | undefined },
      fault: "none" as "none" | "away" | "no-secret",
      /** Only a replica that is ready is asked. */
      check: (): void => {
        const { served } = replica;
        if (!one.isTrusted || !served) return;
        if (expiryMs(served.cert) <= wallMs()) harm.push(`expired at ${clock.now()}`);
        if (!trusts(served.ca)) harm.push(`not trusted at ${clock.now()}`);
      },
      one: undefined as unknown as CertificateKeeper,
    };
    /** Each call takes its time, as on a network. */
    const reached = async (): Promise<boolean> => {
      await new Promise<void>((resolve) => clock.setTimer(random.next() * 50, resolve));
      return replica.fault !== "away";
    };
    const away = { kind: "failed", reason: "no answer" } as const;
    const store: CertificateStore = {
      readCertificate: async () => {
        if (!(await reached())) return away;
        return {
          ...{ kind: "read", certificate: secret?.certificate ?? NONE },
          version: secret && String(secret.version),
        };
      },
      writeCertificate: async (certificate, over): Promise<WriteOutcome> => {
        if (!(await reached()) || replica.fault === "no-secret") return away;
        if (over !== (secret && String(secret.version))) return { kind: "conflict" };
        secret = { certificate, version: ++version };
        writes.push(name);
        return { kind: "written" };
      },
      readBundles: async () => {
        if (!(await reached())) return away;
        return { kind: "read", bundles: [bundle.text], version: String(bundle.version) };
      },
      writeBundles: async ([text], over): Promise<WriteOutcome> => {
        if (!(await reached())) return away;
        if (over !== String(bundle.version)) return { kind: "conflict" };
        setBundle(text as string);
        return { kind: "written" };
      },
    };
    const one = new CertificateKeeper({
      ...{ store, names: NAMES, validityMs: VALIDITY_MS, clock, wallMs },
      random: () => random.next(),
      make: (nowMs) => {
        const made = makeCertificate(NAMES, VALIDITY_MS, nowMs);
        making.add(made);
        return made;
      },
      serve: (certificate) => {
        replica.served = certificate;
      },
      onNews: (message) => said.push(message),
      onTrouble: (message) => said.push(message),
    });
    replica.one = one;
    one.start();
    return replica;
  };
  return {
    ...{ clock, keeper, writes, wallMs, setBundle, trusts },
    secret: () => secret?.certificate,
    bundle: () => bundle.text,
    deleteSecret: () => {
      secret = undefined;
    },
    setSecret: (certificate: Certificate) => {
      secret = { certificate, version: ++version };
    },
    /** Time stands still while a certificate is made. */
    until: async (ms: number, replicas: readonly { check(): void }[]): Promise<void> => {
      const look = (): boolean => {
        for (const one of replicas) one.check();
        return making.size > 0;
      };
      while (await clock.run(ms, look)) {
        await Promise.all(making);
        making.clear();
      }
    },
  };
}

test("the first certificate is made, trusted and served; then it is ready", async () => {
  const { keeper, until, secret, bundle } = bed();
  const a = keeper("a");
  await until(1000, [a]);
  expect([a.served, a.one.isTrusted]).toEqual([secret(), false]);
  await until(12_000, [a]);
  expect([a.one.isTrusted, a.harm]).toEqual([true, []]);
  expect(isIn(bundle(), a.served?.ca ?? "")).toBe(true);
  expect(a.said).toEqual(["a certificate was made: there was none"]);
});

test.each(Array.from({ length: 2 }, (_, seed) => [seed]))(
  "two replicas renew it together for four validities: what is served is always trusted, seed %i",
  async (seed) => {
    const { keeper, until, writes } = bed(seed);
    const [a, b] = [keeper("a"), keeper("b")];
    await until(4 * VALIDITY_MS, [a, b]);
    expect([...a.harm, ...b.harm]).toEqual([]);
    expect([a.one.isTrusted, b.one.isTrusted, a.served]).toEqual([true, true, b.served]);
    // One for each two thirds of the validity, whoever makes it.
    expect(writes.length).toBeGreaterThanOrEqual(5);
    expect(writes.length).toBeLessThanOrEqual(6);
  },
);

test("expired authorities leave the bundle", async () => {
  const { keeper, until, bundle } = bed();
  await until(4 * VALIDITY_MS, [keeper("a")]);
  expect(bundle().match(/BEGIN/g)?.length).toBeLessThanOrEqual(2);
});

test("the Secret deleted, or spoilt: another is made, and what is served goes on until that is trusted", async () => {
  const { keeper, until, deleteSecret, setSecret, secret } = bed();
  const replicas = [keeper("a"), keeper("b")];
  await until(20_000, replicas);
  const before = secret();
  deleteSecret();
  await until(40_000, replicas);
  expect(replicas.map(({ served }) => served)).toEqual([secret(), secret()]);
  expect(secret()).not.toEqual(before);
  setSecret({ ca: "x", cert: "y", key: "z" });
  await until(60_000, replicas);
  expect(replicas.flatMap(({ said }) => said)).toContain(
    "a certificate was made in place of the one in the Secret: it cannot be read",
  );
  expect(replicas.flatMap(({ harm }) => harm)).toEqual([]);
  expect(replicas.map(({ one }) => one.isTrusted)).toEqual([true, true]);
});

test("a replica that comes while the next certificate settles is not ready with one that nobody trusts", async () => {
  const { keeper, until } = bed();
  const a = keeper("a");
  await until(20_000, [a]);
  const before = a.served;
  for (let ms = 20_000; a.said.length === 1; ms += 200) await until(ms, [a]);
  expect(a.served).toBe(before);
  const b = keeper("b");
  await until(VALIDITY_MS, [a, b]);
  expect([a.harm, b.harm, b.one.isTrusted]).toEqual([[], [], true]);
});

test("a bundle that loses the next authority while it settles delays it", async () => {
  const { keeper, until, setBundle, clock, wallMs, secret } = bed();
  const a = keeper("a");
  await until(20_000, [a]);
  const before = a.served as Certificate;
  for (let ms = 20_000; a.said.length === 1; ms += 200) await until(ms, [a]);
  await until(clock.now() + 3000, [a]);
  setBundle(bundleWith("", before.ca, wallMs()));
  await until(clock.now() + 4000, [a]);
  expect(a.served).toBe(before);
  await until(VALIDITY_MS, [a]);
  expect([a.served, a.harm]).toEqual([secret(), []]);
});

test("a bundle that was emptied is mended", async () => {
  const { keeper, until, setBundle, trusts } = bed();
  const a = keeper("a");
  await until(20_000, [a]);
  setBundle("");
  await until(27_000, []);
  expect(trusts(a.served?.ca ?? "")).toBe(true);
});

test("a Secret that may not be made again: what is served stays, and stays trusted (K4)", async () => {
  const { keeper, until, deleteSecret, setBundle, trusts } = bed();
  const a = keeper("a");
  await until(20_000, [a]);
  const before = a.served as Certificate;
  a.fault = "no-secret";
  deleteSecret();
  await until(30_000, [a]);
  expect(a.said.at(-1)).toBe("The certificate's Secret cannot be written: no answer");
  setBundle("");
  await until(40_000, []);
  expect([a.served, a.one.isTrusted, trusts(before.ca)]).toEqual([before, true, true]);
});

test("the API server away: what is served goes on, it is said, and all is well afterwards (K4)", async () => {
  const { keeper, until } = bed();
  const a = keeper("a");
  await until(20_000, [a]);
  const before = a.served;
  a.fault = "away";
  await until(90_000, [a]);
  expect([a.served, a.one.isTrusted]).toEqual([before, true]);
  expect(a.said.at(-1)).toBe("The certificate's Secret cannot be read: no answer");
  await until(110_000, [a]);
  expect(a.one.isTrusted).toBe(false);
  a.fault = "none";
  await until(125_000, [a]);
  expect([a.one.isTrusted, a.harm]).toEqual([true, []]);
});

test("another authority in the bundle is left there: another replica may serve it (K2)", async () => {
  const { keeper, until, setBundle, bundle, wallMs } = bed();
  const foreign = await makeCertificate(NAMES, 10 * VALIDITY_MS, wallMs());
  setBundle(bundleWith("", foreign.ca, wallMs()));
  await until(3 * VALIDITY_MS, [keeper("a")]);
  expect(isIn(bundle(), foreign.ca)).toBe(true);
});
