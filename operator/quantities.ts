/** Quantities of the Topic's schema, which has checked their form: 10Gi in bytes, 7d in milliseconds. */
const BYTES: Record<string, number> = { "": 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 };
const MILLISECONDS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

export function bytesOf(quantity: string): number {
  return Number.parseInt(quantity, 10) * (BYTES[quantity.replace(/^\d+/, "")] ?? Number.NaN);
}

export function millisecondsOf(duration: string): number {
  return Number.parseInt(duration, 10) * (MILLISECONDS[duration.slice(-1)] ?? Number.NaN);
}
