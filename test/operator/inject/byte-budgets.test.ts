/** What of a container's memory the server's byte budgets have: they fit it, and the server takes them. */
import { expect, test } from "@jest/globals";
import { BYTE_BUDGETS } from "../../../operator/inject/byte-budgets.ts";
import { bytesOf } from "../../../operator/quantities.ts";
import { parseConfig } from "../../../sidecar/config.ts";
import { LIMIT_NAMES, LIMIT_SPECS, limitFlag } from "../../../sidecar/limits.ts";
import { injected, pod, reasonsFor, sidecarOf } from "./pods.ts";

const FLAG = /^--(tail|tail-partition|catch-up|in-flight|publish)-bytes=/;

/** As the server reads its flags. @param annotations of a pod that asks. */
function budgetsOf(annotations: Readonly<Record<string, string>>) {
  const args = sidecarOf(injected(pod({}, { inject: "true", ...annotations }))).args ?? [];
  const parsed = parseConfig({
    ...{ args, environment: {}, hostname: () => "app-1" },
    readFile: () => Buffer.from(""),
  });
  if (parsed.kind !== "config") throw new Error(JSON.stringify(parsed));
  const { tailBytes, catchUpBytes, inFlightBytes, publishBytes, tailPartitionBytes } =
    parsed.config.limits;
  const all = [tailBytes, catchUpBytes, inFlightBytes, publishBytes];
  return {
    mib: all.map((bytes) => Math.round(bytes / 2 ** 20)),
    ...{ total: all.reduce((sum, bytes) => sum + bytes, 0), tailPartitionBytes },
    said: args.filter((arg) => FLAG.test(arg)),
  };
}

test("their presets and what they need at least are the server's own", () => {
  const ofServer = new Map(
    LIMIT_NAMES.map((name) => [limitFlag(name).slice(2), LIMIT_SPECS[name]]),
  );
  // Below this a server refuses what it may get in one message.
  const least = { "publish-bytes": ofServer.get("request-bytes")?.value };
  for (const [name, budget] of Object.entries(BYTE_BUDGETS)) {
    const { value, min } = ofServer.get(name) ?? {};
    expect([name, budget]).toEqual([
      name,
      { preset: value, least: { [name]: min, ...least }[name] },
    ]);
  }
});

test("at the preset limit the server is told nothing: it has its own", () => {
  expect(budgetsOf({}).said).toEqual([]);
  expect(budgetsOf({ "memory-limit": "262144Ki" }).said).toEqual([]);
});

test("they grow with the limit", () => {
  const found = budgetsOf({ "memory-limit": "512Mi" });
  expect(found.said).toEqual([
    ...["--tail-bytes=49152Ki", "--catch-up-bytes=40960Ki", "--in-flight-bytes=40960Ki"],
    ...["--publish-bytes=32768Ki", "--tail-partition-bytes=16384Ki"],
  ]);
});

test.each([
  [{ "tail-bytes": "44Mi" }, [44, 13, 13, 10]],
  [{ "memory-limit": "1Gi", "tail-bytes": "200Mi" }, [200, 43, 43, 34]],
  [{ "catch-up-bytes": "1Mi", "publish-bytes": "4Mi" }, [41, 1, 34, 4]],
  [
    {
      ...{ "tail-bytes": "10Mi", "catch-up-bytes": "10Mi" },
      ...{ "in-flight-bytes": "10Mi", "publish-bytes": "10Mi" },
    },
    [10, 10, 10, 10],
  ],
])("what is named is as it is named, and the others share the rest: %j", (annotations, mib) => {
  expect(budgetsOf(annotations).mib).toEqual(mib);
});

test.each(["256Mi", "300Mi", "333333Ki", "1Gi", "5Gi", "32Gi"])(
  "of %s they have five sixteenths and no more, and the server takes them",
  (limit) => {
    const { total, tailPartitionBytes } = budgetsOf({ "memory-limit": limit });
    const room = (bytesOf(limit) * 5) / 16;
    expect(total).toBeLessThanOrEqual(room);
    expect(total).toBeGreaterThan(room - 4 * 1024);
    expect(tailPartitionBytes).toBeLessThan(bytesOf(limit) / 8);
  },
);

test.each([
  [{ "memory-limit": "33Gi" }, /memory-limit is "33Gi"; it must be 32Gi or less/],
  [{ "tail-bytes": "10M" }, /tail-bytes is "10M"; it must be a quantity of memory/],
  [{ "tail-bytes": "1000Ki" }, /tail-bytes is "1000Ki"; it must be 1Mi or more/],
  [{ "publish-bytes": "3Mi" }, /publish-bytes is "3Mi"; it must be 4Mi or more/],
  [
    { "tail-bytes": "70Mi" },
    /^throughline.dev\/tail-bytes: 70Mi in all, and throughline.dev\/memory-limit, which is 256Mi, has room for 66Mi of them: lower/,
  ],
  [
    { "tail-bytes": "40Mi", "publish-bytes": "39Mi" },
    /tail-bytes and throughline.dev\/publish-bytes: 79Mi in all, .* room for 78Mi/,
  ],
  [
    {
      ...{ "tail-bytes": "30Mi", "catch-up-bytes": "30Mi" },
      ...{ "in-flight-bytes": "10Mi", "publish-bytes": "11Mi" },
    },
    /: 81Mi in all, .* room for 80Mi/,
  ],
])("what does not fit is refused with what does: %j", (annotations, reason) => {
  const reasons = reasonsFor(pod({}, { inject: "true", ...annotations }));
  expect(reasons).toEqual([expect.stringMatching(reason)]);
});
