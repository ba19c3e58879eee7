//! Every log line about a request contains its id, which is the id that the gateway uses.

use std::collections::BTreeSet;

use doorward::doors::wire::envoy::service::auth::v3::{
    CheckRequest, authorization_client::AuthorizationClient,
};
use serde_json::Value;

use crate::{
    front::{ADA, BOB, Front, basic, check},
    harness::{Database, Doorward, Envoy, Reply, Sqlite, send},
};

/// A Doorward that logs everything, behind the newest Envoy, on a database that the test can damage.
async fn talkative(env: &[(&str, &str)], edge: &str) -> (Front, Database<Sqlite>) {
    let database = Database::<Sqlite>::start().await;
    let home = Doorward::prepare(|settings| {
        settings
            .envs(database.env())
            .env("JWT_SECRET", "7e57ab1e5ec2e7f0a1b2c3d4e5f60718")
            .env("DOORWARD_LOG__LEVEL", "debug")
            .env("DOORWARD_AUDIT__TO", "stderr")
            .envs(env.iter().copied());
    });
    home.run(&["migrate"], "").await.ok();
    home.add_user(ADA.0, ADA.1, &["--admin"]).await;
    home.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
    let generate = "generate_request_id: true";
    let front = Front::before(Envoy::NEWEST, home.serve().await, |config| {
        config.replace(generate, &format!("{generate}{edge}"))
    })
    .await;
    (front, database)
}

/// A member of a log line; lines of the audit trail have their members at the top level.
fn member<'a>(line: &'a Value, name: &str) -> &'a Value {
    let fields = if line["fields"].is_object() {
        &line["fields"]
    } else {
        line
    };
    &fields[name]
}

fn request_id(line: &Value) -> &str {
    let id = member(line, "request_id").as_str().unwrap_or_default();
    assert!(!id.is_empty(), "no request id: {line}");
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_request_has_its_id() {
    let (front, database) = talkative(&[], "").await;
    let doorward = &front.doorward;

    // Through Envoy, and at every other door without an id.
    let bob = front.bearer(BOB).await;
    let bearer = [("authorization", &*bob)];
    for (path, status) in [("/profile", 200), ("/login", 405), ("/a;b", 400)] {
        let reply = front.send("GET", path, &bearer).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
    assert_eq!(front.login(("nobody", "whatever-it-is")).await.status, 401);
    let at = |path: &'static str, method: &'static str, headers: Vec<(&'static str, String)>| {
        let http = doorward.http;
        async move {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, &**value))
                .collect();
            send(http, method, path, &headers, "").await
        }
    };
    let authorization = |value: &str| ("authorization", value.to_owned());
    let nginx = |bearer: &str| {
        let pairs = [
            ("x-original-method", "GET"),
            ("x-original-uri", "/profile"),
            ("authorization", bearer),
        ];
        pairs.map(|(name, value)| (name, value.to_owned())).to_vec()
    };
    let asked = |bearer: &str| {
        let pairs = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-method", "GET"),
            ("x-forwarded-host", "a"),
            ("x-forwarded-uri", "/profile"),
            ("authorization", bearer),
        ];
        pairs.map(|(name, value)| (name, value.to_owned())).to_vec()
    };
    let statuses = [
        at("/auth/nginx", "GET", nginx(&bob)).await,
        at("/auth/nginx", "GET", vec![]).await,
        at("/auth/forward", "GET", asked(&bob)).await,
        at("/auth/forward", "GET", asked("Bearer a.b.c")).await,
        at("/auth/envoy/profile", "GET", asked(&bob)).await,
        at("/validate", "GET", vec![authorization("Bearer a.b.c")]).await,
        at("/login", "POST", vec![authorization(&basic(BOB.0, BOB.1))]).await,
        at(
            "/login",
            "POST",
            vec![authorization(&basic(BOB.0, "a-wrong-one"))],
        )
        .await,
        at("/login", "GET", vec![]).await,
        at("/logout", "POST", vec![authorization(&bob)]).await,
        // An id that could end a line is not used.
        at("/validate", "GET", vec![("x-request-id", "a b".into())]).await,
    ]
    .map(|reply: Reply| reply.status);
    assert_eq!(
        statuses,
        [200, 403, 200, 401, 200, 403, 200, 401, 405, 200, 401]
    );
    check(doorward.grpc, "GET", "/profile", "Bearer a.b.c").await;
    let mut client = AuthorizationClient::connect(format!("http://{}", doorward.grpc))
        .await
        .unwrap();
    client.check(CheckRequest::default()).await.unwrap();

    // Lines that are logged deep inside a login, and after its answer.
    database.sql("UPDATE users SET password_hash = '$2b$04$WdtKMduT.JSHbG9FedM0FuJ4DEWvKZZZza60Yf7T39JDEQmgZqm9i' WHERE username = 'ada'");
    assert_eq!(front.login((ADA.0, "correct horse")).await.status, 200);
    let message = |text: &'static str| {
        move |line: &Value| member(line, "message").as_str().unwrap_or_default() == text
    };
    let upgraded = doorward
        .logged("a better hash", message("hash upgraded"))
        .await;
    database.sql("DROP TABLE doorward_generations");
    assert_eq!(front.login(BOB).await.status, 200);
    let unread = message("the generation of a user's tokens cannot be read");
    let unread = doorward.logged("no generation", unread).await;

    let log = doorward.log();
    let of = |id: &str| {
        let lines = log.iter().filter(|line| member(line, "request_id") == id);
        lines
            .filter_map(|line| member(line, "reason").as_str())
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    assert!(of(request_id(&upgraded)).contains("login"), "{upgraded}");
    assert!(of(request_id(&unread)).contains("login"), "{unread}");

    let mut doors = BTreeSet::new();
    let mut levels = BTreeSet::new();
    for line in &log {
        if let Some(door) = member(line, "door").as_str() {
            doors.insert(door);
            levels.insert(line["level"].as_str().unwrap_or("trail"));
            request_id(line);
        }
    }
    let all = [
        "envoy-http",
        "forward",
        "grpc",
        "login",
        "logout",
        "nginx",
        "validate",
    ];
    assert_eq!(doors.into_iter().collect::<Vec<_>>(), all);
    assert_eq!(
        levels.into_iter().collect::<Vec<_>>(),
        ["DEBUG", "INFO", "trail"]
    );

    // A decision and its line in the audit trail have the same id.
    for line in &log {
        let decision = member(line, "decision");
        if decision.is_string() {
            let of_it = log
                .iter()
                .filter(|other| member(other, "decision") == decision);
            let ids: BTreeSet<_> = of_it.map(request_id).collect();
            assert_eq!(ids.len(), 1, "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_and_doorward_use_the_same_request_id() {
    // Envoy gives external requests a new id, unless it is configured to keep theirs.
    for keeps in [false, true] {
        let edge = match keeps {
            false => "",
            true => "\n                preserve_external_request_id: true",
        };
        let (front, _database) = talkative(&[], edge).await;
        let bob = front.bearer(BOB).await;
        let name = "0190f2f3-5b7e-4000-8000-c11e47c11e47";
        for (path, bearer, status) in [("/profile", &*bob, 200), ("/other", "Bearer a.b.c", 401)] {
            let headers = [("authorization", bearer), ("x-request-id", name)];
            let reply = front.send("GET", path, &headers).await;
            assert_eq!(reply.status, status, "{reply:?}");
            let theirs = front
                .envoy
                .accessed(path, |line| line["path"] == path)
                .await;
            let theirs = theirs["request_id"].as_str().unwrap().to_owned();
            assert_eq!(theirs == name, keeps, "{theirs}");
            let ours = |line: &Value| member(line, "path") == path;
            let ours = front.doorward.logged(path, ours).await;
            assert_eq!(request_id(&ours), theirs);
        }
    }
}
