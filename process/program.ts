/** How every program here begins: its configuration is run, explained or refused. Exit codes: each main.ts. */
import type { Logger } from "pino";
import type { ParsedConfig } from "./settings.ts";

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
      await run(parsed.config);
  }
}

/** An exception that nobody expected ends the process with exit code 2. */
export function endOnBug(logger: Logger): void {
  process.on("uncaughtException", (error) => {
    logger.fatal({ err: error }, "this is a bug of Throughline; please report it");
    process.exit(2);
  });
}
