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
    // Of the addresses that a name has, each failed.
    const { message } =
      error instanceof AggregateError ? (error.errors[0] as Error) : (error as Error);
    throw new Error(
      `PostgreSQL at ${client.host}:${client.port} does not let us in: ${message}. Correct POSTGRES_URL, or unset it for the embedded PostgreSQL.`,
    );
  }
  return client;
}
