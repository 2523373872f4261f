/**
 * A database of our own in a PostgreSQL that may be somebody's: made at the start, dropped at the end. One that
 * an interrupted run left is ours by its comment, and made anew; any other of that name is refused.
 */
import { connectSql, type Sql } from "./postgres-client.ts";

const ENDS_MS = 10_000;

export interface TemporaryDatabase {
  readonly url: string;
  drop(): Promise<void>;
}

/**
 * @param serverUrl its user may make databases.
 * @param name lower case letters, digits and `_`.
 * @param owner whose it is, for the comment.
 * @throws with the next step.
 */
export async function makeTemporaryDatabase(
  serverUrl: string,
  name: string,
  owner: string,
): Promise<TemporaryDatabase> {
  const mark = `Throughline: temporary, of ${owner}`;
  await within(serverUrl, async (sql) => {
    const { rows } = await sql.query(
      "select shobj_description(oid, 'pg_database') as mark from pg_database where datname = $1",
      [name],
    );
    if (rows.length > 0 && rows[0].mark !== mark)
      throw new Error(
        `PostgreSQL has a database ${name} that this checkout did not make: drop it if nobody needs it, or use another PostgreSQL.`,
      );
    await dropDatabase(sql, name);
    try {
      await sql.query(`create database ${name} template template0 encoding 'UTF8'`);
      await sql.query(`comment on database ${name} is '${mark.replaceAll("'", "''")}'`);
    } catch (error) {
      throw new Error(
        `A database of our own cannot be made (${(error as Error).message}): give the user of POSTGRES_URL the rights CREATEDB and REPLICATION, or unset it for the embedded PostgreSQL.`,
      );
    }
  });
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    drop: () => within(serverUrl, (sql) => dropDatabase(sql, name)),
  };
}

/** Its slots go with it, once nobody reads them. */
async function dropDatabase(sql: Sql, name: string): Promise<void> {
  await sql.query(
    "select pg_terminate_backend(active_pid, $2) from pg_replication_slots where database = $1 and active",
    [name, ENDS_MS],
  );
  await sql.query(`drop database if exists ${name} with (force)`);
}

async function within(url: string, work: (sql: Sql) => Promise<void>): Promise<void> {
  const sql = await connectSql(url);
  try {
    await work(sql);
  } finally {
    await sql.end();
  }
}
