/** What the README tells about injection is what the injector does. */
import { expect, test } from "@jest/globals";
import { POD_SETTINGS } from "../../../operator/inject/pod-settings.ts";
import { injected, pod, SETTINGS, sidecarOf } from "./pods.ts";
import { readmeDocuments, readmeTable } from "./readme.ts";

test("the sidecar to write by hand is the injected one", () => {
  const found = injected(pod(), {
    ...SETTINGS,
    server: {
      image: "throughline:1",
      flags: {
        ...{ kafka: "kafka.kafka:9092", "deployment-id": "prod", "kafka-sasl-user": "shop" },
      },
      files: { "kafka-sasl-password-file": { secret: "kafka-user", key: "password" } },
      values: {},
    },
  });
  const [byHand] = readmeDocuments("initContainers:");
  const { volumes } = found.spec ?? {};
  expect(byHand).toEqual({ spec: { initContainers: [sidecarOf(found)], volumes } });
});

test("the table of annotations has every setting with its help and preset", () => {
  const [inject, ...others] = readmeTable("annotations");
  expect(inject?.[0]).toBe("`inject`");
  expect(others).toEqual(
    Object.entries(POD_SETTINGS).map(([name, setting]) => [
      `\`${name}\``,
      setting.help.replace(/ \(default: .*\)$/, ""),
      "default" in setting
        ? setting.default
        : (/ \(default: (.*)\)$/.exec(setting.help)?.[1] ?? ""),
    ]),
  );
});
