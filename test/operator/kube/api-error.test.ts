/** What people are told of an API server's refusal. */
import { expect, test } from "@jest/globals";
import { failureOf } from "../../../operator/kube/api-error.ts";

/** As the operator's client throws it. */
function refusal(code: number, body: string): Error {
  return Object.assign(new Error(`HTTP status ${code}`), { code, body });
}

const STATUS = { kind: "Status", message: 'leases "a" is forbidden' };

test.each([
  ["the server's own sentence", refusal(403, JSON.stringify(STATUS)), STATUS.message],
  ["the status where it says nothing", refusal(401, ""), "HTTP status 401"],
  ["the status where it says no JSON", refusal(503, "<html>"), "HTTP status 503"],
  [
    "why there was no answer",
    new TypeError("fetch failed", { cause: new Error("connect ECONNREFUSED 10.0.0.1:443") }),
    "fetch failed: connect ECONNREFUSED 10.0.0.1:443",
  ],
])("it is %s", (_, error, reason) => {
  expect(failureOf(error)).toEqual({ kind: "failed", reason });
});
