//! The next rules: compared with those in force on real traffic, and put in force.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use crate::{
    front::{ADA, BOB, Front},
    harness::{Doorward, Envoy, Settings, repository, send, until},
};

const NEXT: &str = r#"
[[route]]
path = "/login"
allow = "login"

[[route]]
path = "/logout"
allow = "logout"

[[route]]
path = "/profile"
allow = "role:admin"

[[route]]
path = "/news/*"
allow = "public"

[[route]]
path = "/admin/*"
allow = ["admin", "editor"]

[[route]]
path = "/healthz"
methods = ["GET"]
allow = "login"
"#;

/// The longest time until a changed file takes effect, on a busy machine.
const BY_ITSELF: Duration = Duration::from_secs(20);

fn with_next(settings: &mut Settings) {
    let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
    settings.toml(format!("rules.next = \"next.toml\"\n{rules}"));
}

/// Lines of the log about requests with another verdict by the next rules.
fn differences(doorward: &Doorward) -> Vec<Value> {
    let lines = doorward.log().into_iter();
    lines
        .filter(|line| line["fields"]["message"] == "the next rules decide otherwise")
        .collect()
}

async fn count(doorward: &Doorward, rule: &str, direction: &str) -> Option<u64> {
    let reply = send(doorward.ops, "GET", "/metrics", &[], "").await;
    let text = reply.text();
    let start = format!(
        "doorward_next_rules_differences_total{{rule=\"{rule}\",direction=\"{direction}\"}} "
    );
    let line = text.lines().find_map(|line| line.strip_prefix(&start))?;
    Some(line.parse().unwrap())
}

fn next_file(doorward: &Doorward) -> PathBuf {
    doorward.home().dir().join("next.toml")
}

/// A setup whose next rules differ from those in force. The access log shows what the next rules would do.
async fn open(version: &str) -> Front {
    Front::open_with(
        version,
        with_next,
        |home| fs::write(home.dir().join("next.toml"), NEXT).unwrap(),
        |config| {
            let rule = "rule: \"%DYNAMIC_METADATA(envoy.filters.http.ext_authz:rule)%\"";
            let more = ["next", "next_rule", "next_reason"].map(|key| {
                format!(
                    "\n                          {key}: \"%DYNAMIC_METADATA(envoy.filters.http.ext_authz:{key})%\""
                )
            });
            config.replace(rule, &format!("{rule}{}", more.concat()))
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_counted_logged_and_shown_to_envoy_and_change_nothing() {
    for version in Envoy::VERSIONS {
        let front = open(version).await;
        let (ada, bob) = (front.bearer(ADA).await, front.bearer(BOB).await);
        assert_eq!(
            count(&front.doorward, "/profile", "would-be-denied").await,
            Some(0)
        );
        // method, path, bearer, status by the rules in force, what the next rules would do
        let cases = [
            (
                "GET",
                "/profile",
                Some(&bob),
                200,
                Some(("would-be-denied", Some("/profile"), Some("missing-role"))),
            ),
            ("GET", "/profile", Some(&ada), 200, None),
            (
                "GET",
                "/news/1",
                None,
                401,
                Some(("would-pass", Some("/news/*"), Some("anonymous"))),
            ),
            ("GET", "/news/1", Some(&bob), 200, None),
            (
                "GET",
                "/admin/x",
                Some(&bob),
                403,
                Some(("would-pass", Some("/admin/*"), Some("token"))),
            ),
            ("GET", "/admin/x", None, 401, None),
            (
                "GET",
                "/other",
                Some(&bob),
                200,
                Some(("would-be-denied", None, Some("no-rule"))),
            ),
            ("GET", "/other", None, 401, None),
            (
                "GET",
                "/healthz",
                None,
                200,
                Some((
                    "would-be-denied",
                    Some("GET /healthz"),
                    Some("missing-credentials"),
                )),
            ),
        ];
        for (method, path, bearer, status, expected) in cases {
            let own = format!("{path}?{}", uuid::Uuid::new_v4());
            let before = match expected {
                Some((direction, rule, _)) => {
                    count(&front.doorward, rule.unwrap_or("none"), direction)
                        .await
                        .unwrap()
                }
                None => 0,
            };
            let of_path = || -> Vec<Value> {
                let lines = front.envoy.access_log().into_iter();
                lines.filter(|line| line["path"] == path).collect()
            };
            let seen = of_path().len();
            let headers: Vec<_> = bearer
                .map(|bearer| ("authorization", &**bearer))
                .into_iter()
                .collect();
            let reply = front.send(method, &own, &headers).await;
            assert_eq!(reply.status, status, "{version} {path} {reply:?}");
            let line = until("a line of the access log", BY_ITSELF, async || {
                of_path().get(seen).cloned()
            })
            .await;
            let (direction, rule, reason) = expected
                .map_or((None, None, None), |(direction, rule, reason)| {
                    (Some(direction), rule, reason)
                });
            let shown = ["next", "next_rule", "next_reason"].map(|key| line[key].clone());
            assert_eq!(
                shown,
                [json!(direction), json!(rule), json!(reason)],
                "{version} {path}"
            );
            if let Some(direction) = direction {
                let now = count(&front.doorward, rule.unwrap_or("none"), direction).await;
                assert_eq!(now, Some(before + 1), "{version} {path}");
            }
        }
        let logged = differences(&front.doorward);
        assert_eq!(logged.len(), 5, "{logged:?}");
        let first = &logged[0]["fields"];
        for (key, value) in [
            ("direction", json!("would-be-denied")),
            ("rule", json!("/*")),
            ("next_rule", json!("/profile")),
            ("reason", json!("token")),
            ("next_reason", json!("missing-role")),
            ("path", json!("/profile")),
            ("door", json!("grpc")),
        ] {
            assert_eq!(first[key], value, "{first}");
        }
        assert!(first["sub"].is_string(), "{first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_counted_completely_and_logged_once_a_minute() {
    let front = open(Envoy::NEWEST).await;
    for _ in 0..100 {
        let reply = front.send("GET", "/news/1", &[]).await;
        assert_eq!(reply.status, 401);
    }
    assert_eq!(
        count(&front.doorward, "/news/*", "would-pass").await,
        Some(100)
    );
    // The minute may end meanwhile.
    let lines = differences(&front.doorward).len();
    assert!((1..=3).contains(&lines), "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn next_rules_are_read_again_promoted_and_then_in_force() {
    let front = open(Envoy::NEWEST).await;
    let news = async || front.send("GET", "/news/1", &[]).await.status;
    let run = async |arguments: &[&str]| front.doorward.home().run(arguments, "").await;
    let dir = front.doorward.home().dir().to_owned();
    assert_eq!(news().await, 401);

    // A broken file changes nothing, neither in force nor next.
    fs::write(
        next_file(&front.doorward),
        "[[route]]\npath = \"/news/*\"\n",
    )
    .unwrap();
    until("the broken file is reported", BY_ITSELF, async || {
        let log = front.doorward.output();
        (log.contains("not reloaded") && log.contains("next.toml:1")).then_some(())
    })
    .await;
    let refused = run(&["policy", "promote"]).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(refused.stderr.contains("next.toml"), "{refused:?}");

    let another = format!("{NEXT}\n[[route]]\npath = \"/new\"\nallow = \"public\"\n");
    fs::write(next_file(&front.doorward), &another).unwrap();
    until("the next rules are read again", BY_ITSELF, async || {
        front.send("GET", "/new", &[]).await;
        count(&front.doorward, "/new", "would-pass")
            .await
            .filter(|count| *count > 0)
    })
    .await;
    assert_eq!(news().await, 401);

    let before = fs::read_to_string(dir.join("doorward.toml")).unwrap();
    let printed = run(&["policy", "promote", "--print"]).await.ok().stdout;
    assert_eq!(
        fs::read_to_string(dir.join("doorward.toml")).unwrap(),
        before
    );
    let said = run(&["policy", "promote"]).await.ok().stdout;
    assert!(said.contains("now has the 7 rules of next.toml"), "{said}");
    assert_eq!(
        fs::read_to_string(dir.join("doorward.toml")).unwrap(),
        printed
    );
    until("the next rules are in force", BY_ITSELF, async || {
        (news().await == 200).then_some(())
    })
    .await;
    let reply = send(front.doorward.ops, "GET", "/metrics", &[], "").await;
    let metrics = reply.text();
    assert!(
        metrics.lines().any(|line| line == "doorward_next_rules 0"),
        "{metrics}"
    );
    let again = run(&["policy", "promote"]).await.ok().stdout;
    assert!(again.contains("already has the 7 rules"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_next_rules_there_is_nothing_to_promote() {
    let home = Doorward::prepare(|settings| {
        settings.toml("[[route]]\npath = \"/*\"\nallow = \"signed-in\"\n");
    });
    let ran = home.run(&["policy", "promote"], "").await;
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert!(ran.stderr.contains("rules.next is not set"), "{ran:?}");
    // Next rules that nobody can read are a fault, and so are other settings in their file.
    let dir = home.dir().to_owned();
    for (text, fault) in [
        (None, "next.toml"),
        (
            Some("[jwt]\nlifetime = \"1h\"\n"),
            "a file of rules has only [[route]]",
        ),
        (Some("# nothing\n"), "has no [[route]]"),
        (
            Some("[[route]]\npath = \"/*\"\nallow = \"everybody\"\n"),
            "next.toml:3",
        ),
        (Some("[[route]\n"), "next.toml:1: not TOML"),
    ] {
        if let Some(text) = text {
            fs::write(dir.join("next.toml"), text).unwrap();
        }
        let ran = home
            .run(&["--set", "rules.next=next.toml", "config", "check"], "")
            .await;
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(ran.stderr.contains(fault), "{fault}: {ran:?}");
    }
}
