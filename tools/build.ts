/**
 * Bundles the programs into dist/ (or the folder given), as the image ships them: half the start-up time and two thirds
 * of the memory of the sources with all that their packages load. Not minified: an uncaught error would print
 * one line of a megabyte.
 *
 * What is left out of the Kafka client is what this project does not call: its schema registries, and
 * the JSON schema compiler that checks its callers' options (our own code is the only caller). Of the
 * Kubernetes client only its reading of a kubeconfig is used; its models of every kind are 4 MB, and most of the time
 * that bundling took.
 */
import { copyFileSync, cpSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { build, type Plugin } from "esbuild";

const root = join(import.meta.dirname, "..");
const dist = resolve(process.argv[2] ?? join(root, "dist"));
const modules = join(root, "node_modules");

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

rmSync(dist, { recursive: true, force: true });
await build({
  entryPoints: {
    sidecar: join(root, "sidecar/main.ts"),
    operator: join(root, "operator/main.ts"),
    injector: join(root, "operator/inject/main.ts"),
    sequencer: join(root, "sequencer/main.ts"),
  },
  outdir: dist,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  splitting: true,
  platform: "node",
  target: "node24",
  format: "esm",
  external: ["@node-rs/*", "protobufjs"],
  // CommonJS packages ask for Node's own modules by require, which a module does not have.
  banner: {
    js: 'import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);',
  },
  plugins: [leaner],
  logLevel: "warning",
});
copyFileSync(join(modules, "@platformatic/wasm-utils/dist/native.wasm"), join(dist, "native.wasm"));
copyFileSync(join(root, "sequencer/schema.sql"), join(dist, "schema.sql"));
// Native code: checksums by the processor's own instruction.
cpSync(join(modules, "@node-rs"), join(dist, "node_modules/@node-rs"), { recursive: true });
