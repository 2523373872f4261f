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

  #take(): Asked<Q, A>[] {
    const batch = new Map<string, Asked<Q, A>>();
    const rest: Asked<Q, A>[] = [];
    for (const asked of this.#waiting) {
      const key = this.#keyOf(asked.question);
      if (batch.size < this.#most && !batch.has(key)) batch.set(key, asked);
      else rest.push(asked);
    }
    this.#waiting = rest;
    return [...batch.values()];
  }
}
