/**
 * How bundles are made, and what they leave out of packages. Of the Kafka client it is what this project does not call:
 * its schema registries, and the JSON schema compiler that checks its callers' options (our own code is the only
 * caller). Of the Kubernetes client only its reading of a kubeconfig is used; its models of every kind are 4 MB, and
 * most of the time that bundling took.
 */
import { copyFileSync, symlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { build, type Plugin } from "esbuild";

const MODULES = join(import.meta.dirname, "../node_modules");

const SCHEMA_COMPILER = `
  const passes = () => Object.assign(() => true, { errors: null });
  export class Ajv2020 {
    addKeyword() { return this; }
    compile() { return passes(); }
    errorsText() { return ""; }
  }`;

/** By the end of a module's path: what it is instead. */
const INSTEAD: Readonly<Record<string, string>> = {
  "@platformatic/kafka/dist/registries/index.js": "",
  "ajv/dist/2020.js": SCHEMA_COMPILER,
  "@kubernetes/client-node/dist/index.js": 'export { KubeConfig } from "./config.js";',
  "@kubernetes/client-node/dist/gen/index.js":
    'export * from "./configuration.js"; export * from "./servers.js";',
};

const leaner: Plugin = {
  name: "leaner",
  setup(builder) {
    for (const [path, contents] of Object.entries(INSTEAD)) {
      const filter = new RegExp(`/node_modules/${path.replaceAll(".", "\\.")}$`);
      builder.onLoad({ filter }, ({ path: found }) => ({
        contents,
        resolveDir: dirname(found),
      }));
    }
    // What is not used of it is left out: loading it does nothing else.
    builder.onResolve(
      { filter: /^@platformatic\/kafka$/ },
      async ({ path, pluginData, ...how }) => {
        const { kind, resolveDir, importer } = how;
        if (pluginData === leaner) return undefined;
        const found = await builder.resolve(path, {
          kind,
          resolveDir,
          importer,
          pluginData: leaner,
        });
        return { ...found, sideEffects: false };
      },
    );
  },
};

/**
 * Bundles each entry point into `<outdir>/<name>.mjs`.
 * @param outdir a folder called dist: the Kafka client looks for its WASM in `../dist`.
 * @param splitting what several of them load is a file of its own.
 */
export async function bundle(of: {
  readonly entryPoints: Record<string, string>;
  readonly outdir: string;
  readonly splitting: boolean;
}): Promise<void> {
  await build({
    ...of,
    bundle: true,
    platform: "node",
    target: "node24",
    format: "esm",
    outExtension: { ".js": ".mjs" },
    external: ["@node-rs/*", "protobufjs"],
    // CommonJS packages ask for Node's own modules by require, which a module does not have.
    banner: {
      js: 'import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);',
    },
    plugins: [leaner],
    logLevel: "warning",
  });
  const wasm = join(MODULES, "@platformatic/wasm-utils/dist/native.wasm");
  copyFileSync(wasm, join(of.outdir, "native.wasm"));
}

/** Of these a program loads hundreds of modules. */
const LARGE = ["@platformatic/kafka", "@kubernetes/client-node"];

/** Makes one module of each large package, as lean as the programs have it. @returns the files, by package. */
export async function leanPackages(folder: string): Promise<Record<string, string>> {
  const dist = join(folder, "dist");
  const made = LARGE.map(
    (name) => [name, basename(name), `${MODULES}/${name}/dist/index.js`] as const,
  );
  const entryPoints = Object.fromEntries(made.map(([, file, from]) => [file, from]));
  await bundle({ entryPoints, outdir: dist, splitting: false });
  // What is not bundled is found here.
  symlinkSync(MODULES, join(folder, "node_modules"));
  return Object.fromEntries(made.map(([name, file]) => [name, join(dist, `${file}.mjs`)]));
}
