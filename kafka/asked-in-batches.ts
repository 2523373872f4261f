/**
 * Questions of one kind that many ask at once: those that come while a request is under way travel together in
 * the next one. A lone question waits for nobody.
 */
interface Asked<Q, A> {
  readonly question: Q;
  readonly resolve: (answer: A) => void;
  readonly reject: (error: unknown) => void;
}

export class AskedInBatches<Q, A> {
  readonly #most: number;
  readonly #keyOf: (question: Q) => string;
  readonly #send: (questions: readonly Q[]) => Promise<(question: Q) => A>;
  #waiting: Asked<Q, A>[] = [];
  #isAsking = false;

  /**
   * @param most questions of one request.
   * @param keyOf two questions of one key are never in one request.
   * @param send resolves with what finds each one's answer; when it rejects, all of the request are rejected.
   */
  constructor(
    most: number,
    keyOf: (question: Q) => string,
    send: (questions: readonly Q[]) => Promise<(question: Q) => A>,
  ) {
    this.#most = most;
    this.#keyOf = keyOf;
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
   * Half are the earliest, so that none waits for ever, and half the latest: a single one goes with the next request,
   * however many were there before it.
   */
  #take(): Asked<Q, A>[] {
    const batch = new Map<string, Asked<Q, A>>();
    const add = (from: readonly Asked<Q, A>[], most: number): void => {
      for (const asked of from) {
        if (batch.size >= most) return;
        const key = this.#keyOf(asked.question);
        if (!batch.has(key)) batch.set(key, asked);
      }
    };
    add(this.#waiting, this.#most / 2);
    add(this.#waiting.toReversed(), this.#most);
    const taken = new Set(batch.values());
    this.#waiting = this.#waiting.filter((asked) => !taken.has(asked));
    return [...taken];
  }
}
