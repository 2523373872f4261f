/** Time as a parameter: a program's own clocks, which tests replace by a virtual one. */
export interface Clock {
  now(): number;
  /** @returns cancels the timer. */
  setTimer(ms: number, fire: () => void): () => void;
}

export const WALL_CLOCK: Clock = { now: () => Date.now(), setTimer };
/** For judging delays: the wall clock may be set while a program runs. */
export const STEADY_CLOCK: Clock = { now: () => performance.now(), setTimer };

function setTimer(ms: number, fire: () => void): () => void {
  const timer = setTimeout(fire, ms);
  return () => clearTimeout(timer);
}
