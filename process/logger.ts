/** Structured logs of one server, one JSON line each, to standard output. */
import { type DestinationStream, type Logger, pino } from "pino";

export function makeLogger(level: string, serverName: string, to?: DestinationStream): Logger {
  const options = {
    level,
    base: { server: serverName },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  // Written at once: the last lines before a crash are the ones that matter.
  return pino(options, to ?? pino.destination({ fd: 1, sync: true }));
}
