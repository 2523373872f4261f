/**
 * Images without a registry or a builder: a tar as `docker save` writes it. On a base of this machine's own files
 * (Node, a shell, their libraries) there are the product's, as the Dockerfile makes it, and those of the tests.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  createReadStream,
  globSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { build } from "esbuild";
import { shipped } from "../shipped.ts";

const ROOT = join(import.meta.dirname, "../..");
const REGISTRY = "docker.io/library";
export const PAUSE = `${REGISTRY}/pause:test`;
/** Of the product's image: a release, and the next one, which is the same program. */
export const TAGS = ["test", "next"] as const;

interface Layer {
  readonly file: string;
  readonly sha256: string;
}

interface Image {
  readonly names: readonly string[];
  readonly layers: readonly Layer[];
  readonly entry: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** @returns a tar with `throughline` by each of its tags, `app:test` and the pause image. */
export async function makeImages(folder: string): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const product = shipped(join(folder, "product"));
  const native = globSync(join(product.folder, "dist/**/*.node"));
  const base = await baseLayer(folder, native);
  const server = await layer(folder, "product", ["-C", product.folder, "dist"], "^dist,app/dist");
  const app = join(folder, "app.mjs");
  await build({
    ...{ entryPoints: [join(import.meta.dirname, "app.ts")], outfile: app, bundle: true },
    ...{ platform: "node", target: "node24", format: "esm", logLevel: "warning" },
    banner: {
      js: 'import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);',
    },
  });
  const apps = await layer(folder, "apps", ["-C", folder, "app.mjs"], "^app.mjs,app/app.mjs");
  const images: Image[] = [
    { names: [PAUSE], layers: [base], entry: ["sleep", "infinity"] },
    {
      ...{ names: TAGS.map((tag) => `${REGISTRY}/throughline:${tag}`), layers: [base, server] },
      entry: ["node", ...product.command],
      environment: product.environment,
    },
    { names: [`${REGISTRY}/app:test`], layers: [base, apps], entry: ["node", "app.mjs"] },
  ];
  return saved(folder, images);
}

/**
 * Node, and what the Dockerfile's base has of which pods make use.
 * @param native modules, for which it has the libraries.
 */
async function baseLayer(folder: string, native: readonly string[]): Promise<Layer> {
  const node = realpathSync(join(ROOT, "node_modules/.bin/node"));
  const programs = [node, "/bin/sh", "/bin/sleep"];
  const libraries = [...programs, ...native].flatMap((program) => {
    const told = execFileSync("ldd", [program], { encoding: "utf8" });
    return [...told.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path as string);
  });
  const files = [...new Set([...programs, ...libraries])].map((path) => path.slice(1));
  return layer(folder, "base", ["-C", "/", ...files], `^${node.slice(1)}$,bin/node`);
}

/** @param rename as `from,to` of tar's --transform. */
async function layer(
  folder: string,
  name: string,
  what: readonly string[],
  rename: string,
): Promise<Layer> {
  const file = `${name}.tar`;
  execFileSync("tar", [
    ...["--create", `--file=${join(folder, file)}`, "--dereference", "--sort=name"],
    ...["--owner=0", "--group=0", "--mode=a+rX", `--transform=s,${rename},`, ...what],
  ]);
  const hash = createHash("sha256");
  await pipeline(createReadStream(join(folder, file)), hash);
  return { file, sha256: hash.digest("hex") };
}

function saved(folder: string, images: readonly Image[]): string {
  const dockerfile = readFileSync(join(ROOT, "Dockerfile"), "utf8");
  const last = (word: string): string | undefined =>
    [...dockerfile.matchAll(new RegExp(`^${word} (.*)$`, "gm"))].at(-1)?.[1];
  const manifest = images.map(({ names, layers, entry, environment = {} }, i) => {
    const variables = Object.entries({ PATH: "/bin", ...environment });
    const config = {
      ...{ architecture: "amd64", os: "linux" },
      config: {
        ...{ Entrypoint: entry, User: last("USER"), WorkingDir: last("WORKDIR") },
        Env: variables.map(([variable, value]) => `${variable}=${value}`),
      },
      rootfs: { type: "layers", diff_ids: layers.map(({ sha256 }) => `sha256:${sha256}`) },
    };
    writeFileSync(join(folder, `config-${i}.json`), JSON.stringify(config));
    return {
      Config: `config-${i}.json`,
      RepoTags: names,
      Layers: layers.map(({ file }) => file),
    };
  });
  writeFileSync(join(folder, "manifest.json"), JSON.stringify(manifest));
  const tar = join(folder, "images.tar");
  const files = new Set(manifest.flatMap(({ Config, Layers }) => [Config, ...Layers]));
  execFileSync("tar", ["--create", `--file=${tar}`, "-C", folder, "manifest.json", ...files]);
  return tar;
}
