/**
 * How a program in a pod is told of Kafka by the one that makes the pod: flags that it has too are handed on to it;
 * what it reads from a file, and a user where each namespace has its own, is a key of a Secret of the pod's
 * namespace.
 */
import { KAFKA_SETTINGS, SASL_MECHANISMS } from "../process/kafka-settings.ts";
import type { Setting, SettingReader } from "../process/settings.ts";
import type { ProgramSettings, SecretKey } from "./program-container.ts";

export const SECRET_KEY = "secret/key";

export const POD_KAFKA_SETTINGS = {
  kafka: KAFKA_SETTINGS.kafka,
  "kafka-tls": KAFKA_SETTINGS["kafka-tls"],
  "kafka-tls-ca-secret": {
    value: SECRET_KEY,
    help: "authorities that may sign the brokers' certificates; like each Secret here, of the pod's namespace",
  },
  "kafka-tls-cert-secret": { value: SECRET_KEY, help: "a pod's certificate for Kafka" },
  "kafka-tls-key-secret": { value: SECRET_KEY, help: "its key" },
  "kafka-sasl-mechanism": KAFKA_SETTINGS["kafka-sasl-mechanism"],
  "kafka-sasl-user": { value: "name", help: "turns SASL on; or" },
  "kafka-sasl-user-secret": { value: SECRET_KEY, help: "the same, a user for each namespace" },
  "kafka-sasl-password-secret": { value: SECRET_KEY, help: "its password" },
} as const satisfies Readonly<Record<string, Setting>>;

type Name = keyof typeof POD_KAFKA_SETTINGS;

const HANDED_ON = ["kafka", "kafka-tls", "kafka-sasl-mechanism", "kafka-sasl-user"] as const;
const FILES = ["kafka-tls-ca", "kafka-tls-cert", "kafka-tls-key", "kafka-sasl-password"] as const;

/**
 * @param prefix of these flags, of a program that has others of its own.
 * @param given the flags that were given: what is preset the pod's program presets itself.
 */
export function kafkaOfPods<Prefix extends string>(
  read: SettingReader<`${Prefix}${Name}`>,
  given: ReadonlyMap<string, string>,
  prefix: Prefix,
): Omit<ProgramSettings, "image"> {
  const of = (name: Name): `${Prefix}${Name}` => `${prefix}${name}`;
  const isSet = (name: Name): boolean => given.has(`--${of(name)}`);
  for (const broker of read.list(read.text(of("kafka")) ?? ""))
    read.address(of("kafka"), broker, 1);
  if (read.text(of("kafka-tls")) !== undefined) read.isTrue(of("kafka-tls"));
  if (read.text(of("kafka-sasl-mechanism")) !== undefined)
    read.oneOf(of("kafka-sasl-mechanism"), SASL_MECHANISMS);
  read.together([of("kafka-tls-cert-secret"), of("kafka-tls-key-secret")]);
  onceOnly(read, given, of("kafka-sasl-user"), of("kafka-sasl-user-secret"));
  const hasUser = isSet("kafka-sasl-user") || isSet("kafka-sasl-user-secret");
  if (hasUser !== isSet("kafka-sasl-password-secret"))
    read.errors.push(
      hasUser
        ? `--${of("kafka-sasl-password-secret")} is missing: it goes with the user of Kafka.`
        : `--${of("kafka-sasl-password-secret")} is set without --${of("kafka-sasl-user")} or --${of("kafka-sasl-user-secret")}.`,
    );
  const flags = HANDED_ON.flatMap((name) => {
    const value = given.get(`--${of(name)}`);
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    flags: Object.fromEntries(flags),
    files: Object.fromEntries(
      FILES.flatMap((name) => secretKey(read, of(`${name}-secret`), `${name}-file`)),
    ),
    values: Object.fromEntries(secretKey(read, of("kafka-sasl-user-secret"), "kafka-sasl-user")),
  };
}

export function onceOnly<Of extends string>(
  { errors }: SettingReader<Of>,
  given: ReadonlyMap<string, string>,
  one: Of,
  other: Of,
): void {
  if (given.has(`--${one}`) && given.has(`--${other}`))
    errors.push(`--${one} and --${other} are both set: remove one.`);
}

/** @param flag of the program in the pod. @returns nothing where it is not set. */
export function secretKey<Of extends string>(
  read: SettingReader<Of>,
  name: Of,
  flag: string,
): readonly [string, SecretKey][] {
  const text = read.text(name);
  if (text === undefined) return [];
  const [, secret = "", key = ""] = /^([a-z0-9][a-z0-9.-]*)\/([-._a-zA-Z0-9]+)$/.exec(text) ?? [];
  if (key === "")
    read.errors.push(`--${name} is "${text}"; it must be the name of a Secret, / and a key of it.`);
  return [[flag, { secret, key }]];
}
