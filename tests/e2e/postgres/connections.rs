//! How Doorward reaches PostgreSQL: TLS, Unix sockets, sessions that the server ends, and a server that may not write.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::{no_statement_was_refused, own_url, prepare, with_own_tables, with_settings};
use crate::{
    certificates::Authority,
    direct::{bearer, judged, login, post},
    front::BOB,
    harness::{Database, PATIENCE, Postgres, Ran, until},
};

async fn migrate(database: &Database<Postgres>, tls: &str, authority: Option<&str>) -> Ran {
    let home = prepare(&own_url(database), |settings| {
        settings.env("DOORWARD_DATABASE__TLS", tls);
        if let Some(file) = authority {
            settings.env("DOORWARD_DATABASE__TLS_CA", file);
        }
    });
    home.run(&["migrate"], "").await
}

/// Gives the server a certificate for these names.
fn certify(
    database: &Database<Postgres>,
    authority: &Authority,
    dir: &std::path::Path,
    alternatives: &str,
) {
    authority.issue("server", alternatives, 1);
    let owner = fs::metadata(database.file("PG_VERSION")).unwrap();
    for name in ["server.crt", "server.key"] {
        let file = database.file(name);
        fs::copy(dir.join(name), &file).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    database.sql("ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf()");
    std::thread::sleep(std::time::Duration::from_millis(500));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_verified_if_configured() {
    let database = Database::<Postgres>::start().await;
    let refused = |ran: &Ran, words: &str| {
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    };
    for tls in ["disabled", "preferred"] {
        migrate(&database, tls, None).await.ok();
    }
    for tls in ["required", "verify-ca", "verify-identity"] {
        refused(
            &migrate(&database, tls, None).await,
            "server does not support TLS",
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "authority");
    let file = dir.path().join("authority.crt");
    let file = file.to_str();
    certify(&database, &authority, dir.path(), "DNS:db.example");
    for tls in ["disabled", "preferred", "required"] {
        migrate(&database, tls, None).await.ok();
    }
    refused(
        &migrate(&database, "verify-ca", None).await,
        "UnknownIssuer",
    );
    migrate(&database, "verify-ca", file).await.ok();
    refused(
        &migrate(&database, "verify-identity", file).await,
        "not valid for name",
    );
    certify(&database, &authority, dir.path(), "IP:127.0.0.1");
    migrate(&database, "verify-identity", file).await.ok();

    // By default, the connection is encrypted where the server offers it.
    let doorward = with_own_tables(&database).await;
    bearer(&doorward, BOB).await;
    let encrypted = database.sql("SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'auth_user'");
    assert_eq!(encrypted, "t\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_needs_no_tls() {
    let database = Database::<Postgres>::start().await;
    let dir = database.file("..").canonicalize().unwrap();
    let dir = utf8_percent_encode(dir.to_str().unwrap(), NON_ALPHANUMERIC).to_string();
    let port = database.address().port();
    let home = prepare(
        &format!("postgresql://auth_user@{dir}:{port}/auth"),
        |settings| {
            settings.env("DOORWARD_DATABASE__TLS", "verify-identity");
        },
    );
    home.run(&["migrate"], "").await.ok();
    home.add_user(BOB.0, BOB.1, &[]).await;
    let doorward = home.serve().await;
    bearer(&doorward, BOB).await;
    let addresses = database
        .sql("SELECT DISTINCT client_addr FROM pg_stat_activity WHERE usename = 'auth_user'");
    assert_eq!(addresses, "NULL\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_missing_database_are_named() {
    let database = Database::<Postgres>::start().await;
    for (url, words) in [
        (
            database.url("auth_user", "a-wrong-one", "auth"),
            "password authentication failed",
        ),
        (
            database.own_url("missing"),
            "database \"missing\" does not exist",
        ),
    ] {
        let ran = prepare(&url, |_| {}).run(&["migrate"], "").await;
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
        assert!(!ran.stderr.contains("a-wrong-one"), "{ran:?}");
    }
}

fn sessions(database: &Database<Postgres>, what: &str) -> String {
    database.sql(&format!(
        "SELECT {what} FROM pg_stat_activity WHERE usename = 'auth_user' ORDER BY pid"
    ))
}

/// The server ends idle sessions, as a restart or an administrator does: nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_the_server_ends_are_replaced() {
    let database = Database::<Postgres>::start().await;
    let doorward = with_own_tables(&database).await;
    for _ in 0..5 {
        bearer(&doorward, BOB).await;
        sessions(&database, "pg_terminate_backend(pid)");
    }
    assert!(doorward.log().iter().all(|line| line["level"] != "ERROR"));
}

/// A server that may not write, as a primary that became a standby: logins go on, logouts get 503, and the connection is
/// closed, because the next one may lead to the new primary.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_not_write_is_left() {
    let database = Database::<Postgres>::start().await;
    // A refresh token would be written.
    let doorward = with_settings(&database, |settings| {
        settings.env("DOORWARD_REFRESH__ENABLED", "false");
    })
    .await;
    let token = bearer(&doorward, BOB).await;
    database.sql("ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()");
    let out = async || post(&doorward, "/logout", Some(&token), &json!({})).await;
    let before = sessions(&database, "pid");
    until("a logout is refused", PATIENCE, async || {
        (out().await.status == 503).then_some(())
    })
    .await;
    assert_eq!(login(&doorward, BOB).await.status, 200);
    assert_eq!(judged(&doorward, &token).await.status, 200);
    for _ in 0..8 {
        assert_eq!(out().await.status, 503);
    }
    let after = sessions(&database, "pid");
    assert!(
        before
            .lines()
            .any(|pid| !after.lines().any(|other| other == pid)),
        "{before} {after}"
    );
    database.sql("ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()");
    until("a logout succeeds", PATIENCE, async || {
        (out().await.status == 200).then_some(())
    })
    .await;
    assert_eq!(judged(&doorward, &token).await.status, 401);
}

/// Whatever a statement does, its transaction ends, and its prepared statements with it.
#[tokio::test(flavor = "multi_thread")]
async fn no_transaction_stays_open() {
    let database = Database::<Postgres>::start().await;
    let doorward = with_own_tables(&database).await;
    let token = bearer(&doorward, BOB).await;
    assert_eq!(login(&doorward, ("nobody", "wrong")).await.status, 401);
    let twice = doorward
        .run(&["user", "add", BOB.0], "a-long-password\n")
        .await;
    assert!(twice.stderr.contains("exists already"), "{twice:?}");
    post(&doorward, "/logout", Some(&token), &json!({})).await;
    until("all sessions are idle", PATIENCE, async || {
        let states = sessions(&database, "state");
        states.lines().all(|state| state == "idle").then_some(())
    })
    .await;
    no_statement_was_refused(&doorward);
}
