/** The session store in a server's configuration, checked (pure). Read by config.ts. */

export interface SessionStoreConfig {
  /** One; of a cluster as many as are known. */
  readonly addresses: readonly { readonly host: string; readonly port: number }[];
  readonly cluster: boolean;
  readonly tls: { readonly ca?: Buffer } | undefined;
  readonly user: string | undefined;
  readonly password: string | undefined;
}

export interface StoreSettings {
  /** `--session-store`; without it there are no sessions. */
  readonly url: string | undefined;
  readonly cluster: boolean;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly ca: Buffer | undefined;
}

const FORM = "it must be redis://host:port[,host:port…], or rediss:// for TLS";

/** @param errors takes what is wrong; it never repeats what may hold a password. */
export function sessionStoreConfig(
  settings: StoreSettings,
  errors: string[],
): SessionStoreConfig | undefined {
  const { url, cluster, user, password, ca } = settings;
  if (url === undefined) {
    const others = { cluster, user, "password-file": password, "tls-ca-file": ca };
    for (const [name, value] of Object.entries(others))
      if (value) errors.push(`--session-store-${name} is set without --session-store.`);
    return undefined;
  }
  if (user !== undefined && password === undefined)
    errors.push("--session-store-password-file is missing: it goes with --session-store-user.");
  if (url.includes("@")) {
    errors.push(
      "--session-store holds a user or a password, which process lists would show: name them in " +
        "--session-store-user and --session-store-password-file.",
    );
    return undefined;
  }
  const [, scheme, hosts = "", rest = ""] = /^(rediss?):\/\/([^/?#]*)(.*)$/.exec(url) ?? [];
  const isTls = scheme === "rediss";
  if (scheme === undefined) errors.push(`--session-store is "${url}"; ${FORM}.`);
  else if (!["", "/", "/0"].includes(rest))
    errors.push(`--session-store is "${url}"; only database 0 is used: ${FORM}.`);
  const addresses = scheme === undefined ? [] : addressesIn(hosts, errors);
  if (ca && !isTls)
    errors.push("--session-store-tls-ca-file goes with rediss:// in --session-store.");
  if (addresses.length > 1 && !cluster)
    errors.push("--session-store names several nodes: that needs --session-store-cluster true.");
  return { addresses, cluster, tls: isTls ? { ...(ca && { ca }) } : undefined, user, password };
}

function addressesIn(hosts: string, errors: string[]): SessionStoreConfig["addresses"] {
  return hosts.split(",").map((text) => {
    const [, host = "", digits] = /^(\[[0-9a-fA-F:]+\]|[^:\s[\]]+):(\d{1,5})$/.exec(text) ?? [];
    const port = Number(digits);
    if (host === "" || port < 1 || port > 65_535)
      errors.push(`--session-store has "${text}"; ${FORM}.`);
    return { host: host.replace(/^\[|\]$/g, ""), port };
  });
}
