/** The flags of a checker: how long, which seed, what is broken on purpose. */
import { parseArgs } from "node:util";

export interface Flags {
  readonly minutes: number;
  readonly seed: number;
  readonly broken: string | undefined;
}

/** Ends the process where a flag is wrong, or help is wanted. @param name as npm knows the checker. */
export function flagsOf(
  name: string,
  of: { readonly help: string; readonly minutes: number; readonly variants: readonly string[] },
): Flags {
  const wrong = (why: string): never => {
    console.error(`${name}: ${why}\n${of.help}`);
    process.exit(1);
  };
  let values: { minutes?: string; seed?: string; broken?: string; help?: boolean };
  try {
    values = parseArgs({
      options: {
        minutes: { type: "string", default: String(of.minutes) },
        seed: { type: "string" },
        broken: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    }).values;
  } catch (error) {
    return wrong((error as Error).message);
  }
  if (values.help) {
    console.log(of.help);
    process.exit(0);
  }
  const minutes = Number(values.minutes);
  const chosen = Number(values.seed ?? Math.floor(Math.random() * 1e9));
  if (!(minutes >= 0.2 && minutes <= 600))
    wrong(`--minutes ${values.minutes}: is no number from 0.2 to 600`);
  if (!Number.isSafeInteger(chosen) || chosen < 0)
    wrong(`--seed ${values.seed}: is no whole number`);
  const { broken } = values;
  if (broken !== undefined && !of.variants.includes(broken))
    wrong(`--broken ${broken}: is no variant; there are ${of.variants.join(", ")}`);
  return { minutes, seed: chosen, broken };
}
