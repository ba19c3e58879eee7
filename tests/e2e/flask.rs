//! Doorward replaces a hand-written Flask auth service: its tables, its gateway, and the steps of docs/from-flask.md.

use std::net::{Ipv4Addr, SocketAddr};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    routing::post,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    docs::{blocks, run},
    front::{basic, tampered},
    harness::{
        Database, Doorward, Home, PATIENCE, Reply, Server, Settings, repository, send, until,
    },
};

on_each_mysql_like!(
    every_step_of_the_guide_works,
    plain_passwords_are_accepted_only_if_configured,
    with_read_access_only_the_table_is_not_changed,
    werkzeug_hashes_are_accepted_and_replaced,
    names_that_a_collation_treats_as_equal_stay_two_users,
    a_column_that_is_too_short_locks_nobody_out,
    a_misspelt_column_is_named,
);

const GUIDE: &str = "docs/from-flask.md";

const SECRET: &str = "9f2c0d1e4b7a68530c9d8e7f6a5b4c3d";

/// A user in the first table, with the stored password.
const SOMEONE: (&str, &str) = ("someone@example.com", "Admin123");
const OTHER: (&str, &str) = ("other@example.com", "a plain one ");

/// The table of older services, with plain passwords.
const PLAIN: &str = "CREATE TABLE user (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, email VARCHAR(255) NOT NULL UNIQUE, password VARCHAR(255) NOT NULL); INSERT INTO user (email, password) VALUES ('someone@example.com', 'Admin123'), ('other@example.com', 'a plain one ')";

/// The table of newer services, with hashes.
const HASHED: &str = "CREATE TABLE users (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, email VARCHAR(120) NOT NULL UNIQUE, password VARCHAR(256) NOT NULL, is_admin TINYINT(1) NOT NULL DEFAULT 0)";

/// Hashes as Werkzeug makes them by default, of the password below, by newer and older releases.
const BY_DEFAULT: [&str; 2] = [
    "scrypt:32768:8:1$Kq3vXzW8nTbR5yLd$fb56493053ba46281fef32b3cab7c6a26024e8f0a96e7c66b491c1a450d94512a60e1e5f1b23d8558179a8a20b13f6a8de6b3d9122ef5c4f2c57d7abe0eaaedf",
    "pbkdf2:sha256:600000$Kq3vXzW8nTbR5yLd$611d47a87a5d595b2cd398b0102cd7210661e7578f4483dcfba300816f1e24f7",
];
const MADE_BY_DEFAULT: &str = "made-by-default";

/// The tutorials' gateway: it asks the auth service and forwards the answer.
struct Gateway {
    task: JoinHandle<()>,
    address: SocketAddr,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Said = (StatusCode, String);

impl Gateway {
    async fn before(auth: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/login", post(log_in))
            .route("/upload", post(upload))
            .with_state(auth);
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { task, address }
    }

    async fn login(&self, who: (&str, &str)) -> Reply {
        let credentials = basic(who.0, who.1);
        let headers = [("authorization", &*credentials)];
        send(self.address, "POST", "/login", &headers, "").await
    }

    /// Logs in and gives the token.
    async fn token(&self, who: (&str, &str)) -> String {
        let reply = self.login(who).await;
        assert_eq!(reply.status, 200, "{who:?}: {reply:?}");
        reply.text().to_owned()
    }

    async fn upload(&self, authorization: Option<&str>) -> (u16, String) {
        let headers: Vec<_> = authorization
            .map(|value| ("authorization", value))
            .into_iter()
            .collect();
        let reply = send(self.address, "POST", "/upload", &headers, "a film").await;
        (reply.status, reply.text().to_owned())
    }
}

/// Sends the headers that Python's usual client sends by default.
async fn ask(auth: SocketAddr, path: &str, authorization: &str) -> Said {
    let headers = [
        ("user-agent", "python"),
        ("accept-encoding", "gzip, deflate"),
        ("accept", "*/*"),
        ("connection", "keep-alive"),
        ("content-length", "0"),
        ("authorization", authorization),
    ];
    let reply = send(auth, "POST", path, &headers, "").await;
    let status = StatusCode::from_u16(reply.status).unwrap();
    (status, reply.text().to_owned())
}

async fn log_in(State(auth): State<SocketAddr>, headers: HeaderMap) -> Said {
    let missing = (StatusCode::UNAUTHORIZED, "missing credentials".to_owned());
    let Some(value) = headers.get(AUTHORIZATION) else {
        return missing;
    };
    let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
    let pair = String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap();
    // That client encodes names and passwords in Latin-1.
    let latin: Option<Vec<u8>> = pair
        .chars()
        .map(|letter| u8::try_from(u32::from(letter)).ok())
        .collect();
    match latin {
        Some(pair) => {
            let credentials = format!("Basic {}", BASE64_STANDARD.encode(pair));
            ask(auth, "/login", &credentials).await
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
    }
}

async fn upload(State(auth): State<SocketAddr>, headers: HeaderMap) -> Said {
    let Some(authorization) = headers.get(AUTHORIZATION) else {
        return (StatusCode::UNAUTHORIZED, "missing credentials".to_owned());
    };
    let (status, text) = ask(auth, "/validate", authorization.to_str().unwrap()).await;
    if status != StatusCode::OK {
        return (status, text);
    }
    let claims: Value = serde_json::from_str(&text).unwrap();
    match claims["admin"].as_bool().unwrap() {
        true => (StatusCode::OK, claims["username"].as_str().unwrap().into()),
        false => (StatusCode::UNAUTHORIZED, "not authorized".to_owned()),
    }
}

/// The settings of a block of the guide: the first is for plain passwords, the second for hashes.
fn settings(block: usize) -> String {
    blocks(GUIDE, "toml").swap_remove(block)
}

fn on<E: Server>(database: &Database<E>, toml: String) -> impl FnOnce(&mut Settings) {
    let env = database.env();
    move |settings: &mut Settings| {
        settings.envs(env).env("JWT_SECRET", SECRET).toml(toml);
    }
}

/// The same, with the database user that the guide creates.
fn by_its_own_user<E: Server>(
    database: &Database<E>,
    toml: String,
    update: &str,
) -> impl FnOnce(&mut Settings) {
    let usual = on(database, toml);
    let update = update.to_owned();
    move |settings: &mut Settings| {
        usual(settings);
        settings
            .env("MYSQL_USER", "doorward")
            .env("MYSQL_PASSWORD", "choose one")
            .env("DOORWARD_USERS__UPDATE_PASSWORD", update);
    }
}

/// Makes Doorward's tables and serves.
async fn serve(home: Home) -> (Doorward, Gateway) {
    home.run(&["migrate"], "").await.ok();
    let doorward = home.serve().await;
    let gateway = Gateway::before(doorward.http).await;
    (doorward, gateway)
}

fn stored<E: Server>(database: &Database<E>, table: &str, email: &str) -> String {
    let row = format!("SELECT password FROM {table} WHERE BINARY email = '{email}'");
    database.sql(&row).trim_end_matches('\n').to_owned()
}

/// Waits until a login has stored one of Doorward's own hashes.
async fn becomes_ours<E: Server>(database: &Database<E>, table: &str, email: &str) {
    until(
        &format!("the hash of {email} is replaced"),
        PATIENCE,
        async || {
            let stored = stored(database, table, email);
            stored
                .starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
                .then_some(())
        },
    )
    .await;
}

/// The definition and all rows of a table.
fn whole<E: Server>(database: &Database<E>, table: &str) -> String {
    database.sql(&format!(
        "SHOW CREATE TABLE {table}; SELECT * FROM {table} ORDER BY id"
    ))
}

/// The counts of `doorward users hashes` for each scheme.
async fn counted(home: &Home) -> Vec<(String, u64, u64)> {
    let arguments = ["users", "hashes", "--output", "json"];
    let ran = home.run(&arguments, "").await.ok();
    let counts: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
    counts
        .iter()
        .map(|count| {
            (
                count["scheme"].as_str().unwrap().to_owned(),
                count["users"].as_u64().unwrap(),
                count["outdated"].as_u64().unwrap(),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_settings_of_the_guide_holds_together() {
    for toml in blocks(GUIDE, "toml") {
        let home = Doorward::prepare(|settings| {
            settings.toml(toml);
        });
        home.run(&["config", "check"], "").await.ok();
    }
}

/// Runs every block of the guide in order. A block that no test knows is a fault.
async fn every_step_of_the_guide_works<E: Server>() {
    let database = Database::<E>::start().await;
    database.sql(PLAIN);
    let before = whole(&database, "user");
    let home = Doorward::prepare(on(&database, settings(0)));
    let dir = home.dir().to_owned();
    let path = |name: &str| dir.join(name).display().to_string();
    let mut variables: Vec<_> = database
        .env()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    variables.extend([
        ("DOORWARD_CONFIG".to_owned(), path("doorward.toml")),
        ("DOORWARD_DATA_DIR".to_owned(), path("data")),
    ]);
    let [rights, one_more] = <[String; 2]>::try_from(blocks(GUIDE, "sql")).unwrap();
    let [check, migrate, start, calls, look, rules] =
        <[String; 6]>::try_from(blocks(GUIDE, "sh")).unwrap();

    let said = run(&check, &dir, &variables, &[]);
    assert!(said.contains("hold together"), "{said}");
    let line = said.lines().find(|line| line.contains("plaintext"));
    let counts: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(counts, ["plaintext", "2", "2", "0"], "{said}");
    assert_eq!(database.sql("SHOW TABLES"), "user\n");

    database.sql(&rights);
    for (name, value) in &mut variables {
        match &**name {
            "MYSQL_USER" => *value = "doorward".into(),
            "MYSQL_PASSWORD" => *value = "choose one".into(),
            _ => {}
        }
    }
    for _ in 0..2 {
        let said = run(&migrate, &dir, &variables, &[]);
        assert!(said.contains("up to date"), "{said}");
    }
    let tables = database.sql("SHOW TABLES");
    let tables: Vec<_> = tables.lines().collect();
    assert_eq!(
        tables,
        [
            "doorward_clocks",
            "doorward_endings",
            "doorward_generations",
            "doorward_keys",
            "doorward_migrations",
            "doorward_sessions",
            "doorward_tallies",
            "user"
        ]
    );
    assert_eq!(whole(&database, "user"), before);

    assert_eq!(start, "doorward serve\n");
    drop(home);
    let home = Doorward::prepare(by_its_own_user(&database, settings(0), "none"));
    let doorward = home.serve().await;
    let ports = [(":5000", doorward.http.port())];
    let dir = doorward.home().dir().to_owned();
    let said = run(&calls, &dir, &variables, &ports);
    assert!(
        said.contains("\"username\":\"someone@example.com\"") && said.contains("\"admin\":true"),
        "{said}"
    );
    let gateway = Gateway::before(doorward.http).await;
    let token = gateway.token(SOMEONE).await;
    let uploaded = gateway.upload(Some(&format!("Bearer {token}"))).await;
    assert_eq!(uploaded, (200, SOMEONE.0.into()));
    assert_eq!(whole(&database, "user"), before);
    let (home, _) = doorward.stop().await;

    database.sql(&one_more);
    drop(home);
    let home = Doorward::prepare(by_its_own_user(&database, settings(0), "auto"));
    let (doorward, gateway) = serve(home).await;
    // The secret has not changed, so the old service's token is valid.
    let uploaded = gateway.upload(Some(&format!("Bearer {token}"))).await;
    assert_eq!(uploaded.0, 200);
    gateway.token(SOMEONE).await;
    becomes_ours(&database, "user", SOMEONE.0).await;
    let dir = doorward.home().dir().to_owned();
    let config = dir.join("doorward.toml").display().to_string();
    variables.retain(|(name, _)| name != "DOORWARD_CONFIG");
    variables.push(("DOORWARD_CONFIG".into(), config));
    let said = run(&look, &dir, &variables, &[]);
    let mut counts: Vec<Vec<_>> = said
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    counts.sort();
    assert_eq!(
        counts,
        [["argon2id", "1", "0", "0"], ["plaintext", "1", "1", "0"]],
        "{said}"
    );

    // The guide's step for users who do not log in again.
    let arguments = ["user", "passwd", OTHER.0];
    doorward
        .run(&arguments, "a-better-password-now\n")
        .await
        .ok();
    gateway.token((OTHER.0, "a-better-password-now")).await;
    assert_eq!(counted(doorward.home()).await, [("argon2id".into(), 2, 0)]);
    let (home, _) = doorward.stop().await;
    drop(home);
    let home = Doorward::prepare(|settings| {
        by_its_own_user(&database, self::settings(0), "auto")(settings);
        settings.env("DOORWARD_USERS__PLAINTEXT", "false");
    });
    let (_doorward, gateway) = serve(home).await;
    gateway.token(SOMEONE).await;

    let toml = self::settings(2);
    let home = Doorward::prepare(|settings| {
        settings.toml(toml);
    });
    let file = home.dir().join("doorward.toml").display().to_string();
    let variables = [("DOORWARD_CONFIG".to_owned(), file)];
    let said = run(&rules, home.dir(), &variables, &[]);
    assert!(said.contains("200"), "{said}");
}

async fn plain_passwords_are_accepted_only_if_configured<E: Server>() {
    let database = Database::<E>::start().await;
    database.sql(PLAIN);
    let before = whole(&database, "user");
    let home = Doorward::prepare(|settings| {
        on(&database, self::settings(0))(settings);
        settings.env("DOORWARD_USERS__PLAINTEXT", "false");
    });
    assert_eq!(counted(&home).await, [("unknown".into(), 2, 2)]);
    let (doorward, gateway) = serve(home).await;
    let reply = gateway.login(SOMEONE).await;
    assert_eq!((reply.status, reply.text()), (401, "Invalid credentials"));
    let line = doorward
        .logged("the refusal", |line| {
            line["fields"]["reason"] == "unsupported-hash"
        })
        .await;
    assert_eq!(line["fields"]["sub"], SOMEONE.0);
    assert!(!doorward.output().contains("users.plaintext is on"));
    assert_eq!(whole(&database, "user"), before);
    drop(doorward);

    let home = Doorward::prepare(on(&database, settings(0)));
    assert_eq!(counted(&home).await, [("plaintext".into(), 2, 2)]);
    // The refusal above counts as a failure.
    home.run(&["throttle", "clear", SOMEONE.0], "").await.ok();
    let (doorward, gateway) = serve(home).await;
    let line = doorward
        .logged("the warning", |line| {
            let said = line["fields"]["message"].as_str();
            said.is_some_and(|said| said.starts_with("users.plaintext is on"))
        })
        .await;
    assert_eq!(line["level"], "WARN");

    // Like the old service: the same answer for every account.
    let mut answers = Vec::new();
    for who in [
        (SOMEONE.0, "admin123"),
        (SOMEONE.0, "Admin123 "),
        (SOMEONE.0, "Admin12"),
        ("nobody@example.com", "Admin123"),
    ] {
        let reply = gateway.login(who).await;
        answers.push((reply.status, reply.text().to_owned()));
    }
    let refused = (401, "Invalid credentials".to_owned());
    assert_eq!(answers, vec![refused; 4]);
    let direct = async |name: &str| {
        let headers = [("authorization", &*basic(name, "wrong"))];
        let mut reply = send(doorward.http, "POST", "/login", &headers, "").await;
        reply.headers.remove("date");
        (reply.status, reply.headers, reply.body)
    };
    assert_eq!(direct(SOMEONE.0).await, direct("no@example.com").await);
    let missing = send(gateway.address, "POST", "/login", &[], "").await;
    assert_eq!(
        (missing.status, missing.text()),
        (401, "missing credentials")
    );
    let missing = send(doorward.http, "POST", "/login", &[], "").await;
    assert_eq!(
        (missing.status, missing.text()),
        (401, "Missing credentials")
    );
    assert_eq!(
        whole(&database, "user"),
        before,
        "a failed login writes nothing"
    );

    for who in [SOMEONE, OTHER] {
        let token = gateway.token(who).await;
        becomes_ours(&database, "user", who.0).await;
        gateway.token(who).await;
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer)];
        let claims = send(doorward.http, "POST", "/validate", &headers, "").await;
        let claims = claims.json();
        assert_eq!(
            (&claims["username"], &claims["admin"]),
            (&who.0.into(), &true.into())
        );
        assert_eq!(claims["sub"], who.0);
        let lasts = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(lasts, 24 * 3600);
        assert_eq!(gateway.upload(Some(&bearer)).await, (200, who.0.to_owned()));
        let refused = (403, "Not authorized".to_owned());
        for bad in [&*tampered(&bearer), "Bearer", &token, "Bearer x.y.z"] {
            assert_eq!(gateway.upload(Some(bad)).await, refused, "{bad}");
        }
    }
    let missing = (401, "missing credentials".to_owned());
    assert_eq!(gateway.upload(None).await, missing);
    assert_eq!(counted(doorward.home()).await, [("argon2id".into(), 2, 0)]);
    let wrong = gateway.login((SOMEONE.0, "another one")).await;
    assert_eq!(wrong.status, 401);
    let hash = stored(&database, "user", SOMEONE.0);
    let stolen = gateway.login((SOMEONE.0, &hash)).await;
    assert_eq!(stolen.status, 401);
    for password in [SOMEONE.1, OTHER.1] {
        assert!(!doorward.output().contains(password));
    }

    // The old service had no such limit.
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(gateway.login((OTHER.0, "guessed")).await.status);
    }
    assert_eq!((statuses[4], statuses[6]), (401, 429), "{statuses:?}");
    let headers = [("authorization", &*basic(OTHER.0, "guessed"))];
    let reply = send(doorward.http, "POST", "/login", &headers, "").await;
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    let arguments = ["throttle", "clear", OTHER.0];
    doorward.run(&arguments, "").await.ok();
    until("nobody waits any more", PATIENCE, async || {
        (gateway.login(OTHER).await.status == 200).then_some(())
    })
    .await;
}

/// The database user has rights on single columns of the user table. Without the right to update, `auto` works like
/// `none`.
async fn with_read_access_only_the_table_is_not_changed<E: Server>() {
    let database = Database::<E>::start().await;
    database.sql(PLAIN);
    let before = whole(&database, "user");
    database.sql(&blocks(GUIDE, "sql")[0]);
    let home = Doorward::prepare(by_its_own_user(&database, settings(0), "auto"));
    let refused = home.run(&["serve"], "").await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("UPDATE command denied"),
        "{refused:?}"
    );

    let home = Doorward::prepare(by_its_own_user(&database, settings(0), "none"));
    let (doorward, gateway) = serve(home).await;
    for _ in 0..2 {
        let bearer = format!("Bearer {}", gateway.token(SOMEONE).await);
        let uploaded = gateway.upload(Some(&bearer)).await;
        assert_eq!(uploaded, (200, SOMEONE.0.into()));
    }
    assert_eq!(gateway.login((SOMEONE.0, "wrong")).await.status, 401);
    let warned = doorward.log();
    let warned = warned.iter().filter(|line| line["level"] == "WARN");
    let unexpected: Vec<_> = warned
        .filter(|line| {
            let said = line["fields"]["message"].as_str().unwrap_or_default();
            !said.starts_with("users.plaintext is on")
        })
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    let (_, status) = doorward.stop().await;
    assert!(status.success());
    assert_eq!(whole(&database, "user"), before);

    // The database user has no other right in that database.
    database.sql("DROP TABLE doorward_clocks, doorward_endings, doorward_generations, doorward_keys, doorward_migrations, doorward_sessions, doorward_tallies; CREATE USER looks@'%' IDENTIFIED BY 'r'; GRANT SELECT (email, password) ON auth.user TO looks@'%'");
    let state = tempfile::tempdir().unwrap();
    let state = format!("sqlite:{}", state.path().join("state.db").display());
    let home = Doorward::prepare(|settings| {
        by_its_own_user(&database, self::settings(0), "none")(settings);
        settings
            .env("MYSQL_USER", "looks")
            .env("MYSQL_PASSWORD", "r")
            .env("DOORWARD_STATE__URL", state);
    });
    let (_doorward, gateway) = serve(home).await;
    gateway.token(SOMEONE).await;
    assert_eq!(database.sql("SHOW TABLES"), "user\n");
    assert_eq!(whole(&database, "user"), before);
}

async fn werkzeug_hashes_are_accepted_and_replaced<E: Server>() {
    let vectors = repository().join("tests/vectors/passwords.json");
    let vectors: Vec<Value> = serde_json::from_slice(&std::fs::read(vectors).unwrap()).unwrap();
    let vectors = vectors.iter().filter(|vector| {
        let made_by = vector["made_by"].as_str().unwrap();
        made_by.starts_with("Werkzeug")
    });
    let text = |vector: &Value, key: &str| vector[key].as_str().unwrap().to_owned();
    let vectors = vectors.map(|vector| (text(vector, "password"), text(vector, "hash")));
    let by_default = BY_DEFAULT.map(|hash| (MADE_BY_DEFAULT.to_owned(), hash.to_owned()));
    let people: Vec<_> = by_default.into_iter().chain(vectors).collect();
    assert!(people.len() >= 14, "{}", people.len());

    let database = Database::<E>::start().await;
    database.sql(HASHED);
    let email = |n: usize| format!("user{n}@example.com");
    for (n, (_, hash)) in people.iter().enumerate() {
        let (email, admin) = (email(n), n % 2);
        database.sql(&format!(
            "INSERT INTO users (email, password, is_admin) VALUES ('{email}', '{hash}', {admin})"
        ));
    }
    let before = whole(&database, "users");
    let home = Doorward::prepare(on(&database, settings(1)));
    let (doorward, gateway) = serve(home).await;
    assert_eq!(whole(&database, "users"), before);
    let scrypts = people
        .iter()
        .filter(|(_, hash)| hash.starts_with("scrypt"))
        .count() as u64;
    let pbkdf2s = people.len() as u64 - scrypts;
    let mut counts = counted(doorward.home()).await;
    counts.sort();
    let expected = [("pbkdf2", pbkdf2s), ("scrypt", scrypts)];
    assert_eq!(
        counts,
        expected.map(|(scheme, n)| (scheme.to_owned(), n, n))
    );

    for (n, (password, _)) in people.iter().enumerate() {
        let email = email(n);
        let who = (&*email, &**password);
        // Each login takes as long as the slowest recent one; a few logins suffice.
        let few = n < 4;
        if few {
            assert_eq!(gateway.login((who.0, "wrong")).await.status, 401);
        }
        for _ in 0..1 + usize::from(few) {
            let token = match password.is_ascii() {
                true => gateway.token(who).await,
                // The service's own client cannot encode this password.
                false => {
                    assert_ne!(gateway.login(who).await.status, 200);
                    let headers = [("authorization", &*basic(who.0, who.1))];
                    let reply = send(doorward.http, "POST", "/login", &headers, "").await;
                    assert_eq!(reply.status, 200, "{who:?}: {reply:?}");
                    reply.text().to_owned()
                }
            };
            let expected = match n % 2 {
                1 => (200, email.clone()),
                _ => (401, "not authorized".to_owned()),
            };
            let uploaded = gateway.upload(Some(&format!("Bearer {token}"))).await;
            assert_eq!(uploaded, expected, "{who:?}");
            becomes_ours(&database, "users", &email).await;
        }
    }
    let all = people.len() as u64;
    assert_eq!(
        counted(doorward.home()).await,
        [("argon2id".to_owned(), all, 0)]
    );

    // What the guide says of letters outside ASCII.
    let reply = gateway.login(("user0@example.com", "gr\u{fc}n")).await;
    assert_eq!((reply.status, reply.text()), (401, "Invalid credentials"));
    doorward
        .logged("the Latin-1", |line| {
            line["fields"]["reason"] == "malformed-basic"
        })
        .await;
}

/// Whatever names and passwords a collation treats as equal, each user has their own, before and after the hash is
/// replaced.
async fn names_that_a_collation_treats_as_equal_stay_two_users<E: Server>() {
    let database = Database::<E>::start().await;
    for charset in ["utf8mb4", "latin1"] {
        let collation = format!("CHARACTER SET {charset} COLLATE {charset}_general_ci");
        database.sql(&format!("CREATE TABLE user (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, email VARCHAR(255) NOT NULL, password VARCHAR(255) NOT NULL) {collation}; INSERT INTO user (email, password) VALUES ('amos@email.com', 'Secret'), ('AMOS@email.com', 'secret'), ('am\u{f3}s@email.com', 'sec r\u{e9}t')"));
        let home = Doorward::prepare(on(&database, settings(0)));
        let (doorward, gateway) = serve(home).await;
        assert_eq!(counted(doorward.home()).await, [("plaintext".into(), 3, 3)]);
        let found = database.sql("SELECT COUNT(*) FROM user WHERE email = 'Amos@email.com'");
        assert_ne!(found, "0\n", "{charset} folds");

        let direct = async |who: (&str, &str)| {
            let headers = [("authorization", &*basic(who.0, who.1))];
            let reply = send(doorward.http, "POST", "/login", &headers, "").await;
            (reply.status, reply.text().to_owned())
        };
        let (small, great) = (("amos@email.com", "Secret"), ("AMOS@email.com", "secret"));
        let accent = ("am\u{f3}s@email.com", "sec r\u{e9}t");
        assert_eq!(gateway.login((great.0, small.1)).await.status, 401);
        assert_eq!(gateway.login((small.0, great.1)).await.status, 401);
        assert_eq!(gateway.login(("Amos@email.com", small.1)).await.status, 401);

        gateway.token(small).await;
        becomes_ours(&database, "user", small.0).await;
        assert_eq!(stored(&database, "user", great.0), great.1, "{charset}");
        assert_eq!(gateway.login((great.0, small.1)).await.status, 401);
        let token = gateway.token(great).await;
        becomes_ours(&database, "user", great.0).await;
        let uploaded = gateway.upload(Some(&format!("Bearer {token}"))).await;
        assert_eq!(uploaded, (200, great.0.to_owned()), "{charset}");
        gateway.token(small).await;
        assert_eq!(gateway.login((small.0, great.1)).await.status, 401);

        let reply = direct(accent).await;
        assert_eq!(reply.0, 200, "{charset}: {reply:?}");
        until("every hash is ours", PATIENCE, async || {
            let counts = counted(doorward.home()).await;
            (counts == [("argon2id".to_owned(), 3, 0)]).then_some(())
        })
        .await;
        assert_eq!(direct(accent).await.0, 200, "{charset}");

        // The same name twice: Doorward cannot know which user is meant.
        database.sql("INSERT INTO user (email, password) VALUES ('amos@email.com', 'another')");
        for password in [small.1, "another"] {
            assert_ne!(gateway.login((small.0, password)).await.status, 200);
        }
        doorward
            .logged("the doubled name", |line| {
                let cause = line["fields"]["cause"].as_str().unwrap_or_default();
                cause.contains("several users share it")
            })
            .await;
        gateway.token(great).await;
        drop(doorward);
        database.sql("DROP TABLE user, doorward_clocks, doorward_tallies, doorward_migrations, doorward_endings, doorward_generations, doorward_keys, doorward_sessions");
    }
}

/// The server truncates long values, and the column is too short for Doorward's hashes: users can still log in again.
async fn a_column_that_is_too_short_locks_nobody_out<E: Server>() {
    let database = Database::<E>::start().await;
    database.sql(PLAIN);
    database.sql("ALTER TABLE user MODIFY password VARCHAR(60) NOT NULL");
    let before = whole(&database, "user");
    for mode in ["STRICT_TRANS_TABLES", ""] {
        database.sql(&format!("SET GLOBAL sql_mode = '{mode}'"));
        let home = Doorward::prepare(on(&database, settings(0)));
        let (doorward, gateway) = serve(home).await;
        gateway.token(SOMEONE).await;
        doorward
            .logged("that the hash does not fit", |line| {
                let said = line["fields"]["message"].as_str().unwrap_or_default();
                said.starts_with("the hash could not be replaced")
            })
            .await;
        gateway.token(SOMEONE).await;
        assert_eq!(whole(&database, "user"), before, "{mode:?}");
        let arguments = ["user", "passwd", SOMEONE.0];
        let ran = doorward.run(&arguments, "a-better-password-now\n").await;
        assert!(!ran.status.success(), "{ran:?}");
        assert_eq!(whole(&database, "user"), before, "{mode:?}");
    }
}

async fn a_misspelt_column_is_named<E: Server>() {
    let database = Database::<E>::start().await;
    database.sql(PLAIN);
    for (key, wrong) in [
        ("DOORWARD_USERS__USERNAME", "e-mail"),
        ("DOORWARD_USERS__PASSWORD", "passwort"),
        ("DOORWARD_USERS__TABLE", "people"),
    ] {
        let home = Doorward::prepare(|settings| {
            on(&database, self::settings(0))(settings);
            settings.env(key, wrong);
        });
        home.run(&["migrate"], "").await.ok();
        for arguments in [&["serve"][..], &["users", "hashes"], &["user", "list"]] {
            if key == "DOORWARD_USERS__USERNAME" && arguments == ["users", "hashes"] {
                continue;
            }
            let ran = home.run(arguments, "").await;
            assert_eq!(ran.status.code(), Some(2), "{ran:?}");
            assert!(ran.stderr.contains(wrong), "{arguments:?}: {ran:?}");
        }
    }
    database.sql(
        "CREATE USER half@'%' IDENTIFIED BY 'r'; GRANT SELECT (email) ON auth.user TO half@'%'",
    );
    let home = Doorward::prepare(|settings| {
        on(&database, self::settings(0))(settings);
        settings
            .env("MYSQL_USER", "half")
            .env("MYSQL_PASSWORD", "r");
    });
    let ran = home.run(&["serve"], "").await;
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    let said = |part: &str| ran.stderr.contains(part);
    assert!(
        said("SELECT command denied") && said("'password'"),
        "{ran:?}"
    );
    let home = Doorward::prepare(|settings| {
        let without = self::settings(0).replace("username = \"email\"\n", "");
        on(&database, without)(settings);
    });
    let ran = home.run(&["serve"], "").await;
    assert!(ran.stderr.contains("users.username is missing"), "{ran:?}");
}
