/** What an Outbox needs on one machine: its PostgreSQL, embedded or given, with the schema, and its sequencers. */
import { createHash } from "node:crypto";
import { existsSync, lstatSync, mkdirSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { startPostgres, UNPRIVILEGED } from "./embedded-postgres.ts";
import { restarting } from "./restarts.ts";
import { migrate, type OutboxIdentity, SequencerProcess } from "./sequencer-process.ts";
import { makeTemporaryDatabase } from "./temporary-database.ts";

export interface OutboxOptions {
  readonly name: string;
  /** Undefined: one of its own. */
  readonly postgresUrl: string | undefined;
  /** As messages name them: one works, the others stand by. */
  readonly sequencers: readonly string[];
}

export interface OutboxPlace {
  readonly directory: string;
  readonly deploymentId: string;
  readonly clusterUid: string;
  readonly namespace: string;
  /** The database goes at the end. */
  readonly temporary?: boolean;
  readonly onLine: (line: string) => void;
}

/**
 * The database with the schema in it.
 * @param stops gets the ends of what is started. @throws with the next step.
 */
export async function openOutboxDatabase(
  { name: outbox, postgresUrl }: OutboxOptions,
  { directory, deploymentId, clusterUid, namespace, temporary, onLine }: OutboxPlace,
  stops: (() => unknown)[],
): Promise<OutboxIdentity> {
  let databaseUrl = postgresUrl ?? (await embedded(directory, stops, onLine));
  if (temporary) {
    const name = `throughline_${deploymentId.replaceAll("-", "_")}`;
    const database = await makeTemporaryDatabase(databaseUrl, name, clusterUid);
    stops.push(() => database.drop());
    databaseUrl = database.url;
  }
  const identity = { outbox, deploymentId, namespace, databaseUrl, directory };
  await migrate(identity, onLine);
  return identity;
}

export async function startSequencers(
  { sequencers }: OutboxOptions,
  of: OutboxIdentity,
  brokers: readonly string[],
  stops: (() => unknown)[],
  onLine: (line: string) => void,
): Promise<SequencerProcess[]> {
  const all = sequencers.map((name) => new SequencerProcess({ ...of, name, brokers, onLine }));
  stops.push(() => Promise.all(all.map((sequencer) => sequencer.stop())));
  for (const sequencer of all) await sequencer.start();
  return all;
}

async function embedded(
  directory: string,
  stops: (() => unknown)[],
  onLine: (line: string) => void,
): Promise<string> {
  const folder = postgresFolder(directory);
  if (dirname(folder) !== directory) {
    onLine(`PostgreSQL runs as a user who cannot reach ${directory}: its data is in ${folder}`);
    assertOurs(folder);
  }
  const postgres = await startPostgres({
    directory: folder,
    onProgress: onLine,
    ownGroup: true,
    onUnexpectedEnd: (how) => void revive(how),
  });
  const revive = restarting("PostgreSQL", () => postgres.restart(), onLine);
  stops.push(() => postgres.stop());
  return postgres.url;
}

/**
 * Where the embedded PostgreSQL keeps its data. Under root it runs as another user, to whom a home directory
 * is often closed: then it is among the temporary files, at the same place each time.
 * @param directory is there.
 */
export function postgresFolder(directory: string): string {
  if (process.getuid?.() !== 0 || isReachable(directory)) return join(directory, "postgres");
  const digest = createHash("sha256").update(directory).digest("hex").slice(0, 16);
  return join(tmpdir(), `throughline-postgres-${digest}`);
}

/** Anybody may write to the folder of temporary files. @throws when somebody else has made it. */
function assertOurs(folder: string): void {
  if (!existsSync(folder)) mkdirSync(folder);
  const { uid } = lstatSync(folder);
  if (lstatSync(folder).isDirectory() && [0, UNPRIVILEGED].includes(uid)) return;
  throw new Error(
    `${folder} is somebody else's: remove it, or name a running PostgreSQL in POSTGRES_URL.`,
  );
}

/** By everybody. */
function isReachable(folder: string): boolean {
  const above = dirname(folder);
  return (statSync(folder).mode & 0o001) !== 0 && (above === folder || isReachable(above));
}
