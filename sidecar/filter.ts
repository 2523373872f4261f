/**
 * Filters: which encoded events a client admits. Works on the encoded bytes, so that one segment serves
 * filtered and unfiltered clients alike.
 */
import type { Filter } from "../proto/gen/throughline/v1/throughline.ts";
import { Failure } from "./failure.ts";

const MAX_TERMS = 1000;

/** Whether the event whose message is bytes[start, end) passes. */
export type Admits = (bytes: Buffer, start: number, end: number) => boolean;

/** @returns undefined when everything passes. @throws Failure INVALID_REQUEST */
export function compileFilter(filter: Filter | undefined): Admits | undefined {
  if (!filter) return undefined;
  const { keys, types, headers } = filter;
  if (keys.length + types.length + headers.length === 0) return undefined;
  if (keys.length + types.length + headers.length > MAX_TERMS) {
    throw new Failure("INVALID_REQUEST", `filter: at most ${MAX_TERMS} keys, types and headers.`);
  }
  for (const [i, header] of headers.entries()) {
    if (header.key === "") {
      throw new Failure("INVALID_REQUEST", `filter.headers[${i}].key: must not be empty.`);
    }
  }
  const keySet = new Set(keys.map((key) => key.toString("latin1")));
  const typeSet = new Set(types);
  const wanted = headers.map((header) => `${header.key}\0${header.value.toString("latin1")}`);
  return (bytes, start, end) => {
    let keyOk = keySet.size === 0;
    let typeOk = typeSet.size === 0;
    const found = new Set<string>();
    let at = start;
    while (at < end) {
      const tag = bytes[at++] as number;
      const wire = tag & 7;
      if (wire === 1) at += 8;
      else if (wire === 0) at = skipVarint(bytes, at);
      else {
        const [length, from] = readVarint(bytes, at);
        at = from + length;
        if (tag === 0x0a && !keyOk) keyOk = keySet.has(bytes.toString("latin1", from, at));
        else if (tag === 0x32 && !typeOk) typeOk = typeSet.has(bytes.toString("utf8", from, at));
        else if (tag === 0x2a && wanted.length > 0) found.add(headerText(bytes, from, at));
      }
    }
    return keyOk && typeOk && wanted.every((header) => found.has(header));
  };
}

function headerText(bytes: Buffer, start: number, end: number): string {
  let key = "";
  let value = "";
  let at = start;
  while (at < end) {
    const tag = bytes[at++];
    const [length, from] = readVarint(bytes, at);
    at = from + length;
    if (tag === 0x0a) key = bytes.toString("utf8", from, at);
    else value = bytes.toString("latin1", from, at);
  }
  return `${key}\0${value}`;
}

function skipVarint(bytes: Buffer, at: number): number {
  let to = at;
  while ((bytes[to++] as number) >= 128);
  return to;
}

function readVarint(bytes: Buffer, at: number): [value: number, next: number] {
  let to = at;
  let value = 0;
  let scale = 1;
  for (;;) {
    const byte = bytes[to++] as number;
    value += (byte & 127) * scale;
    if (byte < 128) return [value, to];
    scale *= 128;
  }
}
