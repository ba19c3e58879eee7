//! The audit trail: one line for each act, with who did it and from where; no secret appears there or anywhere else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    direct::{EVERYTHING, login_from},
    harness::{Database, Doorward, Engine, Ran, Reply, send, until},
};

const SECRET: &str = "7e57ab1e5ec2e7f0a1b2c3d4e5f60718";
const CLIENT: &str = "198.51.100.7";

on_each_database!(every_audited_act_is_one_line_without_secrets);

/// Secrets that the test used and that must not appear; each has a name for the message.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn add(&mut self, what: &'static str, secret: impl Into<String>) {
        let secret = secret.into();
        assert!(
            secret.len() > 5,
            "{secret:?} is so short that it may appear by chance"
        );
        self.0.push((what, secret));
    }

    fn of_login(&mut self, (name, password): (&str, &str)) {
        self.add("a password", password);
        let pair = format!("{name}:{password}");
        self.add("Basic credentials", BASE64_STANDARD.encode(pair));
    }

    fn of_reply(&mut self, reply: &Reply) {
        let bearer = reply.header("authorization").unwrap();
        self.add("a signature", bearer.rsplit_once('.').unwrap().1);
        self.add("a token", bearer.strip_prefix("Bearer ").unwrap());
        let refresh = reply.header("x-refresh-token").unwrap();
        self.add("a refresh token", refresh.strip_prefix("dwr_").unwrap());
    }

    fn are_not_in(&self, place: &str, text: &str) {
        assert!(!text.is_empty(), "{place} is empty");
        for (what, secret) in &self.0 {
            assert!(
                !text.contains(&**secret),
                "{what}, {secret:?}, in {place}:\n{text}"
            );
        }
    }
}

async fn every_audited_act_is_one_line_without_secrets<E: Engine>() {
    let database = Database::<E>::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let env: Vec<_> = database.env().into_iter().collect();
    let mut secrets = Secrets::default();
    secrets.add("JWT_SECRET", SECRET);
    for (name, value) in &env {
        if name.contains("PASSWORD") {
            secrets.add("the password of the database", value);
        }
    }
    let home = Doorward::prepare(|settings| {
        settings
            .envs(env)
            .envs(EVERYTHING)
            .env("JWT_SECRET", SECRET)
            .env("USER", "operator")
            .env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:1")
            .env("DOORWARD_REFRESH__GRACE", "0s")
            .env("DOORWARD_LOG__LEVEL", "debug")
            .env("DOORWARD_AUDIT__TO", file.to_str().unwrap());
    });
    home.run(&["migrate"], "").await.ok();
    let doorward = home.serve().await;

    // Administration.
    let mut said = vec![];
    let mut command = async |arguments: &[&str], stdin: &str, succeeds: bool| {
        let ran: Ran = doorward.run(arguments, stdin).await;
        assert_eq!(ran.status.success(), succeeds, "{ran:?}");
        said.push(format!("{}{}", ran.stdout, ran.stderr));
    };
    let ada = ("ada", "analytical-engine-No.1");
    let bob = ("bob", "builder-of-many-things");
    let old = ("old", "correct horse");
    for who in [ada, bob, old] {
        secrets.of_login(who);
        command(&["user", "add", who.0], who.1, true).await;
    }
    secrets.add("a weak password", "short-1!");
    command(&["user", "add", "weak"], "short-1!", false).await;
    let ids: BTreeMap<String, String> = database
        .sql("SELECT username, id FROM users")
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(name, id)| (name.to_owned(), id.to_owned()))
        .collect();

    let from = |path: &'static str, bearer: Option<String>, body: Value| {
        let at = doorward.http;
        async move {
            let mut headers = vec![
                ("content-type", "application/json"),
                ("x-forwarded-for", CLIENT),
            ];
            if let Some(bearer) = &bearer {
                headers.push(("authorization", bearer));
            }
            send(at, "POST", path, &headers, body.to_string()).await
        }
    };
    let bearer = |reply: &Reply| reply.header("authorization").map(str::to_owned);
    let refresh = |reply: &Reply| json!({"refresh_token": reply.header("x-refresh-token")});

    // Successful and failed logins.
    let first = login_from(&doorward, ada, CLIENT).await;
    assert_eq!(first.status, 200, "{first:?}");
    secrets.of_reply(&first);
    for (name, password) in [
        ("ada", "a-wrong-password-of-ada"),
        ("typed-into-the-name-field", "whatever-was-typed-then"),
    ] {
        secrets.of_login((name, password));
        if name != "ada" {
            secrets.add("a name that is nobody's", name);
        }
        let reply = login_from(&doorward, (name, password), CLIENT).await;
        assert_eq!(reply.status, 401, "{reply:?}");
    }
    let secret_in_a_list = json!({"username": "ada", "password": ["secret-in-a-list"]});
    secrets.add("what is no password", "secret-in-a-list");
    assert_eq!(from("/login", None, secret_in_a_list).await.status, 400);
    for (nth, status) in [401, 401, 401, 401, 401, 429].into_iter().enumerate() {
        let guess = (
            "guessed-at-without-end",
            &*format!("the-guess-number-{nth}"),
        );
        secrets.of_login(guess);
        let reply = login_from(&doorward, guess, CLIENT).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
    secrets.add("a name that is nobody's", "guessed-at-without-end");
    command(&["user", "disable", "bob"], "", true).await;
    assert_eq!(login_from(&doorward, bob, CLIENT).await.status, 401);
    command(&["user", "enable", "bob"], "", true).await;

    // A hash of another scheme.
    database.sql("UPDATE users SET password_hash = '$2b$04$WdtKMduT.JSHbG9FedM0FuJ4DEWvKZZZza60Yf7T39JDEQmgZqm9i' WHERE username = 'old'");
    let reply = login_from(&doorward, old, CLIENT).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    secrets.of_reply(&reply);

    // What people do with their own accounts.
    let eva = json!({"username": "eva-herself", "password": "a-password-that-eva-chose"});
    secrets.of_login(("eva-herself", "a-password-that-eva-chose"));
    assert_eq!(from("/register", None, eva.clone()).await.status, 201);
    assert_eq!(from("/register", None, eva).await.status, 409);
    let second = from("/refresh", None, refresh(&first)).await;
    assert_eq!(second.status, 200, "{second:?}");
    secrets.of_reply(&second);
    let change = |new: &str| json!({"current_password": ada.1, "new_password": new});
    for (new, status) in [("ada-1", 400), ("difference-engine-No.2", 200)] {
        let reply = from("/password", bearer(&second), change(new)).await;
        assert_eq!(reply.status, status, "{reply:?}");
        if status == 200 {
            secrets.add("a new password", new);
            secrets.of_reply(&reply);
        }
    }
    let ada = ("ada", "difference-engine-No.2");
    secrets.of_login(ada);
    let third = login_from(&doorward, ada, CLIENT).await;
    assert_eq!(third.status, 200, "{third:?}");
    secrets.of_reply(&third);
    let fourth = from("/refresh", None, refresh(&third)).await;
    secrets.of_reply(&fourth);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(from("/refresh", None, refresh(&third)).await.status, 401);
    for path in ["/logout", "/logout?all"] {
        let reply = login_from(&doorward, ada, CLIENT).await;
        secrets.of_reply(&reply);
        assert_eq!(from(path, bearer(&reply), json!({})).await.status, 200);
        assert_eq!(from(path, bearer(&reply), json!({})).await.status, 401);
    }

    // Administration, second part.
    secrets.add("a new password", "a-password-from-the-desk");
    command(&["user", "passwd", "bob"], "a-password-from-the-desk", true).await;
    command(&["user", "role", "bob", "--grant", "auditor"], "", true).await;
    command(&["user", "logout", "bob"], "", true).await;
    command(&["user", "remove", "bob"], "", true).await;
    command(&["user", "list"], "", true).await;
    command(&["user", "hashes"], "", true).await;
    command(&["throttle", "list"], "", true).await;
    command(&["throttle", "list", "--output", "json"], "", true).await;
    command(&["throttle", "clear", "ada"], "", true).await;
    command(&["throttle", "clear", "--address", CLIENT], "", true).await;
    command(&["throttle", "clear", "--all"], "", true).await;

    let lines = until(
        "the line about the upgrade is written",
        crate::harness::START,
        async || {
            let text = fs::read_to_string(&file).unwrap();
            text.contains("hash-upgrade").then_some(text)
        },
    )
    .await;
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let id = |name: &str| json!(ids[name]);
    let ours = json!(CLIENT);
    for (event, reason, sub, client) in [
        ("issue", "login", id("ada"), &ours),
        ("deny", "wrong-password", id("ada"), &ours),
        ("deny", "unknown-user", Value::Null, &ours),
        ("deny", "malformed-body", Value::Null, &ours),
        ("deny", "throttled", Value::Null, &ours),
        ("deny", "disabled", id("bob"), &ours),
        ("issue", "login", id("old"), &ours),
        ("hash-upgrade", "login", id("old"), &ours),
        ("deny", "name-taken", Value::Null, &ours),
        ("issue", "refresh", id("ada"), &ours),
        ("deny", "weak-password", Value::Null, &ours),
        ("issue", "password", id("ada"), &ours),
        ("deny", "refresh-reused", id("ada"), &ours),
        ("done", "logout", id("ada"), &ours),
        ("done", "logout-everywhere", id("ada"), &ours),
        ("command", "user-add", id("ada"), &Value::Null),
        ("command", "user-disable", id("bob"), &Value::Null),
        ("command", "user-enable", id("bob"), &Value::Null),
        ("command", "user-passwd", id("bob"), &Value::Null),
        ("command", "user-role", id("bob"), &Value::Null),
        ("command", "user-logout", id("bob"), &Value::Null),
        ("command", "user-remove", id("bob"), &Value::Null),
        ("command", "throttle-clear", id("ada"), &Value::Null),
        (
            "command",
            "throttle-clear-address",
            Value::Null,
            &Value::Null,
        ),
        ("command", "throttle-clear-all", Value::Null, &Value::Null),
    ] {
        let found = lines.iter().any(|line| {
            (&line["event"], &line["reason"]) == (&json!(event), &json!(reason))
                && (&line["sub"], &line["client"]) == (&sub, client)
        });
        assert!(
            found,
            "{event} {reason} {sub} {client} is not in {lines:#?}"
        );
    }
    let cleared = lines
        .iter()
        .find(|line| line["reason"] == "throttle-clear-address");
    assert_eq!(cleared.unwrap()["address"], CLIENT);
    let eva = database.sql("SELECT id FROM users WHERE username = 'eva-herself'");
    let registered = lines.iter().find(|line| line["reason"] == "register");
    assert_eq!(registered.unwrap()["sub"], eva.trim());
    let ids: BTreeSet<_> = lines
        .iter()
        .map(|line| {
            assert!(line["timestamp"].is_string(), "{line}");
            if line["event"] == "command" {
                assert_eq!(line["by"], "operator", "{line}");
                assert!(line["uid"].is_u64(), "{line}");
            } else {
                assert!(line["door"].is_string(), "{line}");
            }
            line["decision"].as_str().unwrap()
        })
        .collect();
    assert_eq!(ids.len(), lines.len(), "each line has its own id");

    secrets.are_not_in("the log", &doorward.output());
    secrets.are_not_in("the audit trail", &fs::read_to_string(&file).unwrap());
    secrets.are_not_in("what commands said", &said.concat());
    for table in ["endings", "generations", "tallies", "sessions"] {
        let rows = database.sql(&format!("SELECT * FROM doorward_{table}"));
        secrets.are_not_in(table, &rows);
    }
    secrets.are_not_in("users", &database.sql("SELECT * FROM users"));
}
