/** AdmissionReview v1: what the API server asks and is answered. */
import { expect, test } from "@jest/globals";
import { answerTo, type PodRequest, podRequestOf } from "../../../operator/inject/admission.ts";
import { pod } from "./pods.ts";

function review(request: object): string {
  const base = { uid: "u-1", namespace: "shop", operation: "CREATE", object: pod() };
  return JSON.stringify({
    ...{ apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview" },
    request: { ...base, resource: { group: "", version: "v1", resource: "pods" }, ...request },
  });
}

test("a pod that is made is what it is about; anything else is not", () => {
  expect(podRequestOf(review({}))).toEqual({
    ...{ uid: "u-1", namespace: "shop", name: "app-1", pod: pod() },
  });
  for (const other of [
    { operation: "UPDATE" },
    { subResource: "ephemeralcontainers" },
    { resource: { group: "apps", resource: "deployments" } },
    { object: null },
  ])
    expect(podRequestOf(review(other))).toMatchObject({ uid: "u-1", pod: undefined });
});

test("a pod whose name is generated is shown by what is known of it", () => {
  const object = { metadata: { generateName: "app-" } };
  expect(podRequestOf(review({ object }))).toMatchObject({ name: "app-*" });
});

test.each([
  ["nonsense", "The body is not JSON."],
  ["3", "The body is not JSON."],
  ["{}", "The body is not an AdmissionReview of admission.k8s.io/v1."],
  [review({ uid: 1 }), "request.uid is missing."],
])("what is no AdmissionReview is said: %s", (body, sentence) => {
  expect(podRequestOf(body)).toBe(sentence);
});

test("answers carry the uid, a patch in base64, or the reasons", () => {
  const asked = podRequestOf(review({})) as PodRequest;
  const response = (injection: Parameters<typeof answerTo>[1]): object =>
    JSON.parse(answerTo(asked, injection)).response;
  const patch = [{ op: "add", path: "/spec/volumes", value: [] }] as const;
  expect(response({ kind: "untouched" })).toEqual({ uid: "u-1", allowed: true });
  expect(response({ kind: "injected", patch })).toEqual({
    ...{ uid: "u-1", allowed: true, patchType: "JSONPatch" },
    patch: Buffer.from(JSON.stringify(patch)).toString("base64"),
  });
  expect(response({ kind: "refused", reasons: ["One.", "Two."] })).toEqual({
    ...{ uid: "u-1", allowed: false },
    status: { code: 422, reason: "Invalid", message: "One. Two." },
  });
});
