//! The metrics at `/metrics`, read by the official parser and compared with the requests that were sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    direct::{login_from, post},
    front::{ADA, BOB, Front, basic, check, tampered},
    harness::{Doorward, Envoy, PATIENCE, fed, repository, send, send_bytes, tool, until},
};

/// The families that the parser has read.
pub struct Scrape(Vec<Value>);

impl Scrape {
    pub async fn of(doorward: &Doorward) -> Self {
        let reply = send(doorward.ops, "GET", "/metrics", &[], "").await;
        assert_eq!(reply.status, 200);
        let kind = reply.header("content-type").unwrap();
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        let mut reading = Command::new("python3");
        reading
            .arg(repository().join("tests/tools/read-metrics"))
            .arg(tool("prometheus-client"));
        let read = fed(&mut reading, &reply.body);
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(read.status.success(), "{said}\n{}", reply.text());
        Self(serde_json::from_slice(&read.stdout).unwrap())
    }

    fn samples(&self) -> impl Iterator<Item = &Value> {
        let families = self.0.iter();
        families.flat_map(|family| family["samples"].as_array().unwrap())
    }

    /// The sum of all series with this name and these labels; `None` if there is none.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Value| {
            sample["name"] == name
                && labels
                    .iter()
                    .all(|(key, value)| sample["labels"][key] == *value)
        };
        let found: Vec<_> = self.samples().filter(has).collect();
        let values = found.iter().map(|sample| sample["value"].as_f64().unwrap());
        (!found.is_empty()).then(|| values.sum())
    }

    #[track_caller]
    pub fn is(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let found = self.find(name, labels);
        assert_eq!(found, Some(value), "{name} {labels:?}");
    }

    /// Every series without its value.
    pub fn series(&self) -> BTreeSet<String> {
        let name = |sample: &Value| format!("{} {}", sample["name"], sample["labels"]);
        self.samples().map(name).collect()
    }

    /// A table row for each family, by its name.
    fn rows(&self) -> BTreeMap<String, (String, BTreeSet<String>, String)> {
        let rows = self.0.iter().map(|family| {
            let text = |key: &str| family[key].as_str().unwrap().to_owned();
            let name = match &*text("type") {
                "counter" => text("name") + "_total",
                _ => text("name"),
            };
            let samples = family["samples"].as_array().unwrap().iter();
            let labels = samples.flat_map(|sample| sample["labels"].as_object().unwrap().keys());
            let labels = labels.filter(|label| *label != "le").cloned().collect();
            let help = text("help").replace('|', "\\|");
            (
                name,
                (text("type"), labels, help.trim_end_matches('.').to_owned()),
            )
        });
        rows.collect()
    }
}

async fn front() -> Front {
    let front = Front::open(Envoy::NEWEST, |_| {}, |config| config).await;
    let first = Scrape::of(&front.doorward).await;
    for (name, labels) in [
        (
            "doorward_login_duration_seconds_count",
            [("result", "unavailable")],
        ),
        ("doorward_throttled_total", [("by", "address")]),
        ("doorward_revocation_reads_total", [("result", "failed")]),
        ("doorward_database_errors_total", [("kind", "timeout")]),
    ] {
        first.is(name, &labels, 0.0);
    }
    front
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted() {
    let front = front().await;
    let doorward = &front.doorward;
    let bob = front.bearer(BOB).await;
    let bad = tampered(&bob);
    for _ in 0..7 {
        let reply = front.send("GET", "/x", &[("authorization", &bob)]).await;
        assert_eq!(reply.status, 200);
    }
    for _ in 0..3 {
        front.send("GET", "/healthz", &[]).await;
        front.send("GET", "/x", &[("authorization", &bad)]).await;
    }
    front.send("GET", "/x", &[]).await;
    front
        .send("GET", "/admin/x", &[("authorization", &bob)])
        .await;
    let scrape = Scrape::of(doorward).await;
    let decided = |decision, reason, rule, count| {
        let labels = [
            ("door", "grpc"),
            ("decision", decision),
            ("reason", reason),
            ("rule", rule),
        ];
        scrape.is("doorward_decisions_total", &labels, count);
    };
    decided("allow", "token", "/*", 7.0);
    decided("allow", "anonymous", "GET /healthz", 3.0);
    decided("deny", "token-signature", "/*", 3.0);
    decided("deny", "missing-token", "/*", 1.0);
    decided("deny", "missing-role", "/admin/*", 1.0);
    decided("issue", "login", "POST /login", 1.0);
    scrape.is("doorward_decisions_total", &[], 16.0);
    let took = "doorward_decision_duration_seconds_count";
    scrape.is(took, &[("door", "grpc"), ("work", "check")], 15.0);
    scrape.is(took, &[("door", "grpc"), ("work", "errand")], 1.0);
    scrape.is(
        "doorward_login_duration_seconds_count",
        &[("result", "ok")],
        1.0,
    );
    scrape.is("doorward_hash_duration_seconds_count", &[], 1.0);
    scrape.is("doorward_hash_queue", &[], 0.0);
    // One valid token was new to the cache; the tampered one identifies no user.
    scrape.is("doorward_token_age_seconds_count", &[], 1.0);
    let key = [("alg", "HS256"), ("state", "signing")];
    scrape.is("doorward_key_begin_timestamp_seconds", &key, 0.0);
    let positive = [
        "process_start_time_seconds",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "doorward_revocation_last_read_timestamp_seconds",
        "doorward_database_connections_limit",
        "doorward_database_statement_duration_seconds_count",
        "doorward_hash_duration_seconds_sum",
        "doorward_hash_queue_limit",
        "doorward_build_info",
    ];
    for name in positive {
        assert!(scrape.find(name, &[]) > Some(0.0), "{name}");
    }
    let lag = scrape.find("doorward_revocation_lag_seconds", &[]).unwrap();
    assert!(lag < 10.0, "{lag}");

    // A reload does not reset the counters.
    doorward.signal(Signal::HUP);
    until("the settings are reloaded", PATIENCE, async || {
        let scrape = Scrape::of(doorward).await;
        (scrape.find("doorward_reloads_total", &[("result", "ok")]) == Some(1.0)).then_some(())
    })
    .await;
    front.send("GET", "/x", &[("authorization", &bob)]).await;
    let scrape = Scrape::of(doorward).await;
    let passes = [("decision", "allow"), ("rule", "/*")];
    scrape.is("doorward_decisions_total", &passes, 8.0);
    // The token cache was cleared together with the keys.
    scrape.is("doorward_token_age_seconds_count", &[], 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_logins_are_counted_by_reason() {
    let doorward = Doorward::start(|settings| {
        settings
            .env("DOORWARD_SELF_SERVICE__REGISTER", "true")
            .env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:1")
            .env("DOORWARD_THROTTLE__ACCOUNT_FAILURES", "2")
            .env("DOORWARD_THROTTLE__ADDRESS_FAILURES", "3");
    })
    .await;
    doorward.add_user(BOB.0, BOB.1, &[]).await;
    let wrong = |who| (who, "not-the-password");
    let mut statuses = Vec::new();
    // After two failures the account must wait; then, with a third name, the address must wait.
    for (who, client) in [
        (wrong("bob"), "203.0.113.7"),
        (wrong("bob"), "203.0.113.7"),
        (wrong("bob"), "203.0.113.8"),
        (wrong("x"), "203.0.113.7"),
        (wrong("y"), "203.0.113.7"),
    ] {
        statuses.push(login_from(&doorward, who, client).await.status);
    }
    assert_eq!(statuses, [401, 401, 429, 401, 429]);
    let scrape = Scrape::of(&doorward).await;
    let logins = "doorward_login_duration_seconds_count";
    scrape.is(logins, &[("result", "refused")], 3.0);
    scrape.is(logins, &[("result", "throttled")], 2.0);
    scrape.is(logins, &[("result", "ok")], 0.0);
    scrape.is("doorward_throttled_total", &[("by", "account")], 1.0);
    scrape.is("doorward_throttled_total", &[("by", "address")], 1.0);
    scrape.is(
        "doorward_decisions_total",
        &[("reason", "throttled"), ("door", "login")],
        2.0,
    );
    // Two names and one address; refused attempts add no entries.
    scrape.is("doorward_throttle_entries", &[], 3.0);
}

/// Whatever a client sends, it creates no series that harmless requests do not create.
#[tokio::test(flavor = "multi_thread")]
async fn clients_cannot_create_series() {
    let front = front().await;
    let doorward = &front.doorward;
    let edge = front.envoy.edge;
    let hostile = async |word: &str| {
        let host = format!("{word}.example");
        let id = format!("id-{word}\"}} 7");
        let headers = [
            ("host", &*host),
            ("x-request-id", &*id),
            ("user-agent", word),
            ("x-door", word),
        ];
        let credentials = basic(word, &format!("password-{word}"));
        let with = |value| [&headers[..], &[("authorization", value)]].concat();
        let unknown = format!("Bearer {word}.{word}.{word}");
        send(edge, "GET", &format!("/{word}"), &headers, "").await;
        send(edge, &word.to_uppercase(), "/x", &headers, "").await;
        send(edge, "GET", "/x", &with(&unknown), "").await;
        send(edge, "POST", "/login", &with(&credentials), "").await;
        let odd = format!("{word}\"\\\n# EOF\n");
        check(doorward.grpc, &odd, &format!("/{odd}"), &odd).await;
        let path = format!("/{word}");
        let body = serde_json::json!({"username": word, "password": odd});
        post(doorward, &path, None, &body).await;
        let forward = format!(
            "GET /auth/forward HTTP/1.1\r\nhost: a\r\nx-forwarded-method: GET\r\nx-forwarded-proto: http\r\nx-forwarded-host: {word}\r\nx-forwarded-uri: /{word}\"\r\nx-original-url: {word}\r\nconnection: close\r\n\r\n"
        );
        send_bytes(doorward.http, forward.as_bytes()).await;
    };
    hostile("alpaca").await;
    let before = Scrape::of(doorward).await;
    for word in ["bison", "condor", "dingo"] {
        hostile(word).await;
    }
    let after = Scrape::of(doorward).await;
    let total = "doorward_decisions_total";
    assert!(after.find(total, &[]) >= before.find(total, &[]).map(|count| count + 15.0));
    assert_eq!(before.series(), after.series());
    let all = after.series().into_iter().collect::<String>();
    for word in ["alpaca", "bison", "EOF", "example"] {
        assert!(!all.contains(word), "{word}: {all}");
    }
}

/// Families that no scrape of these tests contains.
const OTHER_ROWS: [(&str, &str, &str, &str); 1] = [(
    "doorward_connections",
    "gauge",
    "`door`",
    "Open connections, by port",
)];

/// The table in docs/metrics.md, compared with two Doorwards that together show every other family.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_metrics_is_what_is_scraped() {
    let front = front().await;
    front.bearer(ADA).await;
    let mut rows = Scrape::of(&front.doorward).await.rows();

    let home = Doorward::prepare(|settings| {
        settings
            .toml("rules.next = 'next.toml'\n[keys]\nenabled = true\n[[issuer]]\nissuer = 'https://id.example/'\naudience = 'a'\nprefix = 'corp/'\njwks = 'jwks.json'\n");
    });
    let next = "[[route]]\npath = '/*'\nallow = 'nobody'\n";
    fs::write(home.dir().join("next.toml"), next).unwrap();
    home.run(&["keys", "generate", "ES256"], "").await.ok();
    let exported = home.run(&["keys", "export"], "").await.ok().stdout;
    // Two keys must not start in the same second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    home.run(&["keys", "rotate", "--after", "0s"], "")
        .await
        .ok();
    let dir = home.dir().to_owned();
    fs::write(dir.join("jwks.json"), exported).unwrap();
    crate::tls::certificate(&dir, "tls.crt", "tls.key");
    let home = home.with(|settings| {
        for (key, file) in [("CERTIFICATE", "tls.crt"), ("KEY", "tls.key")] {
            let path = dir.join(file).display().to_string();
            settings.env(format!("DOORWARD_LISTEN__TLS_{key}"), path);
        }
    });
    let doorward = home.serve().await;
    let second = Scrape::of(&doorward).await;
    let expires = second.find("doorward_tls_certificate_expiry_timestamp_seconds", &[]);
    let shown = Command::new("openssl")
        .args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"])
        .arg(dir.join("tls.crt"))
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let shown = shown
        .trim()
        .trim_start_matches("notAfter=")
        .replace(' ', "T");
    let shown = humantime::parse_rfc3339(&shown).unwrap();
    let shown = shown.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(expires, Some(shown.as_secs_f64()));
    for (name, (kind, labels, help)) in second.rows() {
        let row = rows.entry(name).or_insert((kind, BTreeSet::new(), help));
        row.1.extend(labels);
    }

    let mut lines: Vec<_> =
        rows.iter()
            .map(|(name, (kind, labels, help))| {
                let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
                format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "))
            })
            .chain(OTHER_ROWS.map(|(name, kind, labels, help)| {
                format!("| `{name}` | {kind} | {labels} | {help} |")
            }))
            .collect();
    lines.sort_by_key(|line| line.split('`').nth(1).map(str::to_owned));
    lines.dedup();
    let table = lines.join("\n");
    let file = repository().join("docs/metrics.md");
    let head = "| metric | type | labels | meaning |\n|---|---|---|---|\n";
    if env::var_os("DOORWARD_GOLDEN").is_some_and(|value| value == "write") {
        let text = fs::read_to_string(&file).unwrap();
        let (before, after) = text.split_once(head).unwrap();
        let rows = after.lines().take_while(|line| line.starts_with('|'));
        let rest = &after[rows.map(|line| line.len() + 1).sum::<usize>()..];
        fs::write(&file, format!("{before}{head}{table}\n{rest}")).unwrap();
    }
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains(&format!("{head}{table}\n\n")),
        "the table should be\n{table}"
    );
}
