//! Every setting: its key, its names in the environment, its default and what it means.

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// The path in `doorward.toml`.
    pub name: &'static str,
    /// Names in the environment beside the one made from the path.
    pub also: &'static [&'static str],
    /// What holds where nothing is set, as people read it.
    pub default: &'static str,
    /// What it means, with its unit.
    pub meaning: &'static str,
    /// Whether it is read again while Doorward serves.
    pub reloads: bool,
}

impl Key {
    /// The name in the environment: `DOORWARD_` and the path in capitals, `__` between levels.
    #[must_use]
    pub fn environment(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "__").to_uppercase())
    }
}

/// What every name of ours in the environment begins with.
pub(super) const PREFIX: &str = "DOORWARD_";

/// The key of the rules, which only a file can hold.
pub(super) const ROUTE: &str = "route";

/// The key of other issuers, which only a file can hold; read at the start alone.
pub(super) const ISSUER: &str = "issuer";

/// The default of `login.hash_memory`, which is computed.
pub(super) const HASH_MEMORY_DEFAULT: &str = "auto";

const fn key(
    name: &'static str,
    also: &'static [&'static str],
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        also,
        default,
        meaning,
        reloads: false,
    }
}

impl Key {
    const fn reloads(self) -> Self {
        Self {
            reloads: true,
            ..self
        }
    }
}

/// All settings but the rules and other issuers.
pub const KEYS: &[Key] = &[
    key(
        "data_dir",
        &[],
        "./data",
        "directory of the embedded user table and the generated secret",
    ),
    key(
        "listen.grpc",
        &[],
        "127.0.0.1:9001",
        "where the ext_authz door (gRPC) listens: `IP:PORT` or `unix:PATH`",
    ),
    key(
        "listen.http",
        &[],
        "127.0.0.1:9002",
        "where the doors for other gateways, `/login` and `/validate` (HTTP) listen: `IP:PORT` or `unix:PATH`",
    ),
    key(
        "listen.ops",
        &[],
        "127.0.0.1:9003",
        "address of /livez, /readyz and /metrics (HTTP)",
    ),
    key(
        "listen.socket_mode",
        &[],
        "0660",
        "mode of Unix sockets, in octal; whoever may write to one may ask",
    ),
    key(
        "listen.connection_age",
        &[],
        "10min",
        "after how long, give or take a tenth, a gRPC connection is asked to end (GOAWAY), so that load spreads over replicas; `0s` for never",
    ),
    key(
        "listen.max_check",
        &[],
        "262144",
        "the most bytes of a check at the gRPC door: what Envoy says of one request, with as much of its body as `with_request_body` sends along; a larger one is denied with 413; 65536 to 16777216",
    ),
    key(
        "listen.max_connections",
        &[],
        "10000",
        "the most connections of peers in `trusted_proxies` that are open at the gRPC door, and as many at the HTTP port; one address may have half of them",
    ),
    key(
        "listen.max_untrusted_connections",
        &[],
        "1000",
        "the most connections of all other peers that are open at the HTTP port; one address may have a quarter of them",
    ),
    key(
        "listen.tls_certificate",
        &[],
        "none",
        "PEM file of the certificate chain that the gRPC door and the HTTP port show; without it they speak plainly, for loopback, Unix sockets and networks that encrypt",
    )
    .reloads(),
    key(
        "listen.tls_key",
        &[],
        "none",
        "PEM file of the key of that certificate",
    )
    .reloads(),
    key(
        "listen.tls_client_ca",
        &[],
        "none",
        "PEM file of the authorities one of which must have issued a client's certificate; without it none is asked for",
    )
    .reloads(),
    key(
        "listen.tls_client_names",
        &[],
        "any",
        "names of which a client's certificate must have one as subject alternative name: DNS names or URIs, such as `spiffe://cluster.local/ns/gateway/sa/envoy`",
    )
    .reloads(),
    key(
        "shutdown.delay",
        &[],
        "5s",
        "how long Doorward serves on after SIGTERM, while it says that it is not ready any more; none after SIGINT",
    ),
    key(
        "shutdown.deadline",
        &[],
        "20s",
        "how long what is under way may take after that, before connections are dropped",
    ),
    key(
        "trusted_proxies",
        &[],
        "127.0.0.0/8, ::1/128",
        "networks of the gateways that may ask at the gRPC door and at `/auth/…`; must be set where a door listens beyond loopback",
    )
    .reloads(),
    key(
        "client_address",
        &[],
        "peer",
        "where a client's address is read from: `peer` (whoever is connected to Envoy, or to the HTTP port), `x-envoy-external-address`, or `x-forwarded-for:N` (the N-th from the right)",
    )
    .reloads(),
    key(
        "database.url",
        &["DATABASE_URL"],
        "SQLite in data_dir",
        "`mysql://USER:PASSWORD@HOST:PORT/NAME` or `sqlite:PATH`; instead of host, port, user, password and name",
    ),
    key(
        "database.host",
        &["MYSQL_HOST"],
        "none",
        "host of MySQL or MariaDB",
    ),
    key(
        "database.port",
        &["MYSQL_PORT"],
        "3306",
        "port of MySQL or MariaDB",
    ),
    key("database.user", &["MYSQL_USER"], "none", "database user"),
    key(
        "database.password",
        &["MYSQL_PASSWORD"],
        "empty",
        "password of the database user",
    ),
    key(
        "database.name",
        &["MYSQL_DB", "MYSQL_DATABASE"],
        "none",
        "name of the database",
    ),
    key(
        "database.tls",
        &[],
        "preferred",
        "`disabled`, `preferred` (TLS where the server has it, unverified), `required` (unverified), `verify-ca` or `verify-identity`",
    ),
    key(
        "database.tls_ca",
        &[],
        "built-in roots",
        "PEM file of the certificate authority for `verify-ca` and `verify-identity`",
    ),
    key(
        "database.connections",
        &[],
        "8",
        "most connections that are open at once, 1 to 1000",
    ),
    key(
        "database.timeout",
        &[],
        "500ms",
        "how long a login waits for its row before it is answered 503",
    ),
    key(
        "state.url",
        &[],
        "the same database",
        "database of Doorward's own tables (endings, generations, counts, sessions), where it is another one than that of the users",
    ),
    key(
        "users.table",
        &[],
        "Doorward's own",
        "a user table that was there before, `TABLE` or `DATABASE.TABLE`; only read, unless a setting below says otherwise",
    ),
    key(
        "users.username",
        &[],
        "none",
        "column of `users.table`: the name that people type",
    ),
    key(
        "users.password",
        &[],
        "none",
        "column of `users.table`: the password hash, in any of the formats of docs/users.md",
    ),
    key(
        "users.id",
        &[],
        "the user name",
        "column of `users.table`: an id that never changes, the `sub` of tokens",
    ),
    key(
        "users.roles",
        &[],
        "none",
        "column of `users.table`: roles as a comma-separated or JSON list",
    ),
    key(
        "users.admin",
        &[],
        "none",
        "column of `users.table`: a flag that gives the role `admin`",
    ),
    key(
        "users.active",
        &[],
        "none",
        "column of `users.table`: a flag without which nobody logs in",
    ),
    key(
        "users.query",
        &[],
        "none",
        "instead of `users.table`: a `SELECT` with one `?` for the name, whose columns are named `username`, `password` and, where there are such, `id`, `roles`, `admin`, `active`",
    ),
    key(
        "users.roles_query",
        &[],
        "none",
        "a `SELECT` with one `?` for the id that gives one role a row",
    ),
    key(
        "users.inactive_query",
        &[],
        "none",
        "a `SELECT` that gives the ids of users whose tokens are refused for as long as it finds them, asked every `revocation.poll`",
    ),
    key(
        "users.hashes_query",
        &[],
        "none",
        "beside `users.query`: a `SELECT` that gives the stored hashes, one a row; sampled at the start, so that the first refusal takes as long as the slowest scheme, and read by `doorward users hashes`",
    ),
    key(
        "users.update_password",
        &[],
        "none",
        "how a hash is replaced: `none`, `auto` (from the columns), or an `UPDATE` with three `?`: new hash, user name, old hash",
    ),
    key(
        "users.insert",
        &[],
        "none",
        "how a user is added: `none`, `auto` (from the columns), or an `INSERT` with two `?`: user name, hash",
    ),
    key(
        "users.grant",
        &[],
        "none",
        "roles that everybody in `users.table` or `users.query` has",
    ),
    key(
        "users.plaintext",
        &[],
        "false",
        "whether passwords may stand in the table as they are; for a migration only, warned of at every start",
    ),
    key(
        "jwt.secret",
        &["JWT_SECRET"],
        "generated in data_dir",
        "secret of HS256, at least 32 bytes; must be given where the user table is in MySQL or MariaDB",
    )
    .reloads(),
    key(
        "jwt.previous_secret",
        &["JWT_SECRET_PREVIOUS"],
        "none",
        "a secret that tokens were signed with before; it verifies only",
    )
    .reloads(),
    key(
        "jwt.key",
        &["JWT_KEY"],
        "none",
        "text of one key (JWK or PEM), beside those in `jwt.keys_dir`; for keys that come in the environment or in one mounted file",
    )
    .reloads(),
    key(
        "jwt.keys_dir",
        &[],
        "keys in data_dir",
        "directory of keys (JWK or PEM, one a file) that `doorward keys` looks after, or a mount of them; the one that began last signs, all verify",
    ),
    key("jwt.issuer", &[], "doorward", "claim `iss`"),
    key("jwt.audience", &[], "doorward", "claim `aud`"),
    key(
        "jwt.lifetime",
        &[],
        "24h",
        "from issue to expiry, 1min to 366days",
    )
    .reloads(),
    key(
        "jwt.leeway",
        &[],
        "30s",
        "how far clocks may differ, at most 60s",
    )
    .reloads(),
    key(
        "login.reply",
        &[],
        "direct",
        "who answers a good login: `direct` (Doorward) or `through` (the gateway's own route, with the token added)",
    )
    .reloads(),
    key(
        "login.realm",
        &[],
        "doorward",
        "the realm that challenges name",
    )
    .reloads(),
    key(
        "login.hash_threads",
        &[],
        "one per core",
        "passwords that are hashed at once, each on a core, 1 to 256",
    ),
    key(
        "login.hash_memory",
        &[],
        HASH_MEMORY_DEFAULT,
        "memory that hashing may take, in bytes or as `128MiB`: 19 MiB for each hash of Doorward's own, and what their rows say for others; a login waits until its hash fits, and a row that never fits is refused as `unsupported-hash`. The default is 19 MiB a hashing thread and 64 MiB for one row of PHP, but at most half of what the control group or the machine has",
    ),
    key(
        "login.hash_priority",
        &[],
        "idle",
        "`idle`: hashing gives way to everything else that runs, so that no flood of logins delays a check; `normal`: it does not, for a Doorward that shares its control group with busy programs",
    ),
    key(
        "login.hash_queue",
        &[],
        "64",
        "logins that wait for hashing before further ones are answered 503, 1 to 10000; one account and one address may take half of the places",
    ),
    key(
        "throttle.account_failures",
        &[],
        "5",
        "failed logins to one account that cost nothing; the next wait is 1s and doubles, up to 5min, and 1h after a hundred",
    ),
    key(
        "throttle.address_failures",
        &[],
        "100",
        "the same for one client address (/32, /64), up to 1min; a /48 has ten times as many, and one more every 6s",
    ),
    key(
        "throttle.unknown_address_failures",
        &[],
        "1000",
        "failed logins that cost nothing, of all clients together whose address is not known or is in `trusted_proxies`; then one each second",
    ),
    key(
        "revocation.poll",
        &[],
        "1s",
        "how often it is read which tokens have ended at other replicas",
    ),
    key(
        "revocation.when_stale",
        &[],
        "warn",
        "what becomes of tokens while that cannot be read: `warn` (they stay good) or `refuse` (503)",
    ),
    key(
        "revocation.stale_after",
        &[],
        "30s",
        "after how long without a reading `refuse` begins",
    ),
    key(
        "refresh.enabled",
        &[],
        "false",
        "whether a login hands out a refresh token too, and `POST /refresh` changes it",
    ),
    key(
        "refresh.lifetime",
        &[],
        "30days",
        "from a login to the end of its session",
    )
    .reloads(),
    key(
        "refresh.grace",
        &[],
        "30s",
        "for how long a refresh token that was used gives the same successor again, at most 5min; later, its session ends",
    ),
    key(
        "self_service.register",
        &[],
        "false",
        "whether `POST /register` adds users",
    ),
    key(
        "self_service.register_roles",
        &[],
        "none",
        "roles of users who registered",
    ),
    key(
        "self_service.reserved",
        &[],
        "abuse, admin, administrator, anonymous, daemon, doorward, guest, help, hostmaster, info, mail, moderator, nobody, noc, operator, postmaster, root, security, staff, superuser, support, sysadmin, system, webmaster, www",
        "names that nobody registers, whatever their case and look; `[]` for none",
    )
    .reloads(),
    key(
        "self_service.password",
        &[],
        "false",
        "whether `POST /password` changes the password of whoever shows a token and the current one",
    ),
    key(
        "passwords.min_length",
        &[],
        "12",
        "characters that make a new password long enough, 8 to 64",
    )
    .reloads(),
    key(
        "passwords.min_score",
        &[],
        "3",
        "the zxcvbn score that makes a shorter one good enough, 2 to 4",
    )
    .reloads(),
    key(
        "passwords.blocklist",
        &[],
        "none",
        "file of passwords that are refused, one a line",
    )
    .reloads(),
    key(
        "http.sign_in",
        &[],
        "none",
        "URL that nginx is told in `x-auth-sign-in` beside a 401",
    ),
    key(
        "envoy.metadata",
        &[],
        "true",
        "whether Envoy is told of each decision (`sub`, `roles`, `rule`, `reason`), for its access log and its other filters",
    ),
    key(
        "identity.headers",
        &[],
        "x-auth-user, x-auth-roles, x-auth-admin",
        "names of the headers that tell the service the user, the roles and whether it is an administrator; gateways other than Envoy over gRPC name them too, and a name without a separator, such as `xauthuser`, has no aliases",
    ),
    key(
        "identity.forward_bearer",
        &[],
        "true",
        "whether the service sees the `Authorization` header of a Bearer request; it never sees Basic",
    )
    .reloads(),
    key(
        "cors.allow_preflight",
        &[],
        "false",
        "whether CORS preflights pass without a token where the request they announce has a rule, and no rule that names `OPTIONS` decides them",
    )
    .reloads(),
    key(
        "paths.tolerate",
        &[],
        "none",
        "ambiguous spellings that are judged in both readings instead of refused: `encoded-slash`, `encoded-percent`, `semicolon`, `double-slash` (but not at the beginning)",
    )
    .reloads(),
    key(
        "paths.also",
        &[],
        "none",
        "what the service may cut from a path, so that it is judged in that reading, too: `extension` (`.json` of the last segment), `trailing-dot` (dots and blanks at the end of segments)",
    )
    .reloads(),
    key(
        "audit.to",
        &[],
        "off",
        "where the audit trail goes, as JSON lines: `off`, `stderr` or a file",
    ),
    key(
        "log.level",
        &[],
        "info",
        "`error`, `warn`, `info` (denials and logins) or `debug` (every decision)",
    ),
    key("log.format", &[], "text", "`text` or `json`"),
    key(
        "tracing.otlp",
        &[
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ],
        "off",
        "URL of a collector that takes spans by OTLP over gRPC, such as `http://collector:4317`; `off` for none",
    ),
    key(
        "tracing.service",
        &["OTEL_SERVICE_NAME"],
        "doorward",
        "the name of this service in traces",
    ),
    key(
        "tracing.sample",
        &[],
        "1",
        "of requests that come without a span of the gateway, the part that has spans, 0 to 1; otherwise the gateway has decided",
    ),
];
