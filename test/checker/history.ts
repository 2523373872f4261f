/**
 * What a client of the checker writes down: everything it did and heard, one JSON line each, in the order in
 * which it happened. A line is on its way to the disk before the client does anything that follows from it,
 * so a client that was killed goes on from its own history.
 *
 * `at` is milliseconds of the machine's monotonic clock: the same for every process. Tokens are in base64.
 */
import { closeSync, existsSync, openSync, readFileSync, writeSync } from "node:fs";
import type { Admission } from "./judge/admission.ts";

export type What =
  /** First of each life of a client. */
  | { readonly kind: "client"; readonly role: Role; readonly topic: string; readonly pid: number }
  | {
      readonly kind: "open";
      readonly topic: string;
      readonly server: string;
      /** A token, or a word: earliest, latest. */
      readonly start: { readonly token: string } | "earliest" | "latest";
      /** The token was damaged, or is another topic's, on purpose. */
      readonly broken?: boolean;
      readonly admission?: Admission | undefined;
      readonly recovery: number;
      readonly session?: string;
      /** Absent: exclusive. */
      readonly mode?: "shared";
      readonly strict?: true;
      readonly instance?: string;
      readonly attempt?: number;
      readonly acks?: "explicit" | "credits";
    }
  | {
      readonly kind: "opened";
      readonly token: string;
      readonly partitions: number;
      /** 0 without a session, and while nothing is held. */
      readonly generation: number;
      readonly stored: string;
    }
  | {
      readonly kind: "batch";
      readonly partition: number;
      readonly offsets: readonly number[];
      /** See contentOf. */
      readonly events: readonly string[];
      readonly token: string;
      readonly marked: boolean;
    }
  | {
      readonly kind: "heartbeat";
      readonly token: string;
      readonly lag: number;
      readonly waits: number;
      readonly saved: string;
    }
  | {
      readonly kind: "notice";
      readonly notice: string;
      readonly token?: string;
      /** Assigned, Revoked. */
      readonly partitions?: readonly number[];
      readonly partition?: number;
      readonly from?: number;
      readonly to?: number;
      readonly by?: string;
    }
  /** What was acknowledged so far, by ack or by credit: partition and offset. */
  | { readonly kind: "ack"; readonly positions: readonly (readonly [number, number])[] }
  | { readonly kind: "credit"; readonly events: number }
  | { readonly kind: "leave" }
  | {
      readonly kind: "end";
      /** Name of the error; empty when the server ended the stream in order. */
      readonly error: string;
      readonly message: string;
      /** The client ended it. */
      readonly ours: boolean;
      readonly token?: string;
    }
  /** It stays away on purpose until it opens again. */
  | { readonly kind: "away" }
  /** What is asked of a session without a stream, and the answer: where it stands then. */
  | { readonly kind: "moves"; readonly move: "seek" | "forget" }
  | {
      readonly kind: "moved";
      readonly move: "seek" | "forget";
      readonly token: string;
      readonly error?: string;
    }
  /** The run is over; the stream was at the end of the log, or should have been. */
  | { readonly kind: "finished" }
  | {
      readonly kind: "sent";
      readonly events: readonly string[];
      /** Number of the first, of a named publisher. */
      readonly number?: number;
    }
  | {
      readonly kind: "acknowledged";
      readonly event: string;
      readonly number?: number;
      /** Absent where the answer was lost: it is in the topic. */
      readonly where?: readonly [number, number] | undefined;
    }
  | { readonly kind: "refused"; readonly events: readonly string[]; readonly error: string };

/** `once`: a client of the library, whose app is given each event once. */
export type Role = "raw" | "slow" | "once" | "publisher" | "named";
export type Line = What & { readonly at: number };

export interface History {
  readonly name: string;
  readonly lines: readonly Line[];
}

export function nowMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}

/** One string that tells an event from every other: value, key, type. */
export function contentOf(value: string, key: string, type: string): string {
  return `${value}|${key}|${type}`;
}

export class HistoryWriter {
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, "a");
    // The life before this one may have ended within a line.
    writeSync(this.#file, "\n");
  }

  write(what: What): void {
    writeSync(this.#file, `${JSON.stringify({ at: nowMs(), ...what })}\n`);
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** Without what a killed process wrote half. */
export function readHistory(path: string): Line[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .flatMap((text) => {
      if (!text.endsWith("}")) return [];
      try {
        return [JSON.parse(text) as Line];
      } catch {
        return [];
      }
    });
}
