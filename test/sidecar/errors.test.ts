import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { expect, test } from "@jest/globals";
import { ErrorInfo } from "../../proto/gen/throughline/v1/throughline.ts";
import { ERRORS, type ErrorName } from "../../sidecar/errors.ts";
import { ERROR_TRAILER, Failure, toFailure, toStatus } from "../../sidecar/failure.ts";
import { errorTableMarkdown } from "../../tools/error-table.ts";

const NAMES = Object.keys(ERRORS) as ErrorName[];

test.each(NAMES)("P10: %s reaches the client as code, text, and details", (name) => {
  const sent = toStatus(new Failure(name, "What happened.", { token: Buffer.from("t"), loss: 1 }));
  expect(sent.code).toBe(ERRORS[name].code);
  expect(sent.details).toBe(`${name}: What happened. ${ERRORS[name].advice}`);
  const info = ErrorInfo.decode(sent.metadata.get(ERROR_TRAILER)[0] as Buffer);
  expect(info).toMatchObject({
    name,
    message: "What happened.",
    retryable: ERRORS[name].retryable,
    advice: ERRORS[name].advice,
    loss: 1,
  });
  expect(info.token.toString()).toBe("t");
});

test("what is no Failure keeps its text from the client", () => {
  const failure = toFailure(new TypeError("password=hunter2"));
  expect(failure.error).toBe("INTERNAL");
  expect(toStatus(failure).details).not.toContain("hunter2");
});

test("an advice is one sentence for people, and a code is a gRPC code", () => {
  for (const name of NAMES) {
    expect(ERRORS[name].advice).toMatch(/^[A-Z].*\.$/);
    expect(status[ERRORS[name].code]).toBeDefined();
  }
});

test("README's table of errors is the one in errors.ts", () => {
  const readme = join(import.meta.dirname, "../../README.md");
  const text = existsSync(readme) ? readFileSync(readme, "utf8") : "";
  const shown = /<!-- errors -->\n([\s\S]*?)\n<!-- \/errors -->/.exec(text)?.[1];
  // Until the README has the markers there is nothing to compare.
  if (shown !== undefined) expect(shown.trim()).toBe(errorTableMarkdown());
});
