//! What only MySQL does: it creates its own certificate, and it accepts a password that is not in its cache only over a
//! private connection.

use crate::{
    front::{BOB, Front},
    harness::{Database, Doorward, Envoy, Home, MySql, Ran},
};

const SECRET: &str = "9f2c0d1e4b7a68530c9d8e7f6a5b4c3d";

fn home(database: &Database<MySql>, more: &[(&str, &str)]) -> Home {
    Doorward::prepare(|settings| {
        settings
            .envs(database.env())
            .env("JWT_SECRET", SECRET)
            .envs(more.iter().copied());
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn doorward_logs_in_over_tls_by_default() {
    let database = Database::<MySql>::start().await;
    let plugin = database.sql("SELECT DISTINCT plugin FROM mysql.user WHERE user = 'auth_user'");
    assert_eq!(plugin, "caching_sha2_password\n");
    database.sql("SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON");
    let home = home(&database, &[]);
    home.run(&["migrate"], "").await.ok();
    home.add_user(BOB.0, BOB.1, &[]).await;
    let front = Front::before(Envoy::NEWEST, home.serve().await, |config| config).await;
    assert_eq!(front.login(BOB).await.status, 200);
    let connections = database.sql(
        "SET GLOBAL general_log = OFF; SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE command_type = 'Connect' AND argument LIKE 'auth_user@%'",
    );
    assert!(connections.lines().count() >= 3, "{connections}");
    for connection in connections.lines() {
        assert!(connection.ends_with(" using SSL/TLS"), "{connections}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_verified_if_configured() {
    let database = Database::<MySql>::start().await;
    let authority = database.file("ca.pem");
    let authority = authority.to_str();
    for (tls, authority, refusal) in [
        ("required", None, None),
        ("verify-ca", None, Some("UnknownIssuer")),
        ("verify-ca", authority, None),
        // MySQL writes no host name into the certificate.
        ("verify-identity", authority, Some("not valid for name")),
    ] {
        let ran = migrate(&database, tls, authority).await;
        match refusal {
            None => drop(ran.ok()),
            Some(words) => assert!(ran.stderr.contains(words), "{tls}: {ran:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_only_a_cached_password_is_accepted() {
    let database = Database::<MySql>::start().await;
    let refused = migrate(&database, "disabled", None).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        refused.stderr.contains("this connection has no TLS"),
        "{refused:?}"
    );
    migrate(&database, "preferred", None).await.ok();
    migrate(&database, "disabled", None).await.ok();
}

async fn migrate(database: &Database<MySql>, tls: &str, authority: Option<&str>) -> Ran {
    let mut more = vec![("DOORWARD_DATABASE__TLS", tls)];
    more.extend(authority.map(|file| ("DOORWARD_DATABASE__TLS_CA", file)));
    home(database, &more).run(&["migrate"], "").await
}
