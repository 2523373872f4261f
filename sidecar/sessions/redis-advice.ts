/** What a person reads when the session store does not do its part: what it said, and what to do (pure). */

/** Matched against the start of what the store said, or the network. */
const ADVICE: readonly (readonly [RegExp, string])[] = [
  [
    /^NOAUTH/,
    "it wants a user and password: set --session-store-user and --session-store-password-file",
  ],
  [/^WRONGPASS|^ERR AUTH/, "check --session-store-user and --session-store-password-file"],
  [
    /^NOPERM|can't run this command/,
    "give this user the keys throughline:* with PING, EVAL, EVALSHA and what the scripts use: TYPE, TIME, " +
      "HGET, HGETALL, HSET, HDEL, HINCRBY, DEL, PEXPIRE; in a cluster also CLUSTER SLOTS and ASKING",
  ],
  [/^READONLY/, "it is a replica: name its primary in --session-store"],
  [/^MOVED/, "it is a Redis Cluster: set --session-store-cluster true"],
  [/^ERR This instance has cluster support disabled/, "set --session-store-cluster false"],
  [/^OOM/, "it is full: give it more memory"],
  [/^MISCONF/, "it cannot write to its disk: see its log"],
  [/^NOREPLICAS/, "too few of its replicas are connected: see min-replicas-to-write"],
  [/^MASTERDOWN/, "it lost its primary"],
  [/^LOADING/, "it is starting and still reads its data"],
  [/^BUSY/, "a script of another program holds it up: give Throughline a store of its own"],
  [/^CLUSTERDOWN/, "its cluster does not serve every slot: see CLUSTER INFO"],
  [/^TRYAGAIN/, "its cluster is moving this session to another node, and soon will have"],
  [/ECONNREFUSED|ENOTFOUND|EAI_AGAIN/, "see that it runs where --session-store says"],
  [/certificate has expired/, "renew it, or see this machine's clock"],
  [/certificate is not yet valid/, "see the store's clock and this machine's clock"],
  [
    /certificate|altnames/,
    "see --session-store-tls-ca-file, and that its certificate names this host",
  ],
  [
    /closed unexpectedly|wrong version number|EPROTO/,
    "TLS is on with rediss:// and off with redis://; see which it speaks",
  ],
];

export function withAdvice(message: string): string {
  // Redis 6 wraps the error of a command within a script.
  const said = /@user_script: \d+: -?(.*)$/s.exec(message)?.[1] ?? message;
  const advice = ADVICE.find(([pattern]) => pattern.test(said))?.[1];
  return advice ? `${said}; ${advice}` : said;
}
