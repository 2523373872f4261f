// The files that take longest begin first, so that all workers end together: a fresh clone knows no times of
// an earlier run. The simulation, which only computes, takes a multiple in a process that ran other files before.
const { default: Sequencer } = require("@jest/test-sequencer");

const LONGEST = [
  "sim/dispatch-simulation",
  "story/leader-change",
  "kafka/outages",
  "story/kafka-outage",
  "story/disk-full",
  "story/clients",
  "local/start",
  "story/sessions",
  "story/named-publisher-network",
  "story/named-publisher",
  "kafka/secured",
  "story/handoff",
  "story/memory",
  "story/mirror",
  "story/members",
].map((name) => `/test/${name}.test.ts`);

module.exports = class extends Sequencer {
  sort(tests) {
    const place = ({ path }) => {
      const at = LONGEST.findIndex((name) => path.endsWith(name));
      return at < 0 ? LONGEST.length : at;
    };
    return super.sort(tests).sort((a, b) => place(a) - place(b));
  }
};
