//! Doorward's HTTP port without a gateway.

use std::{path::Path, time::Duration};

use serde_json::Value;
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    front::basic,
    harness::{Doorward, Reply, send, try_send},
};

/// The tokens in the answer to a login.
#[derive(Clone)]
pub struct Session {
    pub bearer: String,
    pub refresh: String,
}

impl Session {
    pub fn of(reply: &Reply) -> Self {
        Self {
            bearer: reply.header("authorization").unwrap().to_owned(),
            refresh: reply.header("x-refresh-token").unwrap().to_owned(),
        }
    }
}

pub async fn login(doorward: &Doorward, who: (&str, &str)) -> Reply {
    login_with(doorward, who, &[]).await
}

/// Logs in through a gateway that reports the client's address.
pub async fn login_from(doorward: &Doorward, who: (&str, &str), client: &str) -> Reply {
    login_with(doorward, who, &[("x-forwarded-for", client)]).await
}

pub async fn login_with(doorward: &Doorward, who: (&str, &str), headers: &[(&str, &str)]) -> Reply {
    let credentials = basic(who.0, who.1);
    let headers = [headers, &[("authorization", &credentials)]].concat();
    send(doorward.http, "POST", "/login", &headers, "").await
}

/// Logs in and gives the `Authorization` value.
pub async fn bearer(doorward: &Doorward, who: (&str, &str)) -> String {
    let reply = login(doorward, who).await;
    assert_eq!(reply.status, 200, "{who:?}: {reply:?}");
    reply.header("authorization").unwrap().to_owned()
}

/// Signs in with a browser's form and gives the cookie.
pub async fn cookie(doorward: &Doorward, who: (&str, &str)) -> String {
    let page = send(doorward.http, "GET", "/sign-in", &[], "").await;
    let form = page.header("set-cookie").unwrap().split(';').next();
    let form = form.unwrap().to_owned();
    let (_, key) = form.split_once('=').unwrap();
    let headers = [
        ("cookie", &*form),
        ("sec-fetch-site", "same-origin"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let body = format!("username={}&password={}&form={key}", who.0, who.1);
    let reply = send(doorward.http, "POST", "/sign-in", &headers, body).await;
    assert_eq!(reply.status, 303, "{who:?}: {reply:?}");
    let cookie = reply.header("set-cookie").unwrap().split(';').next();
    cookie.unwrap().to_owned()
}

/// The decision on a request with this `Authorization` value.
pub async fn judged(doorward: &Doorward, bearer: &str) -> Reply {
    let headers = [
        ("authorization", bearer),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a"),
        ("x-forwarded-uri", "/x"),
    ];
    send(doorward.http, "GET", "/auth/forward", &headers, "").await
}

/// Posts JSON to an endpoint; gives `None` if Doorward stops meanwhile.
pub async fn try_post(
    doorward: std::net::SocketAddr,
    path: &str,
    bearer: Option<&str>,
    body: &Value,
) -> Result<Reply, String> {
    let headers: Vec<_> = [("content-type", "application/json")]
        .into_iter()
        .chain(bearer.map(|bearer| ("authorization", bearer)))
        .collect();
    try_send(doorward, "POST", path, &headers, body.to_string()).await
}

pub async fn post(doorward: &Doorward, path: &str, bearer: Option<&str>, body: &Value) -> Reply {
    try_post(doorward.http, path, bearer, body).await.unwrap()
}

/// Settings that enable every endpoint.
pub const EVERYTHING: [(&str, &str); 3] = [
    ("DOORWARD_REFRESH__ENABLED", "true"),
    ("DOORWARD_SELF_SERVICE__REGISTER", "true"),
    ("DOORWARD_SELF_SERVICE__PASSWORD", "true"),
];

/// Runs statements on a SQLite file that other programs may have open.
pub async fn sqlite(file: &Path, statements: &str) {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(Duration::from_secs(5));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let statements = sqlx::AssertSqlSafe(statements.to_owned());
    sqlx::raw_sql(statements)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}
