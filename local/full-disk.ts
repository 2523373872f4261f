/**
 * A disk that is full, for tests: full for a file that grew to a size, which needs neither a disk of its own nor
 * root. Kafka and PostgreSQL ignore the signal that comes with it: their writes fail with EFBIG.
 */

/** @param maxFileBytes undefined: the command as it is. */
export function limited(
  command: readonly [string, ...string[]],
  maxFileBytes: number | undefined,
): readonly [string, ...string[]] {
  if (maxFileBytes === undefined) return command;
  // POSIX counts blocks of 512 bytes. `exec` keeps the process id for signals.
  const script = `ulimit -f ${Math.floor(maxFileBytes / 512)} && exec "$@"`;
  return ["/bin/sh", "-c", script, "sh", ...command];
}
