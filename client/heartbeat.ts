/** How a client knows that its server is there: it asks for heartbeats, and takes silence for a loss. */

export const HEARTBEAT_MS = 1000;
/** Without an answer, frame or heartbeat for this long the server is taken for lost. */
export const SILENCE_MS = 5000;
