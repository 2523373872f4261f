/** What the CustomResourceDefinitions of all kinds have in common: their frame, and conditions. */
import { GROUP } from "./topic-schema.ts";

export interface Definition {
  readonly kind: string;
  readonly plural: string;
  readonly shortName: string;
  /** With what annotations do. */
  readonly description: string;
  readonly columns: readonly object[];
  readonly spec: object;
  /** Without it there is nothing to do. */
  readonly needsSpec?: boolean;
  readonly status: object;
  /** Its name is part of others'. */
  readonly maxNameLength: number;
  /** Why, for people. */
  readonly nameRule: string;
}

export function definitionOf({ kind, plural, columns, ...of }: Definition) {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${GROUP}` },
    spec: {
      group: GROUP,
      scope: "Namespaced",
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular: kind.toLowerCase(),
        shortNames: [of.shortName],
        categories: ["throughline"],
      },
      versions: [
        {
          name: "v1alpha1",
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: columns,
          schema: {
            openAPIV3Schema: {
              type: "object",
              description: of.description,
              ...(of.needsSpec && { required: ["spec"] }),
              properties: {
                apiVersion: { type: "string" },
                kind: { type: "string" },
                metadata: { type: "object" },
                spec: of.spec,
                status: of.status,
              },
              "x-kubernetes-validations": [
                {
                  rule: `size(self.metadata.name) <= ${of.maxNameLength}`,
                  message: `metadata.name: may have ${of.maxNameLength} characters; ${of.nameRule}`,
                },
              ],
            },
          },
        },
      ],
    },
  };
}

export const OBSERVED_GENERATION = {
  type: "integer",
  format: "int64",
  minimum: 0,
  description: "The metadata.generation that the operator has acted on.",
} as const;

/** Column of a field of the Ready condition. */
export function readyColumn(name: string, field: string, priority?: number): object {
  const jsonPath = `.status.conditions[?(@.type=="Ready")].${field}`;
  return { name, type: "string", jsonPath, ...(priority && { priority }) };
}

/** @param types what each type says. @param reasons what may stand there, for people. */
export function conditionsSchema(all: string, types: string, reasons: string): object {
  return {
    type: "array",
    description: all,
    maxItems: 16,
    items: {
      type: "object",
      required: ["type", "status", "lastTransitionTime", "reason", "message"],
      properties: {
        type: {
          type: "string",
          description: types,
          maxLength: 316,
          pattern: "^[A-Za-z][A-Za-z0-9]*$",
        },
        status: {
          type: "string",
          enum: ["True", "False", "Unknown"],
          description: "Whether it is so.",
        },
        reason: {
          type: "string",
          description: `Why, as one stable word. ${reasons}`,
          minLength: 1,
          maxLength: 1024,
          pattern: "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        },
        message: {
          type: "string",
          description: "Why, as a sentence for people, with what to do next.",
          maxLength: 32768,
        },
        lastTransitionTime: {
          type: "string",
          format: "date-time",
          description: "When status last changed.",
        },
        observedGeneration: {
          type: "integer",
          format: "int64",
          minimum: 0,
          description: "The metadata.generation that this condition is about.",
        },
      },
    },
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
  };
}
