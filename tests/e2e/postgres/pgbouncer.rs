//! PgBouncer in transaction mode, which gives each transaction any session. `make test-postgres` runs this with a newer one.

use std::{fs, process::Command};

use futures_util::future::join_all;
use serde_json::json;
use tempfile::TempDir;

use super::{HASH, HORSE, claims, no_statement_was_refused, own_url, prepare};
use crate::{
    direct::{Session, bearer, judged, login, post},
    front::BOB,
    harness::{
        Database, PATIENCE, Postgres, Process, free_address, postgres_command, program, until,
    },
};

/// A PgBouncer with two sessions, which all clients share.
struct PgBouncer {
    _process: Process,
    _dir: TempDir,
    url: String,
}

impl PgBouncer {
    async fn before(database: &Database<Postgres>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("pgbouncer-")
            .tempdir()
            .unwrap();
        let (server, address) = (database.address(), free_address());
        let url = url::Url::parse(&own_url(database)).unwrap();
        let password = percent_encoding::percent_decode_str(url.password().unwrap())
            .decode_utf8()
            .unwrap();
        fs::write(
            dir.path().join("users.txt"),
            format!("\"auth_user\" \"{password}\"\n"),
        )
        .unwrap();
        fs::write(
            dir.path().join("pgbouncer.ini"),
            format!(
                "[databases]\nauth = host={} port={} dbname=auth\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = users.txt\npool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 100\n",
                server.ip(),
                server.port(),
                address.ip(),
                address.port()
            ),
        )
        .unwrap();
        let mut command = postgres_command(program("pgbouncer"), dir.path());
        command.arg("pgbouncer.ini");
        let mut process = Process::start("pgbouncer", &mut command, dir.path());
        process
            .ready(async |process| process.stderr().contains("process up").then_some(()))
            .await;
        Self {
            _process: process,
            _dir: dir,
            url: format!(
                "postgres://auth_user:{}@{address}/auth",
                url.password().unwrap()
            ),
        }
    }
}

/// Prepared statements in the sessions of PgBouncer, without its own: since 1.24 it keeps those of its clients under other names.
fn left_statements(bouncer: &PgBouncer) -> String {
    let ran = Command::new(program("psql"))
        .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
        .arg(r"--command=SELECT name, statement FROM pg_prepared_statements WHERE name NOT LIKE 'PGBOUNCER\_%'")
        .arg(&bouncer.url)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_the_sessions_of_pgbouncer() {
    let database = Database::<Postgres>::start().await;
    let bouncer = PgBouncer::before(&database).await;
    database.sql(&format!(
        "CREATE TABLE members (id INT PRIMARY KEY, name CITEXT, hash VARCHAR(255));
        CREATE TABLE memberships (id INT, role CITEXT);
        INSERT INTO members SELECT n, 'user-' || n, '{HASH}' FROM generate_series(1, 20) AS n;
        INSERT INTO memberships SELECT n, 'role-' || n FROM generate_series(1, 20) AS n"
    ));
    let replica = async || {
        let home = prepare(&bouncer.url, |settings| {
            settings
                .env("DOORWARD_USERS__TABLE", "members")
                .env("DOORWARD_USERS__ID", "id")
                .env("DOORWARD_USERS__USERNAME", "name")
                .env("DOORWARD_USERS__PASSWORD", "hash")
                .env("DOORWARD_USERS__UPDATE_PASSWORD", "auto")
                .env(
                    "DOORWARD_USERS__ROLES_QUERY",
                    "SELECT role FROM memberships WHERE id = ?",
                )
                .env("DOORWARD_DATABASE__TIMEOUT", "5s");
        });
        for _ in 0..2 {
            home.run(&["migrate"], "").await.ok();
        }
        home.serve().await
    };
    let replicas = [replica().await, replica().await];
    let [one, other] = &replicas;
    for round in 0..3 {
        let logins = (1..=20).map(async |n| {
            let name = format!("user-{n}");
            let doorward = &replicas[(n + round) % 2];
            let session = Session::of(&login(doorward, (&name, HORSE)).await);
            let claims = claims(doorward, &session.bearer).await;
            assert_eq!(
                (&claims["sub"], &claims["roles"]),
                (&json!(n.to_string()), &json!([format!("role-{n}")]))
            );
            let wrong = login(doorward, (&name.to_uppercase(), HORSE)).await;
            assert_eq!(wrong.status, 401);
            let body = json!({"refresh_token": session.refresh});
            let session = Session::of(&post(doorward, "/refresh", None, &body).await);
            let out = post(doorward, "/logout", Some(&session.bearer), &json!({})).await;
            assert_eq!(out.status, 200, "{out:?}");
            session.bearer
        });
        for token in join_all(logins).await {
            for replica in &replicas {
                until("both refuse the token", PATIENCE, async || {
                    (judged(replica, &token).await.status == 401).then_some(())
                })
                .await;
            }
        }
    }
    // A statement that the database refuses leaves nothing behind either.
    let twice = prepare(&bouncer.url, |_| {});
    twice.run(&["migrate"], "").await.ok();
    for expected in [true, false, false] {
        let added = twice
            .run(&["user", "add", BOB.0], format!("{}\n", BOB.1))
            .await;
        assert_eq!(added.status.success(), expected, "{added:?}");
    }
    bearer(&twice.serve().await, BOB).await;
    for _ in 0..4 {
        assert_eq!(left_statements(&bouncer), "");
    }
    for replica in [one, other] {
        no_statement_was_refused(replica);
    }
}
