//! The user table in every database: the same commands, the same logins, and the behaviour while the database is down.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    front::{ADA, BOB, Front, basic},
    harness::{
        Database, Doorward, Engine, Envoy, Home, MariaDb, MySql, MySqlLike, PATIENCE, Postgres,
        Reply, Server, Settings, free_address, until,
    },
};

const SECRET: &str = "9f2c0d1e4b7a68530c9d8e7f6a5b4c3d";

/// The longest time that a login may take without a database: `database.timeout` is half a second; a busy machine adds to it.
const AWAY: Duration = Duration::from_secs(4);

on_each_database!(
    users_are_stored_and_log_in,
    a_table_of_another_program_is_not_changed,
    a_malformed_row_is_refused_like_an_unknown_user,
);

on_each_server!(
    a_collation_that_treats_names_as_equal_lets_nobody_log_in_as_another,
    while_the_database_is_killed_or_frozen_tokens_pass_and_logins_get_503,
    a_login_needs_only_read_access_and_sets_no_session_variables,
);

fn on<E: Engine>(database: &Database<E>) -> impl FnOnce(&mut Settings) {
    let env = database.env();
    move |settings: &mut Settings| {
        settings.envs(env).env("JWT_SECRET", SECRET);
    }
}

fn home<E: Engine>(database: &Database<E>) -> Home {
    Doorward::prepare(on(database))
}

async fn users_are_stored_and_log_in<E: Engine>() {
    let database = Database::<E>::start().await;
    let home = home(&database);
    let early = home.run(&["user", "list"], "").await;
    // For a database file, missing tables are made automatically.
    assert_eq!(early.status.success(), E::IS_FILE, "{early:?}");
    assert!(
        E::IS_FILE || early.stderr.contains("doorward migrate"),
        "{early:?}"
    );
    for _ in 0..2 {
        home.run(&["migrate"], "").await.ok();
    }
    home.add_user("Jos\u{e9}", "a-long-password", &["--role", "editor"])
        .await;
    home.add_user("jose", "another-password", &[]).await;
    home.add_user("JOSE", "a-third-password", &["--admin"])
        .await;
    let twice = home
        .run(&["user", "add", "jose"], "a-fourth-password\n")
        .await;
    assert!(
        twice.stderr.contains("a user of that name exists already"),
        "{twice:?}"
    );
    let listed = home
        .run(&["user", "list", "--output", "json"], "")
        .await
        .ok();
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let names: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|user| &user["username"])
        .collect();
    assert_eq!(names, ["JOSE", "Jos\u{e9}", "jose"]);

    let front = Front::before(Envoy::NEWEST, home.serve().await, |config| config).await;
    for (name, password, user) in [
        ("Jos\u{e9}", "a-long-password", "Jos%C3%A9"),
        ("jose", "another-password", "jose"),
        ("JOSE", "a-third-password", "JOSE"),
    ] {
        let bearer = front.bearer((name, password)).await;
        let profile = front
            .send("GET", "/profile", &[("authorization", &bearer)])
            .await
            .json();
        assert_eq!(profile["user"], user);
    }
    for (name, password) in [
        ("Jose", "another-password"),
        ("jose ", "another-password"),
        ("jos\u{e9}", "a-long-password"),
    ] {
        assert_eq!(front.login((name, password)).await.status, 401, "{name:?}");
    }
    let run =
        async |arguments: &[&str], stdin: &str| front.doorward.run(arguments, stdin).await.ok();
    run(&["user", "disable", "jose"], "").await;
    assert_eq!(front.login(("jose", "another-password")).await.status, 401);
    run(&["user", "enable", "jose"], "").await;
    run(&["user", "passwd", "jose"], "a-new-password\n").await;
    assert_eq!(front.login(("jose", "another-password")).await.status, 401);
    assert_eq!(front.login(("jose", "a-new-password")).await.status, 200);
    run(&["user", "role", "jose", "--grant", "admin"], "").await;
    let bearer = front.bearer(("jose", "a-new-password")).await;
    let profile = front
        .send("GET", "/profile", &[("authorization", &bearer)])
        .await
        .json();
    assert_eq!(profile["admin"], "true");
    run(&["user", "remove", "jose"], "").await;
    assert_eq!(front.login(("jose", "a-new-password")).await.status, 401);
}

/// Collations that treat other names as equal to that of [`BOB`], each with examples.
trait Folds {
    const COLLATIONS: &[(&str, &[&str])];

    /// The statement that gives a collation to the names.
    fn alter(collation: &str) -> String {
        format!(
            "ALTER TABLE users MODIFY username VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL"
        )
    }
}

const GENERAL: (&str, &[&str]) = ("utf8mb4_general_ci", &["Bob", "BOB", "b\u{f3}b", "bob "]);

impl Folds for MariaDb {
    const COLLATIONS: &[(&str, &[&str])] = &[GENERAL];
}

impl Folds for MySql {
    const COLLATIONS: &[(&str, &[&str])] = &[
        GENERAL,
        // Its default collation.
        (
            "utf8mb4_0900_ai_ci",
            &["Bob", "BOB", "b\u{f3}b", "bo\u{200b}b"],
        ),
    ];
}

impl Folds for Postgres {
    const COLLATIONS: &[(&str, &[&str])] = &[
        (
            "VARCHAR(255) COLLATE folding",
            &["Bob", "BOB", "b\u{f3}b", "bo\u{200b}b"],
        ),
        ("CITEXT", &["Bob", "BOB"]),
        ("CHAR(100)", &["bob "]),
    ];

    fn alter(kind: &str) -> String {
        format!(
            "CREATE COLLATION IF NOT EXISTS folding (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
            ALTER TABLE users ALTER COLUMN username TYPE {kind}"
        )
    }
}

/// An operator changed the collation of the table, or the server has another default.
async fn a_collation_that_treats_names_as_equal_lets_nobody_log_in_as_another<E: Server + Folds>() {
    let database = Database::<E>::start().await;
    let home = home(&database);
    home.run(&["migrate"], "").await.ok();
    home.add_user(BOB.0, BOB.1, &[]).await;
    let front = Front::before(Envoy::NEWEST, home.serve().await, |config| config).await;
    for (collation, names) in E::COLLATIONS {
        database.sql(&E::alter(collation));
        assert_eq!(front.login(BOB).await.status, 200, "{collation}");
        for name in *names {
            let fetched = database.sql(&format!(
                "SELECT username FROM users WHERE username = '{name}'"
            ));
            let fetched = fetched.trim_end_matches([' ', '\n']);
            assert_eq!(fetched, "bob", "{collation} folds {name:?}");
            let reply = front.login((name, BOB.1)).await;
            assert_eq!(reply.status, 401, "{collation}: {name:?}");
        }
    }
}

async fn away(front: &Front) -> Reply {
    let start = Instant::now();
    let reply = front.login(BOB).await;
    let took = start.elapsed();
    assert!(took < AWAY, "{took:?}: {reply:?}");
    reply
}

async fn outage(front: &Front, bearer: &str) {
    for _ in 0..3 {
        let reply = away(front).await;
        assert_eq!(
            (reply.status, reply.header("retry-after")),
            (503, Some("1")),
            "{reply:?}"
        );
        let profile = front
            .send("GET", "/profile", &[("authorization", bearer)])
            .await;
        assert_eq!(profile.status, 200);
    }
    // Logins of one account may take at most half of the queue.
    let many = (0..40).map(|number| async move {
        let credentials = basic(&format!("user-{number}"), BOB.1);
        let headers = [("authorization", &*credentials)];
        (
            Instant::now(),
            front.send("POST", "/login", &headers).await,
            Instant::now(),
        )
    });
    for (start, reply, end) in futures_util::future::join_all(many).await {
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(end - start < AWAY, "{:?}", end - start);
    }
    let ready = crate::harness::send(front.doorward.ops, "GET", "/readyz", &[], "").await;
    assert_eq!(ready.status, 200, "Bearer requests are still answered");
}

async fn recovers(front: &Front) {
    until("a login succeeds again", PATIENCE, async || {
        (front.login(BOB).await.status == 200).then_some(())
    })
    .await;
}

async fn while_the_database_is_killed_or_frozen_tokens_pass_and_logins_get_503<E: Server>() {
    let mut database = Database::<E>::start().await;
    let home = home(&database);
    home.run(&["migrate"], "").await.ok();
    home.add_user(BOB.0, BOB.1, &[]).await;
    let front = Front::before(Envoy::NEWEST, home.serve().await, |config| config).await;
    let bearer = front.bearer(BOB).await;

    database.kill();
    outage(&front, &bearer).await;
    database.restart().await;
    recovers(&front).await;

    database.stop();
    outage(&front, &bearer).await;
    database.cont();
    recovers(&front).await;

    // A second outage: the first one leaves no trace.
    database.stop();
    outage(&front, &bearer).await;
    database.cont();
    recovers(&front).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_may_start_after_doorward() {
    let nowhere = free_address();
    let doorward = Doorward::start(|settings| {
        settings
            .env(
                "DATABASE_URL",
                format!("mysql://auth:secret-of-the-database@{nowhere}/auth"),
            )
            .env("JWT_SECRET", SECRET);
    })
    .await;
    let front = Front::before(Envoy::NEWEST, doorward, |config| config).await;
    let reply = away(&front).await;
    assert_eq!(reply.status, 503);
    assert_eq!(front.send("GET", "/profile", &[]).await.status, 401);
    let line = front
        .doorward
        .logged("the refused login", |line| {
            line["fields"]["reason"] == "database-unavailable"
        })
        .await;
    assert!(
        line["fields"]["cause"]
            .as_str()
            .unwrap()
            .contains("no connection"),
        "{line}"
    );
    assert!(!front.doorward.output().contains("secret-of-the-database"));
}

async fn a_table_of_another_program_is_not_changed<E: Engine>() {
    let database = Database::<E>::start().await;
    database.sql("CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(255))");
    let home = home(&database);
    let refused = home.run(&["migrate"], "").await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        refused.stderr.contains("that Doorward did not make"),
        "{refused:?}"
    );
    assert_eq!(database.sql(E::TABLES), "users\n");
}

/// A database user who may only read the user table, and the log of its statements.
trait Reads: Server {
    fn create_reader(database: &Database<Self>)
    where
        Self: Sized;

    fn statements_of_reader(database: &Database<Self>) -> String
    where
        Self: Sized;
}

impl<M: MySqlLike> Reads for M {
    fn create_reader(database: &Database<Self>) {
        database.sql("CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'r'; GRANT SELECT (id, username, password_hash, roles, disabled) ON auth.users TO reader@'127.0.0.1'; SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON");
    }

    fn statements_of_reader(database: &Database<Self>) -> String {
        database.sql(
            "SET GLOBAL general_log = OFF; SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE user_host LIKE '%reader%'",
        )
    }
}

impl Reads for Postgres {
    fn create_reader(database: &Database<Self>) {
        database.sql("CREATE ROLE reader LOGIN PASSWORD 'r'; GRANT SELECT (id, username, password_hash, roles, disabled) ON users TO reader; ALTER SYSTEM SET log_line_prefix = '%u: '; ALTER SYSTEM SET log_statement = 'all'; SELECT pg_reload_conf()");
    }

    fn statements_of_reader(database: &Database<Self>) -> String {
        let log = database.log();
        let of_reader = log.lines().filter(|line| line.starts_with("reader: "));
        of_reader.collect::<Vec<_>>().join("\n")
    }
}

async fn a_login_needs_only_read_access_and_sets_no_session_variables<E: Reads>() {
    let database = Database::<E>::start().await;
    let home = home(&database);
    home.run(&["migrate"], "").await.ok();
    home.add_user(ADA.0, ADA.1, &["--admin"]).await;
    E::create_reader(&database);
    let doorward = Doorward::start(|settings| {
        settings
            .env("DATABASE_URL", database.url("reader", "r", "auth"))
            .env("JWT_SECRET", SECRET);
    })
    .await;
    let front = Front::before(Envoy::NEWEST, doorward, |config| config).await;
    assert_eq!(front.login(ADA).await.status, 200);
    let queries = E::statements_of_reader(&database);
    assert!(
        queries.contains("FROM users WHERE username = "),
        "{queries}"
    );
    assert!(!queries.contains("SET "), "{queries}");
}

async fn a_malformed_row_is_refused_like_an_unknown_user<E: Engine>() {
    let database = Database::<E>::start().await;
    let home = home(&database);
    home.run(&["migrate"], "").await.ok();
    home.add_user(BOB.0, BOB.1, &[]).await;
    database.sql("UPDATE users SET roles = 'not a role'");
    let front = Front::before(Envoy::NEWEST, home.serve().await, |config| config).await;
    let reply = front.login(BOB).await;
    assert_eq!((reply.status, reply.text()), (401, "Invalid credentials"));
    let line = front
        .doorward
        .logged("the broken row", |line| {
            !line["fields"]["cause"].is_null() && !line["fields"]["reason"].is_null()
        })
        .await;
    assert_eq!(line["level"], "WARN");
    let cause = line["fields"]["cause"].as_str().unwrap();
    assert!(cause.contains("malformed list of roles"), "{line}");
}

/// The address is not a loopback address, and nobody listens there: a warning needs no answer.
#[tokio::test]
async fn a_server_elsewhere_that_proves_nothing_causes_a_warning() {
    for (tls, expected) in [
        ("preferred", true),
        ("required", true),
        ("verify-ca", false),
    ] {
        let home = Doorward::prepare(|settings| {
            settings
                .env("DATABASE_URL", "mysql://ada@0.0.0.0:1/auth")
                .env("DOORWARD_DATABASE__TLS", tls)
                .env("JWT_SECRET", SECRET);
        });
        let doorward = home.serve().await;
        let said = |line: &Value| line["fields"]["message"].as_str().map(str::to_owned);
        let is = |begin| move |line: &Value| said(line).is_some_and(|said| said.starts_with(begin));
        doorward
            .logged("the database is away", is("logins get 503"))
            .await;
        let warned = doorward
            .output()
            .contains("the certificate of the database is not verified");
        assert_eq!(warned, expected, "{tls}: {}", doorward.output());
    }
}
