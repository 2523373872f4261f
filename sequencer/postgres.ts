/**
 * Connections to PostgreSQL; the only file that imports its driver. A connection for SQL, and one for
 * replication, whose socket `replication.ts` takes over.
 *
 * Neither may go through a pooler: the lock that keeps a second sequencer away belongs to a session.
 */
import pg, { type Client } from "pg";
import { FailClosed } from "./fail-closed.ts";
import { Hindered } from "./state.ts";

export interface DatabaseAddress {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string | undefined;
  readonly tls: { readonly ca?: Buffer } | undefined;
}

const CONNECT_MS = 10_000;
/** How long an end that is gone without a word is taken for alive, by either side. */
const SILENT_MS = 10_000;
/** The stamping statement is known: what the planner guesses of it would only cost. */
const SQL_SETTINGS = `set synchronous_commit = on; set jit = off; set enable_hashjoin = off;
  set enable_mergejoin = off; set enable_seqscan = off; set plan_cache_mode = force_generic_plan;
  set tcp_user_timeout = ${SILENT_MS}; set idle_in_transaction_session_timeout = ${SILENT_MS}`;

/** @throws FailClosed, or what PostgreSQL or the network said. */
export async function openSql(address: DatabaseAddress): Promise<Client> {
  const client = await connect(address, {});
  await client.query(SQL_SETTINGS);
  return client;
}

/** @throws FailClosed, or what PostgreSQL or the network said. */
export async function openReplication(address: DatabaseAddress): Promise<Client> {
  const options = `-c wal_sender_timeout=${SILENT_MS} -c tcp_user_timeout=${SILENT_MS}`;
  // The types do not know it; the client does.
  return connect(address, { replication: "database", options } as pg.ClientConfig);
}

async function connect(
  { host, port, database, user, password, tls }: DatabaseAddress,
  more: pg.ClientConfig,
): Promise<Client> {
  const client = new pg.Client({
    ...{ host, port, database, user, password: password ?? "", ssl: tls ?? false },
    ...{ application_name: "throughline-sequencer", client_encoding: "UTF8", keepAlive: true },
    ...{ connectionTimeoutMillis: CONNECT_MS, ...more },
  });
  // Said where the connection is used; without a listener it would be an exception.
  client.on("error", () => {});
  try {
    await client.connect();
  } catch (error) {
    const { message, code } = error as Error & { code?: string };
    if (/unsupported startup parameter/.test(message))
      throw new FailClosed(
        "Pooler",
        `${host}:${port} is a connection pooler (${message}), and poolers do not replicate. Name PostgreSQL itself in --database.`,
      );
    if (code === "42501")
      throw new FailClosed(
        "RightsMissing",
        `User "${user}" may not replicate (${message}). Run: alter role "${user}" replication;`,
      );
    throw new Hindered(
      "DatabaseUnavailable",
      `PostgreSQL at ${host}:${port}, database "${database}": ${why(error as Error)}`,
    );
  }
  return client;
}

/** Of the addresses that a name has, each failed: the first says why. */
function why(error: Error): string {
  const first = error instanceof AggregateError ? (error.errors[0] as Error) : error;
  return first.message;
}
