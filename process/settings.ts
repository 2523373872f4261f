/**
 * Settings of a program: a table of flags, each also an environment variable (`THROUGHLINE_<FLAG>`).
 * They are checked whole at the start: every error is named at once, and nothing runs with half of them.
 *
 * Secrets come from files, so that they are in no process list and no environment.
 */
import { type CertificatePair, unusable } from "./certificates.ts";

export interface Setting {
  /** What a value looks like, for people. */
  readonly value: string;
  readonly help: string;
  readonly default?: string;
}

export type Settings = Readonly<Record<string, Setting>>;

export type ParsedConfig<Config> =
  | { readonly kind: "config"; readonly config: Config }
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "errors"; readonly errors: readonly string[] };

/** What a program gets from outside: parameters, so that tests have their own. */
export interface Outside {
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly readFile: (path: string) => Buffer;
  readonly hostname: () => string;
}

export interface Address {
  readonly host: string;
  readonly port: number;
}

/**
 * What was given, by flag. Flags win over the environment; an empty environment variable counts as not set.
 * @param flags with their dashes.
 */
function gather(
  flags: readonly string[],
  { args, environment }: Pick<Outside, "args" | "environment">,
  errors: string[],
): Map<string, string> | "help" {
  const given = new Map<string, string>();
  for (const flag of flags) {
    const value = environment[environmentName(flag)];
    if (value) given.set(flag, value);
  }
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] as string;
    if (arg === "--help" || arg === "-h") return "help";
    const equals = arg.indexOf("=");
    const flag = equals < 0 ? arg : arg.slice(0, equals);
    if (!flags.includes(flag)) {
      errors.push(`${flag} is not a flag of this program; --help lists them.`);
      // Its value, if it has one, is not a second error.
      if (equals < 0 && args[i + 1] !== undefined && !(args[i + 1] as string).startsWith("-")) i++;
      continue;
    }
    const value = equals < 0 ? args[++i] : arg.slice(equals + 1);
    if (value === undefined || (equals < 0 && value.startsWith("--"))) {
      errors.push(`${flag} needs a value.`);
      if (value !== undefined) i--;
    } else {
      given.set(flag, value);
    }
  }
  return given;
}

/** What a program makes a configuration of. */
export interface Parsing<Name extends string, Config> {
  readonly settings: Readonly<Record<Name, Setting>>;
  /** Further flags, with their dashes, which `configOf` reads itself. */
  readonly more?: readonly string[];
  readonly help: () => string;
  /** What is wrong goes to the reader's errors. */
  readonly configOf: (
    read: SettingReader<Name>,
    outside: Outside,
    given: ReadonlyMap<string, string>,
  ) => Config;
}

export function parseSettings<Name extends string, Config>(
  { settings, more = [], help, configOf }: Parsing<Name, Config>,
  outside: Outside,
): ParsedConfig<Config> {
  const errors: string[] = [];
  const names = Object.keys(settings).map((name) => `--${name}`);
  const given = gather([...names, ...more], outside, errors);
  if (given === "help") return { kind: "help", text: help() };
  const read = new SettingReader(settings, given, outside.readFile, errors);
  const config = configOf(read, outside, given);
  return errors.length > 0 ? { kind: "errors", errors } : { kind: "config", config };
}

/** Reads settings of one table; what is wrong goes to `errors`, naming the flag. */
export class SettingReader<Name extends string> {
  readonly errors: string[];
  readonly #settings: Readonly<Record<Name, Setting>>;
  readonly #given: ReadonlyMap<string, string>;
  readonly #readFile: Outside["readFile"];

  constructor(
    settings: Readonly<Record<Name, Setting>>,
    given: ReadonlyMap<string, string>,
    readFile: Outside["readFile"],
    errors: string[],
  ) {
    this.#settings = settings;
    this.#given = given;
    this.#readFile = readFile;
    this.errors = errors;
  }

  text(name: Name): string | undefined {
    return this.#given.get(`--${name}`) ?? this.#settings[name].default;
  }

  required(name: Name): string {
    const value = this.text(name);
    if (value === undefined)
      this.errors.push(`--${name} is required: ${this.#settings[name].help}.`);
    return value ?? "";
  }

  oneOf<Value extends string>(name: Name, allowed: readonly Value[]): Value {
    const value = this.text(name) ?? "";
    if (!allowed.includes(value as Value))
      this.errors.push(`--${name} is "${value}"; it must be ${allowed.join(", ")}.`);
    return value as Value;
  }

  isTrue(name: Name): boolean {
    return this.oneOf(name, ["true", "false"]) === "true";
  }

  matching(name: Name, value: string, pattern: RegExp, rule: string): string {
    if (value !== "" && !pattern.test(value))
      this.errors.push(`--${name} is "${value}"; it must be ${rule}.`);
    return value;
  }

  file(name: Name): Buffer | undefined {
    const path = this.text(name);
    if (path === undefined) return undefined;
    try {
      return this.#readFile(path);
    } catch (error) {
      this.errors.push(`--${name}: "${path}" cannot be read: ${(error as Error).message}.`);
      return undefined;
    }
  }

  /** A file's text. Editors end files with a newline; a password does not end with one. */
  secret(name: Name): string | undefined {
    const value = this.file(name)
      ?.toString("utf8")
      .replace(/\r?\n$/, "");
    if (value === "") this.errors.push(`--${name}: the file is empty.`);
    return value;
  }

  /** Whether all of them are set; some without the others are an error. */
  together(names: readonly Name[]): boolean {
    const set = names.filter((name) => this.text(name) !== undefined);
    if (set.length === 0) return false;
    for (const name of names) {
      if (!set.includes(name))
        this.errors.push(`--${name} is missing: it goes with --${set.join(", --")}.`);
    }
    return set.length === names.length;
  }

  certificate(cert: Name, key: Name): CertificatePair | undefined {
    const whole = this.together([cert, key]);
    const files = { cert: this.file(cert), key: this.file(key) };
    if (!whole || !files.cert || !files.key) return undefined;
    const pair = { cert: files.cert, key: files.key };
    const why = unusable(pair, `--${cert}`, `--${key}`);
    if (why) this.errors.push(why);
    return pair;
  }

  address(name: Name, text: string, minPort = 0): Address {
    const [, host = "", digits = ""] = /^(\[[0-9a-fA-F:]+\]|[^:\s/]+):(\d{1,5})$/.exec(text) ?? [];
    const port = Number(digits);
    if (host === "" || port > 65535 || port < minPort) {
      this.errors.push(`--${name} is "${text}"; it must be host:port.`);
    }
    return { host: host.replace(/^\[|\]$/g, ""), port };
  }

  /** Where to listen: an address, or `:port` for every address of this machine (an empty host). */
  listenAddress(name: Name, text: string): Address {
    const [, digits = ""] = /^:(\d{1,5})$/.exec(text) ?? [];
    if (digits === "") return this.address(name, text);
    return { host: "", port: this.address(name, `any:${digits}`).port };
  }

  /** Separated by commas. */
  list(text: string): string[] {
    return text
      .split(",")
      .map((one) => one.trim())
      .filter(Boolean);
  }
}

/** One line per setting. */
export function helpLines(settings: Settings, required: readonly string[]): string[] {
  return Object.entries(settings).map(([name, { value, help, default: preset }]) => {
    const must = required.includes(name) ? " (required)" : "";
    const otherwise = preset === undefined ? must : ` (default ${preset})`;
    return helpLine(`--${name}`, value, `${help}${otherwise}`);
  });
}

export function helpLine(flag: string, value: string, help: string): string {
  return `  ${`${flag} <${value}>`.padEnd(36)} ${help}`;
}

function environmentName(flag: string): string {
  return `THROUGHLINE_${flag.slice(2).replaceAll("-", "_").toUpperCase()}`;
}
