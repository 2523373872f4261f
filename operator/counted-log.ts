/** A log whose admin steps are counted, each by its name and how it ended. */
import type { AdminOutcome, Log, LogAdmin } from "../kafka/log.ts";

export function countedLog(
  log: Log,
  count: (request: string, outcome: AdminOutcome<unknown>["kind"]) => void,
): Log {
  const admin = wrapped<LogAdmin>(log.admin, (name, step) => async (...given: unknown[]) => {
    const outcome = (await step(...given)) as AdminOutcome<unknown>;
    count(name, outcome.kind);
    return outcome;
  });
  return new Proxy(
    wrapped<Log>(log, (_name, method) => method),
    {
      get: (target, name) => (name === "admin" ? admin : Reflect.get(target, name)),
    },
  );
}

type Method = (...given: unknown[]) => unknown;

/** Each method through `around`, on the object itself, which may have private fields. */
function wrapped<T extends object>(of: T, around: (name: string, method: Method) => Method): T {
  return new Proxy(of, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function"
        ? around(String(name), (value as Method).bind(target))
        : value;
    },
  });
}
