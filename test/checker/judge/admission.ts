/** Which events a client of the checker asked for (pure): what the product's filter must do, said again. */
export type Admission =
  | { readonly by: "type"; readonly types: readonly string[] }
  | { readonly by: "key"; readonly keys: readonly string[] };

/** @param content see contentOf in ../history.ts */
export function admits(admission: Admission | undefined, content: string): boolean {
  if (!admission) return true;
  const [, key = "", type = ""] = content.split("|");
  return admission.by === "type" ? admission.types.includes(type) : admission.keys.includes(key);
}
