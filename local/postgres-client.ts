/** A connection to PostgreSQL as an app has one: for the demo's writers, its audit, and its database. */
import pg, { type Client } from "pg";

export type Sql = Client;

/** @throws with the next step. */
export async function connectSql(url: string): Promise<Sql> {
  const client = new pg.Client({ connectionString: url, application_name: "throughline-demo" });
  // Said where the connection is used; without a listener it would be an exception.
  client.on("error", () => {});
  try {
    await client.connect();
  } catch (error) {
    throw new Error(`PostgreSQL does not let us in: ${(error as Error).message}`);
  }
  return client;
}
