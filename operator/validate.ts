/** The CRD's own rules, run here: structure by ajv, CEL by a CEL engine. Messages name the field. */
import { evaluate } from "@marcbachmann/cel-js";
import { Ajv, type ErrorObject } from "ajv";
import {
  API_VERSION,
  isTransition,
  MAX_NAME_LENGTH,
  TOPIC_RULES,
  TOPIC_SPEC_SCHEMA,
  type TopicSpec,
} from "./topic-schema.ts";

/** As Kubernetes has it: a DNS subdomain. */
const NAME = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/** A Topic as an API server or a file gives it. */
export interface TopicResource {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: TopicSpec;
}

const RESOURCE_SCHEMA = closed({
  type: "object",
  required: ["apiVersion", "kind", "metadata"],
  properties: {
    apiVersion: { const: API_VERSION },
    kind: { const: "Topic" },
    metadata: {
      type: "object",
      required: ["name", "namespace"],
      properties: {
        name: { type: "string", pattern: NAME, maxLength: MAX_NAME_LENGTH },
        namespace: { type: "string", pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", maxLength: 63 },
        annotations: { type: "object", additionalProperties: { type: "string" } },
        labels: { type: "object", additionalProperties: { type: "string" } },
      },
    },
    spec: TOPIC_SPEC_SCHEMA,
  },
});

export class TopicValidator {
  readonly #check = new Ajv({ allErrors: true, strict: false, verbose: true }).compile(
    RESOURCE_SCHEMA,
  );

  /** @returns what is wrong, each naming field and fix; or the Topic. */
  validate(value: unknown, old?: TopicSpec): { errors: string[] } | { topic: TopicResource } {
    if (!this.#check(value)) {
      const found = this.#check.errors ?? [];
      // Of what is no Topic at all, the rest of the schema has nothing to say.
      const other = found.filter(({ instancePath }) => /^\/(apiVersion|kind)$/.test(instancePath));
      return { errors: (other.length > 0 ? other : found).map(sentence) };
    }
    const topic = { spec: {}, ...(value as object) } as TopicResource;
    const self = numbersToBigInt(topic.spec);
    const errors = TOPIC_RULES.filter((rule) => {
      if (isTransition(rule)) {
        return old !== undefined && !evaluate(rule.rule, { self, oldSelf: numbersToBigInt(old) });
      }
      return !evaluate(rule.rule, { self });
    }).map(({ field, message }) => `spec.${field}: ${message}`);
    return errors.length > 0 ? { errors } : { topic };
  }
}

/** An API server prunes or refuses unknown fields; here they are an error that names them. */
function closed(schema: object): object {
  const { properties, additionalProperties, items } = schema as {
    properties?: Record<string, object>;
    additionalProperties?: object;
    items?: object;
  };
  return {
    ...schema,
    ...(items ? { items: closed(items) } : {}),
    ...(properties
      ? {
          properties: Object.fromEntries(
            Object.entries(properties).map(([name, inner]) => [name, closed(inner)]),
          ),
          additionalProperties: additionalProperties ?? false,
        }
      : {}),
  };
}

function sentence(error: ErrorObject): string {
  const field = error.instancePath.slice(1).replaceAll("/", ".") || "the document";
  const { additionalProperty, allowedValue, allowedValues } = error.params as {
    additionalProperty?: string;
    allowedValue?: string;
    allowedValues?: string[];
  };
  if (additionalProperty)
    return `${field}: unknown field "${additionalProperty}"; remove or correct it.`;
  if (allowedValue) return `${field}: must be ${allowedValue}.`;
  if (allowedValues) return `${field}: must be one of ${allowedValues.join(", ")}.`;
  if (error.keyword === "pattern") {
    const { description, pattern } = error.parentSchema as {
      description?: string;
      pattern?: string;
    };
    return `${field}: "${short(error.data)}" does not fit. ${description ?? `It must match ${pattern}.`}`;
  }
  // YAML takes 2 for a number and true for a truth value.
  const quotes = error.params["type"] === "string" && typeof error.data !== "object";
  return `${field}: ${error.message}${quotes ? "; put it in quotes" : ""}.`;
}

function short(data: unknown): string {
  const text = String(data);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

/** CEL integers are 64 bits; the engine takes them as bigint. */
function numbersToBigInt(value: unknown): Record<string, unknown> {
  return JSON.parse(JSON.stringify(value ?? {}), (_key, inner) =>
    typeof inner === "number" ? BigInt(inner) : inner,
  ) as Record<string, unknown>;
}
