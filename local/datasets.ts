/** Real events for the demo, from the npm package vega-datasets. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { NewEvent } from "../proto/gen/throughline/v1/throughline.ts";

/** What the files hold; the demo's audit counts against these. */
export const FLIGHTS = 20_000;
export const EARTHQUAKES = 1707;

/** The 20,000 flights in order of departure, keyed by the airport of origin. */
export function flights(): NewEvent[] {
  const rows = read("flights-20k.json") as { date: string; origin: string }[];
  return rows
    .toSorted((a, b) => (a.date < b.date ? -1 : a.date > b.date ? 1 : 0))
    .map((row) => event("flight.departed", row.origin, row));
}

/** A week of earthquakes in order of time. */
export function earthquakes(): NewEvent[] {
  const { features } = read("earthquakes.json") as {
    features: { id: string; properties: { time: number } }[];
  };
  return features
    .toSorted((a, b) => a.properties.time - b.properties.time)
    .map((row) => event("earthquake.measured", row.id, row));
}

/** Times of years ago stay in the payload: retention counts from the time of the record. */
function event(type: string, key: string, row: object): NewEvent {
  return {
    key: Buffer.from(key),
    payload: Buffer.from(JSON.stringify(row)),
    headers: [],
    type,
    timeMs: undefined,
  };
}

function read(file: string): unknown {
  const data = join(import.meta.dirname, "..", "node_modules", "vega-datasets", "data");
  return JSON.parse(readFileSync(join(data, file), "utf8"));
}
