//! What only PostgreSQL has: its types, its transactions, its TLS, Unix sockets, and PgBouncer in front of it, and a
//! standby behind it.

mod connections;
mod pgbouncer;
mod standby;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::{
    direct::{Session, bearer, judged, login, post},
    front::BOB,
    harness::{Database, Doorward, Home, PATIENCE, Postgres, Settings, send, until},
};

const SECRET: &str = "6f1ed002ab5595859014ebf0951522d9";

/// A password, and a cheap hash of it.
const HORSE: &str = "correct horse";
const HASH: &str = "$argon2id$v=19$m=64,t=2,p=1$xyb6yFgbcH41nRDLY3kswQ$Ghk8Oig5pJ36/7hft7A/FHrIe/PL1M4F54U+EQHPZ7s";

fn prepare(url: &str, choose: impl FnOnce(&mut Settings)) -> Home {
    Doorward::prepare(|settings| {
        settings
            .env("DATABASE_URL", url)
            .env("JWT_SECRET", SECRET)
            .env("DOORWARD_REFRESH__ENABLED", "true")
            .env("DOORWARD_THROTTLE__ACCOUNT_FAILURES", "100");
        choose(settings);
    })
}

/// The URL of Doorward's own database user.
fn own_url(database: &Database<Postgres>) -> String {
    database.own_url("auth")
}

/// A Doorward with its own tables, and a user.
async fn with_own_tables(database: &Database<Postgres>) -> Doorward {
    with_settings(database, |_| {}).await
}

async fn with_settings(
    database: &Database<Postgres>,
    choose: impl FnOnce(&mut Settings),
) -> Doorward {
    let home = prepare(&own_url(database), choose);
    home.run(&["migrate"], "").await.ok();
    home.add_user(BOB.0, BOB.1, &[]).await;
    home.serve().await
}

async fn claims(doorward: &Doorward, bearer: &str) -> Value {
    let headers = [("authorization", bearer)];
    let reply = send(doorward.http, "GET", "/validate", &headers, "").await;
    reply.json()
}

fn token_id(bearer: &str) -> String {
    let claims = bearer.split('.').nth(1).unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}

fn no_statement_was_refused(doorward: &Doorward) {
    let log = doorward.log();
    let fault = log.iter().find(|line| {
        let cause = line["fields"]["cause"].as_str().unwrap_or_default();
        cause.contains("returned from database")
    });
    assert_eq!(fault, None);
}

/// Ids of each type, compared by `users.roles_query` with a column of the same type; names that fold, roles as an array.
#[tokio::test(flavor = "multi_thread")]
async fn ids_of_every_type_find_their_roles() {
    let database = Database::<Postgres>::start().await;
    database
        .sql("CREATE TYPE state AS ENUM ('active', 'inactive'); CREATE DOMAIN address AS CITEXT");
    for (table, kind, ada, bob) in [
        ("a", "SMALLINT", "-7", "8"),
        ("b", "INTEGER", "7", "8"),
        ("c", "BIGINT", "9007199254740993", "8"),
        (
            "d",
            "UUID",
            "0190b8a6-2d8c-7c55-8d6f-3c1f5a1b2c3d",
            "0190b8a6-2d8c-7c55-8d6f-3c1f5a1b2c3e",
        ),
        ("e", "TEXT", "seven", "eight"),
        ("f", "CHAR(9)", "seven", "eight"),
        ("g", "CITEXT", "Seven", "seven2"),
        ("h", "VARCHAR(9)", "seven", "eight"),
    ] {
        database.sql(&format!(
            "CREATE TABLE \"{table}\" (id {kind} PRIMARY KEY, \"user\" address, hash CHAR(200), roles TEXT[], state state);
            CREATE TABLE roles_{table} (id {kind}, role CITEXT);
            INSERT INTO \"{table}\" VALUES ('{ada}', 'ada', '{HASH}', '{{editor,\"a:b\"}}', 'active'), ('{bob}', 'Bob', '{HASH}', NULL, 'active'), ('{}', 'eve', '{HASH}', '{{}}', 'inactive');
            INSERT INTO roles_{table} VALUES ('{ada}', 'found'), ('{bob}', 'b')",
            if kind == "UUID" { "00000000-0000-0000-0000-000000000001" } else { "1" }
        ));
        let home = prepare(&own_url(&database), |settings| {
            let query = format!("SELECT role FROM roles_{table} WHERE id = ?");
            settings
                .env("DOORWARD_USERS__TABLE", table)
                .env("DOORWARD_USERS__ID", "id")
                .env("DOORWARD_USERS__USERNAME", "user")
                .env("DOORWARD_USERS__PASSWORD", "hash")
                .env("DOORWARD_USERS__ROLES", "roles")
                .env("DOORWARD_USERS__ACTIVE", "state")
                .env("DOORWARD_USERS__ROLES_QUERY", query);
        });
        home.run(&["migrate"], "").await.ok();
        let doorward = home.serve().await;
        for (name, id, roles) in [
            ("ada", ada, json!(["a:b", "editor", "found"])),
            ("Bob", bob, json!(["b"])),
        ] {
            let claims = claims(&doorward, &bearer(&doorward, (name, HORSE)).await).await;
            assert_eq!(
                (&claims["sub"], &claims["roles"]),
                (&json!(id), &roles),
                "{kind}"
            );
        }
        for name in ["bob", "ADA", "eve", "nobody", "8", "\u{1f600}"] {
            assert_eq!(
                login(&doorward, (name, HORSE)).await.status,
                401,
                "{kind} {name}"
            );
        }
        no_statement_was_refused(&doorward);
        if kind == "INTEGER" {
            database.sql("ALTER TABLE roles_b ALTER COLUMN id TYPE BIGINT");
            // The first login finds out.
            login(&doorward, ("ada", HORSE)).await;
            bearer(&doorward, ("ada", HORSE)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_does_not_fit_is_reported_at_the_start() {
    let database = Database::<Postgres>::start().await;
    database
        .sql("CREATE TABLE members (id NUMERIC PRIMARY KEY, phone BIGINT, name TEXT, hash BYTEA)");
    for (username, settings, said) in [
        (
            "phone",
            vec![],
            "a statement compares the name with a value of type INT8",
        ),
        (
            "name",
            vec![("USERS__ROLES_QUERY", "SELECT 'a' FROM members WHERE id = ?")],
            "compares the id with a value of type NUMERIC",
        ),
        (
            "name",
            vec![(
                "USERS__UPDATE_PASSWORD",
                "UPDATE members SET hash = ? WHERE phone = ? AND hash = ?",
            )],
            "a name or a hash with a value of type INT8",
        ),
    ] {
        let home = prepare(&own_url(&database), |chosen| {
            chosen
                .env("DOORWARD_USERS__TABLE", "members")
                .env("DOORWARD_USERS__USERNAME", username)
                .env("DOORWARD_USERS__PASSWORD", "hash");
            for (key, value) in &settings {
                chosen.env(format!("DOORWARD_{key}"), *value);
            }
        });
        let ran = home.run(&["serve"], "").await;
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(ran.stderr.contains(said), "{ran:?}");
    }
}

/// A name that the character set of the database lacks, or that is no number, is a name that nobody has.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_database_cannot_have_is_an_unknown_user() {
    let database = Database::<Postgres>::start().await;
    database.sql("CREATE DATABASE latin OWNER auth_user ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    let latin = database.own_url("latin");
    let home = prepare(&latin, |_| {});
    home.run(&["migrate"], "").await.ok();
    home.add_user("Jos\u{e9}", HORSE, &["--weak"]).await;
    let doorward = home.serve().await;
    bearer(&doorward, ("Jos\u{e9}", HORSE)).await;
    let wrong = login(&doorward, ("Jos\u{e9}", "wrong")).await;
    for name in ["\u{1f600}", "nobody"] {
        let reply = login(&doorward, (name, "wrong")).await;
        assert_eq!(
            (reply.status, reply.text()),
            (wrong.status, wrong.text()),
            "{name}"
        );
    }
    no_statement_was_refused(&doorward);

    database.sql(&format!("CREATE TABLE phones (phone BIGINT, hash TEXT); INSERT INTO phones VALUES (5550100, '{HASH}')"));
    let home = prepare(&own_url(&database), |settings| {
        settings.env("DOORWARD_USERS__QUERY", "SELECT CAST(phone AS TEXT) AS username, hash AS password FROM phones WHERE phone = CAST(CAST(? AS TEXT) AS BIGINT)");
    });
    // The name with which settings are tried is no number either.
    home.run(&["migrate"], "").await.ok();
    let doorward = home.serve().await;
    bearer(&doorward, ("5550100", HORSE)).await;
    for name in ["5550101", "x", "99999999999999999999", "05550100"] {
        assert_eq!(login(&doorward, (name, HORSE)).await.status, 401, "{name}");
    }
    no_statement_was_refused(&doorward);
}

/// A row becomes visible when it is committed, which may be after rows with a later time have been read.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_is_committed_late_is_read() {
    let database = Database::<Postgres>::start().await;
    let doorward = with_own_tables(&database).await;
    let other = prepare(&own_url(&database), |_| {}).serve().await;
    let (late, early) = (bearer(&doorward, BOB).await, bearer(&doorward, BOB).await);

    let mut connection = PgConnection::connect(&own_url(&database)).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let revoke = "INSERT INTO doorward_endings (ended_id, expires_at, changed_at) SELECT $1, now + 9999, now FROM (SELECT CAST(FLOOR(EXTRACT(EPOCH FROM NOW())) AS BIGINT) AS now) AS clock";
    sqlx::query(revoke)
        .bind(token_id(&late))
        .execute(&mut *transaction)
        .await
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let out = post(&doorward, "/logout", Some(&early), &json!({})).await;
    assert_eq!(out.status, 200);
    let refused = async |token: &str| {
        until(
            "the other replica refuses the token",
            PATIENCE,
            async || (judged(&other, token).await.status == 401).then_some(()),
        )
        .await;
    };
    refused(&early).await;
    assert_eq!(judged(&other, &late).await.status, 200);
    transaction.commit().await.unwrap();
    refused(&late).await;
}

/// Transactions that PostgreSQL rolls back because of others are repeated, whatever isolation is the default.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_rolled_back_is_repeated() {
    let database = Database::<Postgres>::start().await;
    database.sql("ALTER DATABASE auth SET default_transaction_isolation = 'serializable'");
    let doorward = with_own_tables(&database).await;
    for code in ["40001", "40P01"] {
        database.sql(&format!(
            "CREATE SEQUENCE tried_{code};
            CREATE FUNCTION fail_{code}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('tried_{code}') < 3 THEN RAISE EXCEPTION USING ERRCODE = '{code}'; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER fail_{code} BEFORE INSERT ON doorward_endings FOR EACH ROW EXECUTE FUNCTION fail_{code}()"
        ));
        let token = bearer(&doorward, BOB).await;
        let out = post(&doorward, "/logout", Some(&token), &json!({})).await;
        assert_eq!(out.status, 200, "{code}: {out:?}");
        let tried = database.sql(&format!(
            "SELECT last_value FROM tried_{code}; DROP TRIGGER fail_{code} ON doorward_endings"
        ));
        assert!(tried.trim().parse::<u32>().unwrap() >= 3, "{code}: {tried}");
    }
    let refresh = Session::of(&login(&doorward, BOB).await).refresh;
    let all = (0..20).map(|_| {
        let body = json!({"refresh_token": &refresh});
        let doorward = &doorward;
        async move { post(doorward, "/refresh", None, &body).await }
    });
    let mut successors = std::collections::BTreeSet::new();
    for reply in futures_util::future::join_all(all).await {
        assert_eq!(reply.status, 200, "{reply:?}");
        successors.insert(Session::of(&reply).refresh);
    }
    assert_eq!(successors.len(), 1);
    no_statement_was_refused(&doorward);
}

/// PostgreSQL sends every row that a query finds, so Doorward asks only for the rows that it reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_does_not_read_a_large_table() {
    let database = Database::<Postgres>::start().await;
    database.sql(&format!("CREATE TABLE people (email TEXT PRIMARY KEY, hash TEXT); INSERT INTO people SELECT 'user-' || n, '{HASH}' || repeat(' ', 400) FROM generate_series(1, 400000) AS n; UPDATE people SET hash = '{HASH}' WHERE email = 'user-7'"));
    let home = prepare(&own_url(&database), |settings| {
        settings
            .env(
                "DOORWARD_USERS__QUERY",
                "SELECT email AS username, hash AS password FROM people WHERE email = ?",
            )
            .env(
                "DOORWARD_USERS__HASHES_QUERY",
                "SELECT hash FROM people -- all of them",
            );
    });
    home.run(&["migrate"], "").await.ok();
    let doorward = home.serve().await;
    // The first login waits for the sample.
    assert_eq!(login(&doorward, ("nobody", HORSE)).await.status, 401);
    bearer(&doorward, ("user-7", HORSE)).await;
    let metrics = send(doorward.ops, "GET", "/metrics", &[], "").await;
    let series = metrics.text().lines().filter(|line| {
        line.starts_with("doorward_database_errors_total{") && line.contains("\"timeout\"")
    });
    let timeouts: Vec<_> = series.collect();
    assert!(!timeouts.is_empty());
    for line in timeouts {
        let (_, count) = line.rsplit_once(' ').unwrap();
        assert_eq!(count.parse(), Ok(0.0), "{line}");
    }
}
