/** What an API server's refusal, or the way to it, says. */
export interface ApiFailure {
  readonly kind: "failed";
  /** The server's own sentence where there is one. */
  readonly reason: string;
}

/** HTTP status; undefined when there was no answer. */
export function statusOf(error: unknown): number | undefined {
  const { code, statusCode } = error as { code?: unknown; statusCode?: unknown };
  if (typeof code === "number") return code;
  return typeof statusCode === "number" ? statusCode : undefined;
}

export function failureOf(error: unknown): ApiFailure {
  const { body, message, cause } = error as { body?: unknown; message?: string; cause?: unknown };
  const why = cause instanceof Error ? `${message}: ${cause.message}` : message;
  return { kind: "failed", reason: sentenceIn(body) ?? why ?? String(error) };
}

/** A `Status` object: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/ */
function sentenceIn(body: unknown): string | undefined {
  try {
    const status = (typeof body === "string" ? JSON.parse(body) : body) as { message?: unknown };
    return typeof status?.message === "string" ? status.message : undefined;
  } catch {
    return undefined;
  }
}
