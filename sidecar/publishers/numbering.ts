/**
 * What a number means beside the last one that is in the topic. Pure, and injected, so that a test can
 * break it on purpose and see a checker find the duplicate or the hole.
 */
export type Numbered = "next" | "already-there" | "jump";

export interface NumberingRules {
  judge(number: number, last: number): Numbered;
}

export const NUMBERING: NumberingRules = {
  judge: (number, last) => {
    if (number <= last) return "already-there";
    return number === last + 1 ? "next" : "jump";
  },
};
