//! Every series of decisions exists before its first decision, and a successful `/validate` counts as a decision.

use serde_json::Value;

use crate::{
    direct::{EVERYTHING, login_with, post},
    front::{ADA, BOB, Front, log_in, tampered},
    harness::{Doorward, Envoy, send},
    metrics::Scrape,
};

const DECISIONS: &str = "doorward_decisions_total";

fn decisions(scrape: &Scrape) -> Vec<String> {
    let all = scrape.series().into_iter();
    all.filter(|series| series.contains(DECISIONS)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_exists_before_its_first_decision() {
    let front = Front::open(
        Envoy::NEWEST,
        |settings| {
            for (name, value) in EVERYTHING {
                settings.env(name, value);
            }
            settings.env("DOORWARD_THROTTLE__ACCOUNT_FAILURES", "2");
        },
        |config| config,
    )
    .await;
    let doorward = &front.doorward;
    let before = Scrape::of(doorward).await;
    let first = decisions(&before);
    assert!((200..2000).contains(&first.len()), "{}", first.len());
    for (door, decision, reason, rule) in [
        ("grpc", "allow", "token", "/*"),
        ("forward", "deny", "token-expired", "/*"),
        ("grpc", "issue", "login", "POST /login"),
        ("grpc", "deny", "ambiguous-path", "none"),
        ("nginx", "deny", "untrusted-peer", "none"),
        ("validate", "allow", "token", "none"),
        ("login", "deny", "throttled", "none"),
        ("refresh", "deny", "refresh-reused", "none"),
        ("grpc", "deny", "internal", "none"),
    ] {
        let labels = [
            ("door", door),
            ("decision", decision),
            ("reason", reason),
            ("rule", rule),
        ];
        before.is(DECISIONS, &labels, 0.0);
    }

    let (ada, bob) = (front.bearer(ADA).await, front.bearer(BOB).await);
    for bearer in [&ada, &bob, &tampered(&bob), "Bearer no-token", "Basic x"] {
        for path in [
            "/x",
            "/admin/x",
            "/healthz",
            "/a//..;/b",
            "/login",
            "/none/x",
        ] {
            let headers = [("authorization", bearer)];
            front.send("GET", path, &headers).await;
            send(doorward.http, "GET", "/validate", &headers, "").await;
            let asked = [
                &headers[..],
                &[
                    ("x-forwarded-method", "GET"),
                    ("x-forwarded-proto", "http"),
                    ("x-forwarded-host", "a"),
                    ("x-forwarded-uri", path),
                ],
            ]
            .concat();
            send(doorward.http, "GET", "/auth/forward", &asked, "").await;
            send(doorward.http, "GET", "/auth/nginx", &headers, "").await;
        }
    }
    front.send("GET", "/x", &[]).await;
    for _ in 0..4 {
        login_with(doorward, ("bob", "not-the-password"), &[]).await;
    }
    send(doorward.http, "GET", "/login", &[], "").await;
    for path in ["/refresh", "/register", "/password", "/logout"] {
        for bearer in [None, Some(&*ada)] {
            post(
                doorward,
                path,
                bearer,
                &serde_json::json!({"username": "x"}),
            )
            .await;
        }
    }
    let after = Scrape::of(doorward).await;
    let counted = after.find(DECISIONS, &[]).unwrap();
    assert!(counted > 100.0, "{counted}");
    let second = decisions(&after);
    let new: Vec<_> = second.iter().filter(|own| !first.contains(own)).collect();
    assert!(new.is_empty(), "{new:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_validate_is_counted_and_logged_as_a_pass() {
    let doorward = Doorward::start(|settings| {
        settings
            .env("DOORWARD_LOG__LEVEL", "debug")
            .env("DOORWARD_AUDIT__TO", "stderr");
    })
    .await;
    doorward.add_user(BOB.0, BOB.1, &[]).await;
    let bob = log_in(doorward.http, BOB).await;
    let bad = tampered(&bob);
    for bearer in [&bob, &bob, &bad] {
        let headers = [("authorization", &**bearer), ("x-request-id", "validated")];
        send(doorward.http, "GET", "/validate", &headers, "").await;
    }
    let scrape = Scrape::of(&doorward).await;
    let labels = |decision, reason| {
        [
            ("door", "validate"),
            ("decision", decision),
            ("reason", reason),
            ("rule", "none"),
        ]
    };
    scrape.is(DECISIONS, &labels("allow", "token"), 2.0);
    scrape.is(DECISIONS, &labels("deny", "token-signature"), 1.0);
    let took = "doorward_decision_duration_seconds_count";
    scrape.is(took, &[("door", "validate"), ("work", "check")], 3.0);

    let is_pass = |line: &Value| line["fields"]["door"] == "validate" && line["level"] == "DEBUG";
    let line = doorward.logged("the pass", is_pass).await;
    let fields = &line["fields"];
    assert_eq!(fields["message"], "allow", "{line}");
    assert_eq!(fields["reason"], "token", "{line}");
    assert_eq!(fields["path"], "/validate", "{line}");
    assert_eq!(fields["request_id"], "validated", "{line}");
    assert!(fields["sub"].is_string(), "{line}");
    // A pass is not written to the audit trail.
    let audited = doorward
        .log()
        .into_iter()
        .filter(|line| line["event"] == "allow");
    assert_eq!(audited.count(), 0);
    let denied = |line: &Value| line["event"] == "deny" && line["door"] == "validate";
    doorward
        .logged("the refusal in the audit trail", denied)
        .await;
}
