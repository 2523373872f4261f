/** The operator's allow-list: exact names, prefixes, and whose they are. */
import { expect, test } from "@jest/globals";
import { ALLOWED_ENTRY, allowedNames } from "../../operator/allowed-names.ts";

test.each([
  ["legacy", "shop", "legacy", true],
  ["legacy", "shop", "legacy2", false],
  ["legacy.*", "shop", "legacy.a.b", true],
  ["legacy.*", "shop", "legacy", false],
  ["*", "shop", "anything", true],
  ["shop/legacy.*", "shop", "legacy.a", true],
  ["shop/legacy.*", "bank", "legacy.a", false],
  ["shop/*", "shop", "x", true],
])("%s for a Topic of %s that names %s: %s", (entry, namespace, kafkaTopic, isAllowed) => {
  const { mayName, mayAdopt } = allowedNames(["other", entry]);
  expect([mayName(namespace, kafkaTopic), mayAdopt(namespace, kafkaTopic)]).toEqual([
    isAllowed,
    isAllowed,
  ]);
});

test.each(["a b", "shop/", "Shop/x", "a/b/c", "a*b", "**", "/x"])("%s is no entry", (entry) => {
  expect(ALLOWED_ENTRY.test(entry)).toBe(false);
});
