/** How every program here begins and ends: its configuration is run, explained or refused. Exit codes: each main.ts. */
import type { Logger } from "pino";
import type { ParsedConfig } from "./settings.ts";

/** What `run` throws is for a person to correct: it is told without a stack, and ends the process with exit code 1. */
export async function runWith<Config>(
  parsed: ParsedConfig<Config>,
  run: (config: Config) => Promise<void>,
): Promise<void> {
  switch (parsed.kind) {
    case "help":
      process.stdout.write(parsed.text);
      break;
    case "errors":
      for (const error of parsed.errors) process.stderr.write(`throughline: ${error}\n`);
      process.exitCode = 1;
      break;
    case "config":
      try {
        await run(parsed.config);
      } catch (error) {
        process.stderr.write(`throughline: ${(error as Error).message}\n`);
        process.exit(1);
      }
  }
}

/** An exception that nobody expected ends the process with exit code 2. */
export function endOnBug(logger: Logger): void {
  process.on("uncaughtException", (error) => {
    logger.fatal({ err: error }, "this is a bug of Throughline; please report it");
    process.exit(2);
  });
}

/** SIGTERM and SIGINT end the program in order, a second one at once. `words` say what happens meanwhile. */
export function endOnSignal(logger: Logger, words: string, close: () => Promise<void>): void {
  let isStopping = false;
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    if (isStopping) {
      logger.warn({ signal }, "exiting at once");
      process.exit(1);
    }
    isStopping = true;
    logger.info({ signal }, words);
    await close();
    logger.info("stopped");
    process.exit(0);
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}
