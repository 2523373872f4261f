/** What the rows of this benchmark stand on. */
import type { Bed } from "../../sequencer/bed.ts";
import type { Launch } from "../../shipped.ts";
import type { Figure } from "../figures.ts";

export interface Bench {
  readonly bed: Bed;
  readonly launch: Launch;
  /** For files. */
  readonly folder: string;
  readonly runs: number;
  readonly withDebezium: boolean;
}

export type Row = (bench: Bench) => Promise<Figure[]>;
