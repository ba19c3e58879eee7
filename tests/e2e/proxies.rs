//! Every gateway that asks the HTTP port, with its committed configuration: what passes through it, what it refuses,
//! and what reaches the service.

use std::fs;

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use crate::{
    front::{ADA, BOB, basic, tampered},
    harness::{
        Doorward, Gateway, PATIENCE, Proxy, Reply, Service, repository, send, send_bytes, try_send,
        until,
    },
};

/// Runs each case through each gateway, as one test each.
macro_rules! through {
    ($($name:ident: $gateway:ident),*: $cases:tt) => { $(through!(@ $name $gateway $cases);)* };
    (@ $name:ident $gateway:ident { $($case:ident),* }) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    super::$case(Gateway::$gateway).await;
                }
            )*
        }
    };
}

through!(
    oldest_envoy: OldestEnvoy,
    newest_envoy: NewestEnvoy,
    nginx: Nginx,
    ingress_nginx: IngressNginx,
    caddy: Caddy,
    haproxy: Haproxy,
    traefik: Traefik: {
        every_row_of_the_core_table_holds,
        logins_reach_doorward_and_nothing_else_does,
        a_logout_ends_the_token,
        forged_identity_does_not_arrive,
        forged_forwarding_headers_change_no_decision,
        addresses_are_the_clients_own,
        hosts_are_the_clients_own,
        invalid_hosts_pass_nothing,
        doubled_and_oversize_headers_pass_nothing,
        no_spelling_bypasses_the_rule,
        without_doorward_nothing_passes
    }
);

struct Setup {
    gateway: Gateway,
    doorward: Doorward,
    service: Service,
    proxy: Proxy,
}

impl Setup {
    async fn open(gateway: Gateway) -> Self {
        let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
        Self::with(gateway, rules, |text| text).await
    }

    async fn with(gateway: Gateway, rules: String, change: impl Fn(String) -> String) -> Self {
        let home = Doorward::prepare(|settings| {
            settings.toml(rules);
            let address = match gateway.is_envoy() {
                true => "x-envoy-external-address",
                false => "x-forwarded-for:1",
            };
            settings.env("DOORWARD_CLIENT_ADDRESS", address);
        });
        home.run(&["migrate"], "").await.ok();
        home.add_user(ADA.0, ADA.1, &["--admin"]).await;
        home.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
        let doorward = home.serve().await;
        let service = Service::start().await;
        let proxy = gateway.start(doorward.http, service.address, change).await;
        Self {
            gateway,
            doorward,
            service,
            proxy,
        }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        send(self.proxy.edge, method, path, headers, "").await
    }

    /// Sends raw bytes and gives the status of the answer.
    async fn status(&self, request: &str) -> u16 {
        status(&send_bytes(self.proxy.edge, request.as_bytes()).await)
    }

    async fn bearer(&self, who: (&str, &str)) -> String {
        let credentials = basic(who.0, who.1);
        let headers = [("authorization", &*credentials)];
        let reply = self.send("POST", "/login", &headers).await;
        let gateway = self.gateway;
        assert_eq!(
            reply.status,
            200,
            "{gateway:?} {reply:?} {}",
            self.proxy.log()
        );
        reply.header("authorization").unwrap().to_owned()
    }

    /// The headers that the service received with a request that passed.
    async fn arrived(&self, path: &str, headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let reply = self.send("GET", path, headers).await;
        let gateway = self.gateway;
        assert_eq!(
            reply.status, 200,
            "{gateway:?} {path} {headers:?}: {reply:?}"
        );
        let echo = reply.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let pairs = echo["headers"].as_array().unwrap().iter();
        pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
    }

    /// The status into which the gateway turns a denial: nginx supports only 401 and 403, and ingress-nginx redirects
    /// to the sign-in page instead of 401.
    fn denied(&self, status: u16) -> u16 {
        match (self.gateway, status) {
            (Gateway::IngressNginx, 401) => 302,
            (Gateway::IngressNginx, 400 | 405) => 403,
            _ => status,
        }
    }
}

fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("{answer:?}"))
}

/// The headers that a service could read as an identity, sorted.
fn identity(arrived: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut identity: Vec<_> = arrived
        .into_iter()
        .filter(|(name, _)| name.replace(['_', '.'], "-").starts_with("x-auth-"))
        .collect();
    identity.sort();
    identity
}

fn named(user: &str, roles: &str) -> Vec<(String, String)> {
    [
        ("x-auth-admin", "false"),
        ("x-auth-roles", roles),
        ("x-auth-user", user),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into()
}

/// The core table of the design.
async fn every_row_of_the_core_table_holds(gateway: Gateway) {
    let setup = Setup::open(gateway).await;
    let (admin, plain) = (setup.bearer(ADA).await, setup.bearer(BOB).await);
    let bad = &*tampered(&plain);
    let (good_basic, wrong_basic) = (&*basic(BOB.0, BOB.1), &*basic(BOB.0, "wrong"));
    let (admin, plain) = (&*admin, &*plain);
    let challenge = "Bearer realm=\"doorward\"";
    let invalid = "Bearer realm=\"doorward\", error=\"invalid_token\"";
    let malformed = "Bearer realm=\"doorward\", error=\"invalid_request\"";
    let scope = "Bearer realm=\"doorward\", error=\"insufficient_scope\"";
    let log_in = "Basic realm=\"doorward\", charset=\"UTF-8\"";
    for (method, path, shown, expected, authenticate, body) in [
        ("GET", "/healthz", "", 200, "", "\"path\":\"/healthz\""),
        (
            "GET",
            "/healthz",
            good_basic,
            200,
            "",
            "\"path\":\"/healthz\"",
        ),
        ("GET", "/healthz", plain, 200, "", "\"x-auth-user\",\"bob\""),
        ("GET", "/healthz", bad, 200, "", "\"x-auth-user\",\"-\""),
        ("POST", "/login", "", 401, log_in, "Missing credentials"),
        ("POST", "/login", good_basic, 200, "", "eyJ"),
        (
            "POST",
            "/login",
            wrong_basic,
            401,
            log_in,
            "Invalid credentials",
        ),
        ("POST", "/login", plain, 401, log_in, "Missing credentials"),
        ("POST", "/login", bad, 401, log_in, "Missing credentials"),
        ("GET", "/profile", "", 401, challenge, "Missing token"),
        (
            "GET",
            "/profile",
            good_basic,
            401,
            challenge,
            "Missing token",
        ),
        ("GET", "/profile", plain, 200, "", "\"user\":\"bob\""),
        ("GET", "/profile", bad, 401, invalid, "Invalid token"),
        (
            "GET",
            "/profile",
            "Bearer a b",
            400,
            malformed,
            "Malformed token",
        ),
        ("POST", "/healthz", "", 401, challenge, "Missing token"),
        ("DELETE", "/things/1", "", 401, challenge, "Missing token"),
        (
            "DELETE",
            "/things/1",
            plain,
            200,
            "",
            "\"method\":\"DELETE\"",
        ),
        ("GET", "/admin/users", "", 401, challenge, "Missing token"),
        (
            "GET",
            "/admin/users",
            good_basic,
            401,
            challenge,
            "Missing token",
        ),
        ("GET", "/admin/users", plain, 403, scope, "Not authorized"),
        ("GET", "/admin/users", admin, 200, "", "\"users\""),
        ("GET", "/admin/users", bad, 401, invalid, "Invalid token"),
        (
            "GET",
            "/admin/users?x=/healthz",
            plain,
            403,
            scope,
            "Not authorized",
        ),
    ] {
        let headers: &[_] = &[("authorization", shown)];
        let headers = if shown.is_empty() { &[] } else { headers };
        let reply = setup.send(method, path, headers).await;
        let row = format!("{gateway:?} {method} {path} with {shown:?}: {reply:?}");
        let said = reply.header("www-authenticate").unwrap_or("");
        // Doorward answers this path directly, without a sub-request.
        let direct = path == "/login";
        if direct || expected == 200 || !gateway.is_nginx() {
            assert_eq!((reply.status, said), (expected, authenticate), "{row}");
            assert!(reply.text().contains(body), "{row}");
        } else {
            // nginx receives no body from the sub-request.
            assert_eq!(reply.status, setup.denied(expected), "{row}");
            if gateway == Gateway::Nginx {
                assert_eq!(said, authenticate, "{row}");
            } else if expected == 401 {
                assert!(
                    reply.header("location").unwrap().ends_with("/sign-in"),
                    "{row}"
                );
            }
        }
        if expected != 200 && (direct || gateway != Gateway::IngressNginx) {
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{row}");
        }
    }
    // An anonymous request arrives without an identity.
    for shown in [None, Some(good_basic), Some(bad)] {
        let headers: Vec<_> = shown
            .map(|value| ("authorization", value))
            .into_iter()
            .collect();
        let arrived = setup.arrived("/healthz", &headers).await;
        let authorization = arrived.iter().any(|(name, _)| name == "authorization");
        assert!(!authorization, "{gateway:?} {arrived:?}");
        assert_eq!(identity(arrived), named("-", "-"), "{gateway:?}");
    }
    // The body goes only to the service.
    let headers = [("authorization", plain)];
    let body = "u".repeat(100_000);
    let reply = send(setup.proxy.edge, "POST", "/upload", &headers, body).await;
    assert_eq!(reply.json(), json!({"bytes": 100_000}), "{gateway:?}");
}

async fn a_logout_ends_the_token(gateway: Gateway) {
    let setup = Setup::open(gateway).await;
    let (first, second) = (setup.bearer(BOB).await, setup.bearer(BOB).await);
    let profile = async |bearer: &str| {
        let headers = [("authorization", bearer)];
        setup.send("GET", "/profile", &headers).await.status
    };
    let logout = async |target: &str, bearer: &str| {
        let headers = [("authorization", bearer)];
        let reply = setup.send("POST", target, &headers).await;
        assert_eq!(
            (reply.status, reply.text()),
            (200, "Logged out"),
            "{gateway:?} {reply:?}"
        );
    };
    logout("/logout", &first).await;
    assert_eq!(profile(&first).await, setup.denied(401), "{gateway:?}");
    assert_eq!(profile(&second).await, 200, "{gateway:?}");
    let third = setup.bearer(BOB).await;
    logout("/logout?all", &second).await;
    assert_eq!(profile(&third).await, setup.denied(401), "{gateway:?}");
    let nothing = setup.send("POST", "/logout", &[]).await;
    assert_eq!(nothing.status, 401, "{gateway:?} {nothing:?}");
    assert_eq!(setup.service.requests(), 1, "{gateway:?}: only the profile");
}

async fn logins_reach_doorward_and_nothing_else_does(gateway: Gateway) {
    let setup = Setup::open(gateway).await;
    let before = setup.service.requests();
    let edge = setup.proxy.edge;
    let login = json!({"username": BOB.0, "password": BOB.1}).to_string();
    let form = format!("username={}&password={}", BOB.0, BOB.1);
    for (kind, body) in [
        ("application/json", login),
        ("application/x-www-form-urlencoded", form),
    ] {
        let headers = [("content-type", kind), ("accept", "application/json")];
        let reply = send(edge, "POST", "/login", &headers, body).await;
        assert_eq!(reply.status, 200, "{gateway:?} {kind}: {reply:?}");
        assert_eq!(reply.json()["token_type"], "Bearer", "{gateway:?}");
        let long = " ".repeat(20_000);
        let reply = try_send(edge, "POST", "/login", &headers, long).await;
        assert!(
            reply.as_ref().is_ok_and(|reply| reply.status == 413),
            "{gateway:?}: {reply:?}"
        );
    }
    let good = basic(BOB.0, BOB.1);
    for (method, path) in [
        ("GET", "/login"),
        ("HEAD", "/login"),
        ("PUT", "/login"),
        ("GET", "/validate"),
        ("POST", "/validate"),
        ("GET", "/auth/forward"),
        ("GET", "/auth/nginx"),
        ("GET", "/auth/envoy/healthz"),
        ("GET", "/.doorward"),
        ("GET", "/_external-auth-Lw-Prefix"),
        ("POST", "/login/"),
        ("POST", "/login/validate"),
        ("POST", "/login/../validate"),
        ("POST", "/login/../profile"),
        ("POST", "/login;x"),
        ("POST", "/auth/envoy/../../login"),
    ] {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: {good}\r\nx-forwarded-uri: /healthz\r\n\
             x-forwarded-host: x\r\nx-forwarded-method: GET\r\nx-forwarded-proto: http\r\nconnection: close\r\n\
             content-length: 0\r\n\r\n"
        );
        let answer = send_bytes(edge, request.as_bytes()).await;
        // A gateway may treat another spelling as `/login`; then the request must be a login.
        let is_login = answer.contains("Bearer eyJ");
        assert!(
            status(&answer) != 200 || (is_login && path.ends_with("/login")),
            "{gateway:?} {method} {path}: {answer}"
        );
    }
    assert_eq!(setup.service.requests(), before, "{gateway:?}");
}

async fn forged_identity_does_not_arrive(gateway: Gateway) {
    let setup = Setup::open(gateway).await;
    let bob = setup.bearer(BOB).await;
    let mut forged = vec![
        ("x-auth-user", "ada"),
        ("x-auth-user", "root"),
        ("X-Auth-Roles", "admin"),
        ("x-auth-admin", "true"),
    ];
    let anonymous = identity(setup.arrived("/healthz", &forged).await);
    assert_eq!(anonymous, named("-", "-"), "{gateway:?}");
    forged.push(("authorization", &bob));
    let known = identity(setup.arrived("/echo", &forged).await);
    assert_eq!(known, named("bob", "editor"), "{gateway:?}");
    let refused = setup.send("GET", "/admin/users", &forged).await;
    assert_eq!(refused.status, 403, "{gateway:?}");

    // A proxy removes the headers that Connection names; it must not remove them from what the service receives.
    for connection in [
        "x-auth-user",
        "close, X-Auth-Admin",
        "authorization, x-auth-roles",
    ] {
        let headers = [("authorization", &*bob), ("connection", connection)];
        let reply = setup.send("GET", "/echo", &headers).await;
        if reply.status == 200 {
            let arrived = setup.arrived("/echo", &headers).await;
            assert_eq!(
                identity(arrived),
                named("bob", "editor"),
                "{gateway:?} {connection}"
            );
        }
    }
}

async fn forged_forwarding_headers_change_no_decision(gateway: Gateway) {
    let setup = Setup::open(gateway).await;
    let bob = setup.bearer(BOB).await;
    let (known, nobody) = ([("authorization", &*bob)], []);
    let questions: [(&str, &[_], u16); 4] = [
        ("/healthz", &nobody, 200),
        ("/profile", &known, 200),
        ("/profile", &nobody, setup.denied(401)),
        ("/admin/users", &known, 403),
    ];
    let edge = setup.proxy.edge;
    let urls = ["/healthz", "/admin/users"].map(|path| format!("http://{edge}{path}"));
    let mut forgeries = vec![vec![]];
    for path in ["/healthz", "/admin/users", "/login", ""] {
        for name in [
            "x-original-uri",
            "x-forwarded-uri",
            "x-forwarded-path",
            "x-forwarded-prefix",
            "x-rewrite-url",
            "x-envoy-original-path",
            "x-replaced-path",
        ] {
            forgeries.push(vec![(name, path)]);
            forgeries.push(vec![(name, path), (name, "/profile")]);
        }
    }
    for url in &urls {
        forgeries.push(vec![("x-original-url", url)]);
        forgeries.push(vec![
            ("x-original-url", url),
            ("x-original-url", "http:///healthz"),
        ]);
    }
    for name in [
        "x-original-method",
        "x-forwarded-method",
        "x-http-method-override",
    ] {
        for method in ["GET", "POST", "OPTIONS", ""] {
            forgeries.push(vec![(name, method)]);
            forgeries.push(vec![(name, method), (name, "GET")]);
        }
    }
    for name in [
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-for",
        "x-auth-status",
        "x-envoy-auth-headers-to-remove",
        "forwarded",
    ] {
        for value in ["authorization", "https", ""] {
            forgeries.push(vec![(name, value), (name, "127.0.0.1")]);
        }
    }
    for forged in &forgeries {
        for (path, headers, expected) in questions {
            // Its location block cannot remove the header of another gateway, which Doorward refuses.
            let is_refused = gateway == Gateway::IngressNginx
                && forged.iter().any(|(name, _)| *name == "x-forwarded-method");
            let expected = if is_refused { 403 } else { expected };
            let headers: Vec<_> = forged.iter().chain(headers).copied().collect();
            let reply = setup.send("GET", path, &headers).await;
            assert_eq!(
                reply.status, expected,
                "{gateway:?} {path} {forged:?}: {reply:?}"
            );
        }
    }
}

async fn addresses_are_the_clients_own(gateway: Gateway) {
    let setup = Setup::open(gateway).await;
    let basic = basic(BOB.0, "wrong");
    let forged = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-for", "192.0.2.2, 192.0.2.3"),
        ("x-real-ip", "192.0.2.4"),
        ("x-envoy-external-address", "192.0.2.5"),
        ("authorization", &basic),
    ];
    for (method, path, reason) in [
        ("GET", "/profile", "missing-token"),
        ("POST", "/login", "wrong-password"),
    ] {
        setup.send(method, path, &forged).await;
        let line = setup
            .doorward
            .logged(reason, |line| line["fields"]["reason"] == reason)
            .await;
        assert_eq!(line["fields"]["client"], "127.0.0.1", "{gateway:?} {line}");
    }
}

async fn hosts_are_the_clients_own(gateway: Gateway) {
    // ingress-nginx passes a host that may not be the one of its server, so Doorward does not trust it.
    let statuses = match gateway {
        Gateway::IngressNginx => (403, 403),
        Gateway::OldestEnvoy
        | Gateway::NewestEnvoy
        | Gateway::Nginx
        | Gateway::Caddy
        | Gateway::Haproxy
        | Gateway::Traefik => (200, 401),
    };
    hosts_are(gateway, |text| text, statuses).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_rules_refuse_ingress_nginx_without_auth_method_too() {
    let without = |text: String| {
        text.replace("proxy_method GET;", "")
            .replace("proxy_set_header X-Original-URI $request_uri;", "")
    };
    hosts_are(Gateway::IngressNginx, without, (403, 403)).await;
}

async fn hosts_are(
    gateway: Gateway,
    change: impl Fn(String) -> String,
    (open, closed): (u16, u16),
) {
    let setup = Setup::with(gateway, crate::paths::HOST_RULES.into(), change).await;
    for forged in ["", "www.example", "internal.example"] {
        for (host, expected) in [
            ("www.example", open),
            ("internal.example", closed),
            ("INTERNAL.example:8080", closed),
            ("a.internal.example", closed),
        ] {
            let url = format!("http://{forged}/x");
            let headers = [
                ("host", host),
                ("x-forwarded-host", forged),
                ("x-original-host", forged),
                ("x-original-url", &url),
                ("forwarded", "host=www.example"),
            ];
            let headers = if forged.is_empty() {
                &headers[..1]
            } else {
                &headers
            };
            let reply = setup.send("GET", "/x", headers).await;
            assert_eq!(reply.status, expected, "{gateway:?} {headers:?}: {reply:?}");
        }
    }
}

async fn invalid_hosts_pass_nothing(gateway: Gateway) {
    let setup = Setup::open(gateway).await;
    let mut before = setup.service.requests();
    let bob = format!("authorization: {}\r\n", setup.bearer(BOB).await);
    for (path, shown) in [
        ("/profile", ""),
        ("/admin/users", ""),
        ("/admin/users", &*bob),
    ] {
        let requests = [
            ("{path} HTTP/1.0", ""),
            ("{path} HTTP/1.0", "host:"),
            ("{path} HTTP/1.1", ""),
            ("{path} HTTP/1.1", "host: a?b="),
            ("{path} HTTP/1.1", "host: a#"),
            ("{path} HTTP/1.1", "host: a/healthz?"),
            ("{path} HTTP/1.1", "host: a@b"),
            ("{path} HTTP/1.1", "host: a,b"),
            ("{path} HTTP/1.1", "host: a\r\nhost: b"),
            ("http://a?b={path} HTTP/1.1", "host: a"),
            ("http://a{path} HTTP/1.1", "host: b"),
            ("http:{path} HTTP/1.1", "host: b"),
        ]
        .map(|(line, host)| {
            let line = line.replace("{path}", path);
            let host = if host.is_empty() {
                String::new()
            } else {
                format!("{host}\r\n")
            };
            format!("GET {line}\r\n{host}{shown}connection: close\r\n\r\n")
        });
        // All at once, because Envoy keeps a connection open for a second after an answer of its own.
        let answers = requests
            .iter()
            .map(|request| send_bytes(setup.proxy.edge, request.as_bytes()));
        for (request, answer) in requests.iter().zip(join_all(answers).await) {
            // `http://a?b=/admin/users` means `/` with a query, which bob may request.
            let root = !shown.is_empty() && answer.contains("\"path\":\"/?b=");
            before += u64::from(root);
            assert!(
                status(&answer) != 200 || root,
                "{gateway:?} {request}: {answer}"
            );
        }
    }
    assert_eq!(setup.service.requests(), before, "{gateway:?}");
}

async fn doubled_and_oversize_headers_pass_nothing(gateway: Gateway) {
    let setup = Setup::open(gateway).await;
    let (ada, bob) = (setup.bearer(ADA).await, setup.bearer(BOB).await);
    let before = setup.service.requests();
    let basic = basic(ADA.0, ADA.1);
    for (first, second) in [(&*ada, &*bob), (&ada, &ada), (&bob, &basic), (&basic, &bob)] {
        let joined = format!("{first},{second}");
        let denials = [setup.denied(400), 400];
        for headers in [
            &[("authorization", first), ("Authorization", second)][..],
            &[("authorization", &*joined)],
        ] {
            let reply = setup.send("GET", "/profile", headers).await;
            assert!(
                denials.contains(&reply.status),
                "{gateway:?} {headers:?}: {reply:?}"
            );
        }
    }
    for long in [
        format!("authorization: Bearer {}\r\n", "a".repeat(100_000)),
        format!("x-filler: {}\r\n", "a".repeat(100_000)),
        "x-filler: a\r\n".repeat(1_000),
        format!("cookie: {}\r\n", "a=b; ".repeat(2_000)),
    ] {
        let request =
            format!("GET /profile HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{long}\r\n");
        let code = setup.status(&request).await;
        assert!((300..=599).contains(&code), "{gateway:?} {code}");
    }
    assert_eq!(setup.service.requests(), before, "{gateway:?}");
}

async fn no_spelling_bypasses_the_rule(gateway: Gateway) {
    let setup = Setup::open(gateway).await;
    let (edge, bob) = (setup.proxy.edge, setup.bearer(BOB).await);
    let asked = |form: String| {
        let request = format!(
            "GET {form} HTTP/1.1\r\nhost: x\r\nauthorization: {bob}\r\nconnection: close\r\n\r\n"
        );
        async move { (form, send_bytes(edge, request.as_bytes()).await) }
    };
    let forms = crate::paths::TRICKS
        .iter()
        .flat_map(|path| [(*path).to_owned(), format!("http://x{path}")]);
    for (form, answer) in join_all(forms.map(asked)).await {
        let row = format!("{gateway:?} {form}: {answer}");
        assert!(!answer.contains("\"users\""), "{row}");
        if status(&answer) == 200 {
            // The gateway has changed the path; what the service received must be harmless in every reading.
            let (_, got) = answer.split_once("\"path\":\"").expect(&row);
            let got = got.split('"').next().unwrap().to_ascii_lowercase();
            assert!(!got.contains("admin") && !got.contains('%'), "{row}");
        }
    }
    let ada = setup.bearer(ADA).await;
    let reply = setup
        .send("GET", "/admin/users", &[("authorization", &ada)])
        .await;
    assert_eq!(reply.status, 200, "{gateway:?}");
}

async fn without_doorward_nothing_passes(gateway: Gateway) {
    let setup = Setup::open(gateway).await;
    let ada = setup.bearer(ADA).await;
    let headers = [("authorization", &*ada)];
    assert_eq!(setup.send("GET", "/profile", &headers).await.status, 200);
    let before = setup.service.requests();
    setup.doorward.signal(Signal::KILL);
    until("Doorward is down", PATIENCE, async || {
        let there = tokio::net::TcpStream::connect(setup.doorward.http).await;
        there.is_err().then_some(())
    })
    .await;
    let away = match gateway {
        Gateway::Nginx | Gateway::IngressNginx | Gateway::Traefik => 500,
        Gateway::Caddy => 502,
        Gateway::OldestEnvoy | Gateway::NewestEnvoy | Gateway::Haproxy => 503,
    };
    let (health, profile, users, login) = tokio::join!(
        setup.send("GET", "/healthz", &headers),
        setup.send("GET", "/profile", &headers),
        setup.send("GET", "/admin/users", &headers),
        setup.send("POST", "/login", &headers),
    );
    for reply in [health, profile, users] {
        assert_eq!(reply.status, away, "{gateway:?}: {reply:?}");
    }
    assert!(login.status >= 500, "{gateway:?}: {login:?}");
    assert_eq!(setup.service.requests(), before, "{gateway:?}");
}

/// The action with which HAProxy asks is a program, and a program may fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_action_passes_nothing() {
    let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
    let setup = Setup::with(Gateway::Haproxy, rules, |text| {
        text.replace("core.httpclient()", "core.no_such_thing()")
    })
    .await;
    let bob = setup.bearer(BOB).await;
    for path in ["/healthz", "/profile"] {
        let reply = setup.send("GET", path, &[("authorization", &bob)]).await;
        assert_eq!(reply.status, 503, "{reply:?}");
    }
    assert_eq!(setup.service.requests(), 0);
}

/// An operator adds a cache for Doorward's answers, keyed only by the token.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_in_nginx_does_not_turn_a_denial_into_a_pass() {
    for gateway in [Gateway::Nginx, Gateway::IngressNginx] {
        let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
        let setup = Setup::with(gateway, rules, |text| {
            text.replacen(
                "http {\n",
                "http {\n    proxy_cache_path cache keys_zone=answers:1m;\n",
                1,
            )
            .replace(
                "proxy_pass_request_body off;",
                "proxy_pass_request_body off;\n            proxy_cache answers;\n            \
                 proxy_cache_key $http_authorization;\n            proxy_cache_valid any 5m;",
            )
            .replace("proxy_buffering off;", "proxy_buffering on;")
        })
        .await;
        let bob = setup.bearer(BOB).await;
        let headers = [("authorization", &*bob)];
        for _ in 0..3 {
            for (path, expected) in [("/profile", 200), ("/admin/users", 403), ("/echo", 200)] {
                let reply = setup.send("GET", path, &headers).await;
                assert_eq!(reply.status, expected, "{gateway:?} {path}: {reply:?}");
            }
            let reply = setup.send("GET", "/profile", &[]).await;
            assert_eq!(reply.status, setup.denied(401), "{gateway:?}: {reply:?}");
        }
    }
}

/// Checks the annotations and the resources that they name.
#[test]
fn the_ingresses_are_consistent() {
    let read = |file: &str| -> Yaml {
        let file = repository().join("k8s/overlays/ingress-nginx").join(file);
        let text = fs::read_to_string(&file).unwrap();
        let mut documents = YamlLoader::load_from_str(&text).unwrap();
        assert_eq!(documents.len(), 1, "{}", file.display());
        documents.remove(0)
    };
    let path = |ingress: &Yaml| {
        assert_eq!(ingress["kind"].as_str(), Some("Ingress"));
        ingress["spec"]["rules"][0]["http"]["paths"][0].clone()
    };
    let (service, login) = (read("service.yaml"), read("login.yaml"));
    let annotation = |name: &str| -> &str {
        let name = format!("nginx.ingress.kubernetes.io/{name}");
        let value = service["metadata"]["annotations"][&*name].as_str();
        value.unwrap_or_else(|| panic!("{name}"))
    };
    // The annotations equal the configuration that ingress-nginx generates from them.
    let made = fs::read_to_string(repository().join("examples/nginx/ingress-nginx.conf")).unwrap();
    let headers = annotation("auth-response-headers");
    assert_eq!(
        headers,
        "X-Auth-User,X-Auth-Roles,X-Auth-Admin,Authorization"
    );
    for header in headers.split(',') {
        assert!(
            made.contains(&format!("proxy_set_header '{header}' $authHeader")),
            "{header}"
        );
    }
    assert!(made.contains(&format!("proxy_method {};", annotation("auth-method"))));
    assert!(made.contains(&format!("return 302 {};", annotation("auth-signin"))));

    let login = path(&login);
    let exact = (login["path"].as_str(), login["pathType"].as_str());
    assert_eq!(exact, (Some("/login"), Some("Exact")));
    let doorward = &login["backend"]["service"];
    let url = format!(
        "http://{}.default.svc.cluster.local:{}/auth/nginx",
        doorward["name"].as_str().unwrap(),
        doorward["port"]["number"].as_i64().unwrap()
    );
    assert_eq!(annotation("auth-url"), url);
    assert_eq!(path(&service)["path"].as_str(), Some("/"));
}

#[test]
fn every_page_is_one_screen_and_names_what_exists() {
    let pages = repository().join("docs/gateways");
    let mut found = 0;
    for entry in fs::read_dir(&pages).unwrap() {
        let page = entry.unwrap().path();
        let text = fs::read_to_string(&page).unwrap();
        found += 1;
        assert!(text.lines().count() <= 40, "{}", page.display());
        let files = text.split('`').skip(1).step_by(2);
        let files = files.filter(|file| {
            ["envoy/", "examples/", "k8s/"]
                .iter()
                .any(|dir| file.starts_with(dir))
        });
        let mut named = 0;
        for file in files {
            named += 1;
            assert!(
                repository().join(file).is_file(),
                "{}: {file}",
                page.display()
            );
        }
        assert!(named > 0, "{}", page.display());
        for part in text.split("](").skip(1) {
            let (link, _) = part.split_once(')').unwrap();
            let file = link.split('#').next().unwrap();
            assert!(pages.join(file).is_file(), "{}: {link}", page.display());
        }
    }
    assert_eq!(found, 7);
}
