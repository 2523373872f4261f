/** What people are told of an API server's refusal. */
import { expect, test } from "@jest/globals";
import { ApiException } from "@kubernetes/client-node";
import { failureOf } from "../../../operator/kube/api-error.ts";

const HEADERS = { "audit-id": "7" };
const STATUS = { kind: "Status", message: 'leases "a" is forbidden' };

test.each([
  [
    "the server's own sentence",
    new ApiException(403, "Forbidden", STATUS, HEADERS),
    STATUS.message,
  ],
  [
    "of a text too",
    new ApiException(403, "Forbidden", JSON.stringify(STATUS), HEADERS),
    STATUS.message,
  ],
  [
    "one line, without headers, where it says nothing",
    new ApiException(401, "Unauthorized", undefined, HEADERS),
    "Unauthorized (HTTP status 401)",
  ],
  [
    "why there was no answer",
    new TypeError("fetch failed", { cause: new Error("connect ECONNREFUSED 10.0.0.1:443") }),
    "fetch failed: connect ECONNREFUSED 10.0.0.1:443",
  ],
])("it is %s", (_, error, reason) => {
  expect(failureOf(error)).toEqual({ kind: "failed", reason });
});
