/** Loaded before a child process's own program: it ends when its parent is gone, also by SIGKILL. */
process.once("disconnect", () => process.exit(0));
// A program that has done its work ends as it would without.
process.channel?.unref();
