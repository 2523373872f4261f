/**
 * What a term does again and again beside its work, a second after it was done last. Each deed is asked of one
 * peer and waits for no other deed: a beat that waited for Kafka would be late, and a standby takes over from one
 * whose beat is late (`ownership.ts`, O1).
 */
const PAUSE_MS = 1000;
const SILENT_MS = 15_000;

/**
 * One at a time, until it is stopped.
 * @param peer who is asked, for people.
 * @param broken told once: the deed has failed, or the peer has been silent for `SILENT_MS`. Of one that is gone
 *   without a word nothing else would tell.
 * @returns stops it; what is asked already goes on.
 */
export function eachSecond(
  peer: string,
  deed: () => Promise<unknown>,
  broken: (why: unknown) => void,
): () => void {
  let isOver = false;
  let timer: NodeJS.Timeout | undefined;
  const end = (): void => {
    isOver = true;
    clearTimeout(timer);
  };
  const fail = (why: unknown): void => {
    if (isOver) return;
    end();
    broken(why);
  };
  const next = (): void => {
    timer = setTimeout(() => {
      const silent = new Error(`${peer} has not answered for ${SILENT_MS} ms`);
      timer = setTimeout(() => fail(silent), SILENT_MS);
      deed().then(() => {
        clearTimeout(timer);
        if (!isOver) next();
      }, fail);
    }, PAUSE_MS);
  };
  next();
  return end;
}
