/**
 * House rules, each with its reason: who breaks one is told why it is there and what to do instead.
 * What the formatter, the linter and the compiler see is not repeated here; generated code is compared in
 * generated.test.ts.
 */
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, test } from "@jest/globals";
import { ROOT, type SourceFile, sourceFiles } from "./source-files.ts";

const files = sourceFiles();
const byPath = new Map(files.map((file) => [file.path, file]));
const isTest = ({ room }: SourceFile): boolean => room === "test";
const product = files.filter(({ room }) => room !== "test" && room !== "tools");
// Benchmarks are judged from the day that `npm run bench` has something to run.
const judged = files.filter(
  ({ path }) => !path.startsWith("test/bench/") || byPath.has("test/bench/run.ts"),
);
const readme = readFileSync(join(ROOT, "README.md"), "utf8");

/** A rule is broken when anything is found. */
function rule(why: string, found: readonly string[]): void {
  if (found.length > 0) throw new Error(`${why}\n\n${[...new Set(found)].sort().join("\n")}\n`);
}

/** What each room may import of the others. Operator, sidecar, sequencer and client meet in data. */
const ROOMS: Record<string, readonly string[]> = {
  proto: [],
  kafka: [],
  process: [],
  sidecar: ["kafka", "proto", "process"],
  operator: ["kafka", "proto", "process"],
  sequencer: ["kafka", "proto", "process"],
  client: ["proto"],
  // Servers are run as processes, as in a cluster: that is what the demo kills.
  local: ["kafka", "operator", "client", "proto"],
  tools: ["operator", "sidecar", "proto"],
  test: [
    ...["proto", "kafka", "process", "sidecar", "operator", "sequencer", "client", "local"],
    "tools",
  ],
};

test("each room imports only what it may", () => {
  rule(
    "Operator, sidecar, sequencer and client never import each other: they meet in data (the catalog, tokens, " +
      "the contract), so that each can be of another release. kafka/ knows nobody. A new room says here what it may.",
    files.flatMap(({ path, room, imports }) => {
      const allowed = ROOMS[room];
      if (!allowed) return [`${path}: there is no room ${room}/ in ROOMS of test/tidy.test.ts.`];
      return imports
        .filter(({ ours, of }) => ours && of.includes("/"))
        .map(({ of }) => ({ of, other: of.split("/")[0] as string }))
        .filter(({ other }) => other !== room && !allowed.includes(other))
        .map(
          ({ of }) =>
            `${path} imports ${of}: ${room}/ may import ${allowed.join(", ") || "no other room"}.`,
        );
    }),
  );
});

/** Who may import a package at run time; its types may be named anywhere in a room that may. */
const DRIVERS: Record<string, RegExp> = {
  "@platformatic/kafka": /^kafka\//,
  "@node-rs/crc32": /^kafka\//,
  "@kubernetes/client-node": /^operator\/kube\/kube-config\.ts$/,
  "@grpc/grpc-js": /^(sidecar|client|tools)\//,
  "@bufbuild/protobuf": /^sidecar\/descriptors\.ts$/,
  pino: /^\w+\/logger\.ts$/,
  "@prometheus-io/client": /^\w+\/metrics\.ts$/,
  yaml: /^local\/topic-documents\.ts$|^tools\/(generate-crds|chart-values)\.ts$/,
  ajv: /^operator\/validate\.ts$/,
  "@marcbachmann/cel-js": /^operator\/validate\.ts$/,
  // What the redis package wraps, without its modules for search and the like.
  "@redis/client": /^sidecar\/sessions\/redis-link\.ts$/,
  // An app's connection, for the demo, beside the sequencer's.
  pg: /^sequencer\/postgres\.ts$|^local\/postgres-client\.ts$/,
  selfsigned: /^operator\/inject\/certificate\.ts$/,
  // The witness: it judges the product and is no part of it.
  kafkajs: /^local\/demo-audit\.ts$/,
  esbuild: /^tools\//,
  // Jest brings them and loads ours instead.
  "jest-environment-node": /^tools\/jest-environment\.cjs$/,
  "@jest/test-sequencer": /^tools\/jest-sequencer\.cjs$/,
};

test("each third-party package is imported in one place", () => {
  rule(
    "A package behind one file can be replaced, and pinned by one test. Import the file that has it; a new " +
      "package gets a line in DRIVERS of test/tidy.test.ts and one file that imports it.",
    files
      .filter((file) => !isTest(file))
      .flatMap(({ path, imports }) =>
        imports
          .filter(({ ours, of, typesOnly }) => !ours && !of.startsWith("node:") && !typesOnly)
          .filter(({ of }) => !DRIVERS[packageOf(of)]?.test(path))
          .map(
            ({ of }) =>
              `${path} imports ${of}; its place is ${DRIVERS[packageOf(of)] ?? "not said"}.`,
          ),
      ),
  );
});

function packageOf(specifier: string): string {
  return /^(@[^/]+\/)?[^/]+/.exec(specifier)?.[0] ?? specifier;
}

test("Kafka itself is chosen only where a process is put together", () => {
  rule(
    "Everything else takes a Log (kafka/log.ts) and so runs on the log in memory too. Outside of kafka/ only that " +
      "port and what reads its bytes are imported.",
    product
      .filter(({ room }) => room !== "kafka")
      .flatMap(({ path, imports }) =>
        imports
          .filter(({ of }) => of.startsWith("kafka/"))
          .filter(({ of }) => !/^kafka\/(log|records|scan)\.ts$/.test(of))
          .filter(
            ({ of }) =>
              of !== "kafka/kafka-log.ts" || !/\/main\.ts$|^local\/throughline\.ts$/.test(path),
          )
          .map(({ of }) => `${path} imports ${of}.`),
      ),
  );
});

/** Their tests need a Kafka that is harmed, is made of three brokers or lets only some in; or they are no tests. */
const OWN_KAFKA =
  /^test\/(bench|checker|cluster|pods)\/|^test\/kafka-[\w-]+\.ts$|^test\/kafka\/(missing-markers|outages|secured)\.test\.ts$|^test\/(sequencer|story)\/bed\.ts$/;

test("tests that do Kafka no harm share one", () => {
  rule(
    "A broker costs more to start than most files do with it. Open a part of the one that all have " +
      "(test/kafka-part.ts); a file that kills, freezes or fills brokers gets its place in OWN_KAFKA of " +
      "test/tidy.test.ts.",
    files
      .filter((file) => isTest(file) && !OWN_KAFKA.test(file.path))
      .filter(({ imports }) =>
        imports.some(
          ({ of, names }) => of === "local/embedded-kafka.ts" && names?.includes("startKafka"),
        ),
      )
      .map(({ path }) => `${path} starts one of its own.`),
  );
});

test("only config.ts reads the environment", () => {
  rule(
    "Configuration is read once, at the start, in a file that checks it and names every error. Take the value " +
      "as a parameter.",
    product
      .filter(({ path }) => basename(path) !== "config.ts")
      .filter(({ code }) => /\bprocess\.env\b/.test(code))
      .map(({ path }) => `${path} reads process.env.`),
  );
});

const WORLD =
  /\b(Date\.now|new Date\(\)|performance\.now|Math\.random|setTimeout|setInterval|setImmediate|process\.\w+|randomBytes|randomUUID)\b/g;

test("the world comes in by the door", () => {
  const doors = /^sidecar\/(server|main|config)\.ts$/;
  const isPure = ({ path, text }: SourceFile): boolean =>
    (path.startsWith("sidecar/") && !doors.test(path)) ||
    /^\/\*\*[^/]*?(\(pure\)|\bPure[.:])/.test(text);
  rule(
    "In sidecar/ time, chance and timers are parameters, made in server.ts: the simulation drives the very same " +
      "code in virtual time. A file whose head says that it is pure must be.",
    product
      .filter(isPure)
      .flatMap(({ path, code }) =>
        Array.from(code.matchAll(WORLD), ([what]) => `${path} calls ${what}.`),
      ),
  );
  rule(
    "Dispatchers do no input or output of their own: what they need comes by DispatchHost.",
    product
      .filter(({ path }) => path.startsWith("sidecar/dispatch/"))
      .flatMap(({ path, imports }) =>
        imports
          .filter(({ ours, of }) => !ours && of !== "node:buffer")
          .map(({ of }) => `${path} imports ${of}.`),
      ),
  );
});

test("files are named after the question that they answer", () => {
  const drawer = /(^|[-.])(utils?|helpers?|common|shared|managers?|misc|stuff|lib)([-.]|$)/;
  rule(
    "A drawer (utils, helpers, common, manager, misc) collects what nobody finds again, a barrel (index.ts) hides " +
      "where a name comes from and loads all for one. Put it where it is used, or name what it is.",
    files.flatMap(({ path }) => {
      const names = path.split("/").map((name) => name.replace(/(\.test)?\.\w+$/, ""));
      return names.some((name) => name === "index" || drawer.test(name)) ? [path] : [];
    }),
  );
});

const LONG_LINES = 250;
const MAX_LINES = 400;

test(`no file is longer than ${MAX_LINES} lines`, () => {
  const long = files.filter(({ lines }) => lines > LONG_LINES).sort((a, b) => b.lines - a.lines);
  if (long.length > 0) {
    const list = long.map(({ path, lines }) => `${lines} ${path}`).join("\n");
    console.warn(
      `Longer than ${LONG_LINES} lines; before one grows, look for two questions in it:\n${list}`,
    );
  }
  rule(
    "A file answers one question and is read from top to bottom. Split it by question, not by size.",
    long
      .filter(({ lines }) => lines > MAX_LINES)
      .map(({ path, lines }) => `${path} has ${lines} lines.`),
  );
});

/** Where the product is entered, and the twins of its seams, whose users are tests. */
const ENTRIES =
  /^\w+(\/inject)?\/main\.ts$|^tools\/generate-crds\.ts$|^local\/demo\.ts$|^client\/client\.ts$|^kafka\/memory-log\.ts$|^sidecar\/sessions\/memory-store\.ts$/;

function reachedFrom(entries: readonly SourceFile[]): Set<string> {
  const reached = new Set<string>();
  const visit = (file: SourceFile | undefined): void => {
    if (!file || reached.has(file.path)) return;
    reached.add(file.path);
    for (const path of file.mentions) visit(byPath.get(path));
  };
  for (const file of entries) visit(file);
  return reached;
}

test("no dead files: everything is reached from where the product or a test is entered", () => {
  const live = reachedFrom(files.filter(({ path }) => ENTRIES.test(path)));
  rule(
    "What no process and no client reaches is dead, also when a test still calls it. Delete it; git keeps it.",
    product.filter(({ path }) => !live.has(path)).map(({ path }) => path),
  );
  const run =
    /\.(test|cluster|pods)\.ts$|^test\/tiers\.ts$|^test\/((bench(\/(operator|sequencer))?|checker(\/sequencer)?|cluster|pods)\/)?run\.ts$/;
  const used = reachedFrom(files.filter(({ path, room }) => run.test(path) || room === "tools"));
  rule(
    "What no test, no benchmark and no checker reaches is dead.",
    judged.filter((file) => isTest(file) && !used.has(file.path)).map(({ path }) => path),
  );
});

test("no dead exports: what is exported, somebody imports", () => {
  const isImported = (path: string, name: string): boolean =>
    files.some(({ imports }) =>
      imports.some(({ of, names }) => of === path && (names === undefined || names.includes(name))),
    );
  rule(
    "An export is a promise to others. Without an importer drop the keyword, or delete it when nothing in its " +
      "own file uses it either. (A type may be exported with what uses it.)",
    judged
      .filter(({ path, room }) => room !== "tools" && path !== "client/client.ts")
      .flatMap(({ path, code, exports }) =>
        exports.flatMap(({ name, isType }) => {
          const inside = (code.match(new RegExp(`\\b${name}\\b`, "g")) ?? []).length > 1;
          if (isImported(path, name) || (isType && inside)) return [];
          return [`${path}: ${name} is used ${inside ? "here only" : "nowhere"}.`];
        }),
      ),
  );
});

test("each promise of the README is cited where it is kept and where it is tested", () => {
  const rows = readme.split("\n").filter((line) => /^\| P\d+ \|/.test(line));
  const promises = rows.map((row) =>
    row
      .split("|")
      .map((cell) => cell.trim())
      .slice(1, 5),
  );
  expect(promises.map(([number]) => number)).toEqual(
    Array.from({ length: 10 }, (_, i) => `P${i + 1}`),
  );
  const served = promises.filter(([, , kept]) => kept !== "not in this release");
  rule(
    "A promise is kept at a known place and by a test that fails without it: write its number in a comment at the " +
      "code that keeps it and in the test's name or head. README's table names both.",
    served.flatMap(([number = "", , kept = "", tested = ""]) => {
      const cites = (prefix: string): boolean =>
        files.some(
          ({ path, text }) => path.startsWith(prefix) && new RegExp(`\\b${number}\\b`).test(text),
        );
      const places = [...`${kept} ${tested}`.matchAll(/`([^`]+)`/g)].map(
        ([, place]) => place as string,
      );
      const without = places.filter((place) => !cites(place));
      const testless = tested.includes("`test/") ? [] : [`${number} names no test.`];
      return [...without.map((place) => `${number} is not cited in ${place}.`), ...testless];
    }),
  );
});

test("the README names only files that exist", () => {
  const code = readme.replace(/```[\s\S]*?```/g, "");
  const paths = [...code.matchAll(/`((?:\w+\/)+[\w.-]*)`/g)].map(([, path]) => path as string);
  rule(
    "Who follows a path from the README must arrive.",
    paths.filter((path) => !existsSync(join(ROOT, path))).map((path) => `README.md: ${path}`),
  );
});

test("nothing is left for later, and no test is left out", () => {
  rule(
    "What is left to do is an issue with a reason; a comment rots.",
    files.flatMap(({ path, text }) =>
      Array.from(
        text.matchAll(/\b(TO[D]O|FIX[M]E|XX[X]|HAC[K])\b/g),
        ([mark]) => `${path}: ${mark}`,
      ),
    ),
  );
  rule(
    "A test that does not run proves nothing: mend it or delete it.",
    files
      .filter(isTest)
      .flatMap(({ path, code }) =>
        Array.from(
          code.matchAll(
            /\b(?:test|it|describe)(?:\.each)?\.(?:only|skip|todo|failing)\b|\b(?:xit|xtest|fit|fdescribe|xdescribe)\(/g,
          ),
          ([what]) => `${path}: ${what}`,
        ),
      ),
  );
  rule(
    "No sleeps in tests: they are too short on a busy machine and too long on an idle one. Wait for an event, or " +
      "use virtual time. (A benchmark may keep a pace, and the checker's clients and schedule do.)",
    files
      .filter(
        (file) => isTest(file) && !/^test\/(bench|checker)\/(?!.*\.test\.ts$)/.test(file.path),
      )
      .flatMap(({ path, code }) =>
        Array.from(
          code.matchAll(/new Promise[^;]*?\bsetTimeout\(|node:timers\/promises|\bAtomics\.wait\b/g),
          ([what]) => `${path}: ${what}`,
        ),
      ),
  );
});

test("each product file begins with what it is", () => {
  rule(
    "The top of a file is its map: what it is, its neighbours, its invariants, what it does not do.",
    files
      .filter((file) => !isTest(file) && !/^(\/\*\*|\/\/) ?\S?/.test(file.text))
      .map(({ path }) => path),
  );
});
