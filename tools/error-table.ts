/** README's table of errors, made from the one in sidecar/errors.ts. `node tools/error-table.ts` prints it. */
import { status } from "@grpc/grpc-js";
import { ERRORS } from "../sidecar/errors.ts";

export function errorTableMarkdown(): string {
  const rows = Object.entries(ERRORS).map(
    ([name, { code, retryable, advice }]) =>
      `| \`${name}\` | ${status[code]} | ${retryable ? "yes" : "no"} | ${advice} |`,
  );
  return [
    "| error | gRPC code | retryable | what to do |",
    "| --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}

if (import.meta.main) process.stdout.write(`${errorTableMarkdown()}\n`);
