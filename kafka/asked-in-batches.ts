/**
 * Questions of one kind that many ask at once: those that come while a request is under way travel together in
 * the next one. A lone question waits for nobody, and one of another group than a thousand goes with the next request.
 */
interface Asked<Q, A> {
  readonly question: Q;
  readonly resolve: (answer: A) => void;
  readonly reject: (error: unknown) => void;
}

export interface BatchRules<Q> {
  /** Questions of one request. */
  readonly most: number;
  /** Two questions of one key are never in one request. */
  readonly keyOf: (question: Q) => string;
  /** Groups have turns in a request. */
  readonly groupOf: (question: Q) => string;
}

export class AskedInBatches<Q, A> {
  readonly #rules: BatchRules<Q>;
  readonly #send: (questions: readonly Q[]) => Promise<(question: Q) => A>;
  #waiting: Asked<Q, A>[] = [];
  #isAsking = false;

  /** @param send resolves with what finds each one's answer; when it rejects, all of the request are rejected. */
  constructor(
    rules: BatchRules<Q>,
    send: (questions: readonly Q[]) => Promise<(question: Q) => A>,
  ) {
    this.#rules = rules;
    this.#send = send;
  }

  ask(question: Q): Promise<A> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ question, resolve, reject });
      if (!this.#isAsking) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#isAsking = true;
    // Those of this turn are asked together.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#take();
      try {
        const answerTo = await this.#send(batch.map(({ question }) => question));
        for (const { question, resolve } of batch) resolve(answerTo(question));
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#isAsking = false;
  }

  /**
   * One of each group in turn, its earliest, so that none waits for ever, and its latest by turns: a single one goes
   * with the next request, however many were there before it.
   */
  #take(): Asked<Q, A>[] {
    const { most, keyOf, groupOf } = this.#rules;
    const batch = new Map<string, Asked<Q, A>>();
    for (const asked of inTurns(this.#waiting, groupOf)) {
      const key = keyOf(asked.question);
      if (!batch.has(key)) batch.set(key, asked);
      if (batch.size === most) break;
    }
    const taken = new Set(batch.values());
    this.#waiting = this.#waiting.filter((asked) => !taken.has(asked));
    return [...taken];
  }
}

function* inTurns<Q, A>(
  waiting: readonly Asked<Q, A>[],
  groupOf: (question: Q) => string,
): Generator<Asked<Q, A>> {
  const groups = Map.groupBy(waiting, ({ question }) => groupOf(question));
  for (let turn = 0; groups.size > 0; turn++) {
    for (const [group, left] of groups) {
      const asked = turn % 2 === 0 ? left.shift() : left.pop();
      if (asked === undefined) groups.delete(group);
      else yield asked;
    }
  }
}
