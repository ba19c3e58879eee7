//! Signing in with a browser, through real gateways. The browser is a client that keeps cookies; it sends the headers that
//! browsers send.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use crate::{
    front::{ADA, BOB},
    harness::{
        Clock, Doorward, Envoy, EnvoyConfig, Gateway, Home, Proxy, Reply, Service, Settings,
        repository, send,
    },
    keys_page,
};

pub const RULES: &str = r#"
[sign_in]
enabled = true
name = "Example & Co"

[[route]]
path = "/login"
allow = "login"

[[route]]
path = "/sign-in"
allow = "sign-in"

[[route]]
path = "/sign-out"
allow = "sign-out"

[[route]]
path = "/signed-in"
allow = "signed-in-page"

[[route]]
path = "/healthz"
allow = "public"

[[route]]
path = "/admin/*"
allow = "role:admin"

[[route]]
path = "/*"
allow = "signed-in"
"#;

/// A browser with its cookies.
#[derive(Clone)]
pub struct Browser {
    edge: SocketAddr,
    cookies: BTreeMap<String, String>,
}

/// A navigation of the user.
const NAVIGATES: [(&str, &str); 3] = [
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "none"),
    ("accept", "text/html,application/xhtml+xml"),
];

/// A form of a page of the same host.
pub const POSTS: [(&str, &str); 3] = [
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("content-type", "application/x-www-form-urlencoded"),
];

impl Browser {
    fn new(edge: SocketAddr) -> Self {
        Self {
            edge,
            // The service's own.
            cookies: [("theme".into(), "dark".into())].into(),
        }
    }

    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let cookies: Vec<_> = (self.cookies.iter())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookies = cookies.join("; ");
        let headers = [headers, &[("cookie", &*cookies)]].concat();
        let reply = send(self.edge, method, path, &headers, body.to_owned()).await;
        for set in reply.header_values("set-cookie") {
            let (pair, attributes) = set.split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(attributes.starts_with("Path=/; Max-Age="), "{set}");
            assert!(
                attributes.contains("; Secure; HttpOnly; SameSite="),
                "{set}"
            );
            match attributes.contains("Max-Age=0;") {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.into(), value.into()),
            };
        }
        reply
    }

    pub async fn open(&mut self, path: &str) -> Reply {
        self.send("GET", path, &NAVIGATES, "").await
    }

    /// Fills in the form of a page and posts it.
    pub async fn enter(&mut self, page: &str, who: (&str, &str)) -> Reply {
        let shown = self.open(page).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        let key = between(shown.text(), "name=\"form\" value=\"", "\"");
        let form = format!("username={}&password={}&form={key}", who.0, who.1);
        self.send("POST", page, &POSTS, &form).await
    }

    fn session(&self) -> Option<&String> {
        self.cookies.get("__Host-doorward")
    }
}

pub fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("{before} in {text}"));
    rest.split_once(after).unwrap().0
}

pub fn location(reply: &Reply) -> &str {
    assert_eq!(reply.status, 303, "{reply:?}");
    let location = reply.header("location").unwrap();
    // nginx may make it absolute, with its own host.
    let path = location.split_once("://").map(|(_, rest)| rest);
    path.map_or(location, |rest| &rest[rest.find('/').unwrap()..])
}

pub enum Edge {
    Envoy(Envoy),
    Proxy(Proxy),
}

impl Edge {
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Envoy(envoy) => envoy.edge,
            Self::Proxy(proxy) => proxy.edge,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Envoy(&'static str),
    Module,
    EnvoyHttp(Gateway),
    Nginx,
    Caddy,
    Traefik,
}

pub struct Setup {
    pub doorward: Doorward,
    pub service: Service,
    pub edge: Edge,
}

impl Setup {
    pub async fn open(kind: Kind, settings: impl FnOnce(&mut Settings)) -> Self {
        let home = Doorward::prepare(|chosen| {
            chosen.toml(RULES);
            if kind == Kind::Module {
                chosen.env("DOORWARD_FEED__ENABLED", "true");
            }
            settings(chosen);
        });
        Self::of(home, kind).await
    }

    async fn of(home: Home, kind: Kind) -> Self {
        home.run(&["migrate"], "").await.ok();
        home.run(&["keys", "generate", "ES256"], "").await.ok();
        home.add_user(ADA.0, ADA.1, &["--admin"]).await;
        home.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
        let doorward = home.serve().await;
        let service = Service::start().await;
        let edge = edge(kind, &doorward, service.address).await;
        Self {
            doorward,
            service,
            edge,
        }
    }

    pub fn browser(&self) -> Browser {
        Browser::new(self.edge.address())
    }
}

pub async fn edge(kind: Kind, doorward: &Doorward, service: SocketAddr) -> Edge {
    let envoy = async |version, config: EnvoyConfig| {
        // Otherwise Envoy itself refuses WebSockets.
        let prefix = "                stat_prefix: edge\n";
        let upgrades =
            format!("{prefix}                upgrade_configs: [{{ upgrade_type: websocket }}]\n");
        let config = config
            .replace(prefix, &upgrades)
            .free_ports()
            .doorward(doorward.grpc)
            .doorward_http_if_used(doorward.http)
            .service(service);
        Edge::Envoy(Envoy::start(version, &config).await)
    };
    let proxy = async |gateway: Gateway, change: fn(String) -> String| {
        let proxy = gateway.start(doorward.http, service, change).await;
        Edge::Proxy(proxy)
    };
    match kind {
        Kind::Envoy(version) => envoy(version, EnvoyConfig::committed()).await,
        Kind::Module => envoy(Envoy::NEWEST, EnvoyConfig::module()).await,
        Kind::EnvoyHttp(gateway) => proxy(gateway, for_envoy_http).await,
        Kind::Nginx => proxy(Gateway::Nginx, for_nginx).await,
        Kind::Caddy => proxy(Gateway::Caddy, for_caddy).await,
        Kind::Traefik => proxy(Gateway::Traefik, for_traefik).await,
    }
}

/// `examples/nginx/sign-in.conf` instead of `nginx.conf`, with the same ports.
fn for_nginx(text: String) -> String {
    if !text.contains("with its own module auth_request:") {
        return text;
    }
    with_its_ports(
        "examples/nginx/sign-in.conf",
        &text,
        [
            (":8080", "listen 127.0.0.1:", ";"),
            (
                ":9002",
                "upstream doorward {\n        server 127.0.0.1:",
                ";",
            ),
            (
                ":8081",
                "upstream service {\n        server 127.0.0.1:",
                ";",
            ),
        ],
    )
}

/// `examples/caddy/sign-in.Caddyfile` instead of `Caddyfile`, with the same ports.
fn for_caddy(text: String) -> String {
    if !text.starts_with("# Caddy (2.6.2") {
        return text;
    }
    with_its_ports(
        "examples/caddy/sign-in.Caddyfile",
        &text,
        [
            (":8080", "http://:", " "),
            (":9002", "forward_auth 127.0.0.1:", " "),
            (":8081", "\n\n\t\t\treverse_proxy 127.0.0.1:", "\n"),
        ],
    )
}

fn with_its_ports(file: &str, text: &str, ports: [(&str, &str, &str); 3]) -> String {
    let own = fs::read_to_string(repository().join(file)).unwrap();
    ports.iter().fold(own, |own, (port, before, after)| {
        own.replace(port, &format!(":{}", between(text, before, after)))
    })
}

/// The changes to `envoy/envoy-http.yaml` that docs/sign-in.md says.
fn for_envoy_http(text: String) -> String {
    let page = fs::read_to_string(repository().join("docs/sign-in.md")).unwrap();
    let added = |text: String, key: &str, before: &str| {
        let block = between(&page, &format!("```yaml\n# Under `{key}`\n"), "\n```");
        let place = format!("{key}:\n{before}");
        assert_eq!(text.matches(&place).count(), 1, "{place}");
        text.replace(&place, &format!("{place}{block}"))
    };
    let patterns = |spaces: usize| format!("{}patterns:\n", " ".repeat(spaces));
    let text = added(text, "allowed_headers", &patterns(24));
    let text = added(text, "allowed_upstream_headers", &patterns(28));
    let text = added(text, "routes", "");
    // Otherwise Envoy itself refuses WebSockets.
    let prefix = "                stat_prefix: edge\n";
    let upgrades = "                upgrade_configs: [{ upgrade_type: websocket }]\n";
    text.replace(prefix, &format!("{prefix}{upgrades}"))
}

/// The changes to Traefik's configuration that docs/sign-in.md says.
fn for_traefik(text: String) -> String {
    let page = fs::read_to_string(repository().join("docs/sign-in.md")).unwrap();
    let router = between(&page, "```yaml\n# Under `routers`\n", "```");
    let terms = between(
        &page,
        "```yaml\n# In `forwardAuth`, instead of `authResponseHeaders`\n",
        "```",
    );
    let old =
        "        authResponseHeaders: [x-auth-user, x-auth-roles, x-auth-admin, authorization]\n";
    (text.replace("  routers:\n", &format!("  routers:\n{router}"))).replace(old, terms)
}

pub fn newest_envoy() -> Kind {
    Kind::Envoy(Envoy::NEWEST)
}

const KINDS: [Kind; 8] = [
    Kind::Envoy(Envoy::OLDEST),
    Kind::Envoy(Envoy::NEWEST),
    Kind::Module,
    Kind::EnvoyHttp(Gateway::OldestEnvoy),
    Kind::EnvoyHttp(Gateway::NewestEnvoy),
    Kind::Nginx,
    Kind::Caddy,
    Kind::Traefik,
];

async fn a_deep_link_leads_to_the_form_and_back(kind: Kind) {
    let setup = Setup::open(kind, keys_page::with_keys).await;
    let mut browser = setup.browser();
    let refused = browser.open("/deep/link?a=b&c=%20d").await;
    let page = location(&refused).to_owned();
    assert_eq!(
        page, "/sign-in?return=/deep/link%3Fa%3Db%26c%3D%2520d",
        "{kind:?}"
    );
    assert_eq!(setup.service.requests(), 0);

    let wrong = browser.enter(&page, (BOB.0, "wrong")).await;
    assert_eq!(wrong.status, 422, "{kind:?} {wrong:?}");
    assert!(wrong.text().contains("The name or the password is wrong."));
    assert!(wrong.header("www-authenticate").is_none());
    assert!(browser.session().is_none());

    let right = browser.enter(&page, BOB).await;
    assert_eq!(location(&right), "/deep/link?a=b&c=%20d", "{kind:?}");
    assert_eq!(right.header("cache-control"), Some("no-store"));

    // The service gets the identity and its own cookies, and nothing of Doorward's.
    let own = browser.open("/deep/link?a=b&c=%20d").await;
    assert_eq!(
        own.status,
        200,
        "{kind:?} {own:?}\n{}",
        setup.doorward.output()
    );
    let seen = own.json();
    assert_eq!(seen["path"], "/deep/link?a=b&c=%20d");
    let headers = seen["headers"].as_array().unwrap();
    let header = |name: &str| {
        let mut found = headers.iter().filter(|pair| pair[0] == name);
        let value = found.next().map(|pair| pair[1].as_str().unwrap());
        assert!(found.next().is_none(), "{name} twice: {seen}");
        value
    };
    assert_eq!(header("x-auth-user"), Some("bob"), "{kind:?}");
    assert_eq!(header("x-auth-roles"), Some("editor"));
    assert_eq!(header("cookie"), Some("theme=dark"), "{kind:?}");
    assert_eq!(header("authorization"), None);
    assert!(!own.text().contains(browser.session().unwrap()));
    // Without cookies of its own, it gets none.
    let theme = browser.cookies.remove("theme").unwrap();
    let alone = browser.open("/deep").await;
    assert_eq!(alone.status, 200, "{kind:?} {alone:?}");
    assert!(
        alone.text().contains("[\"x-auth-user\",\"bob\"]"),
        "{alone:?}"
    );
    assert!(!alone.text().contains("\"cookie\""), "{kind:?} {alone:?}");
    browser.cookies.insert("theme".into(), theme);

    assert_eq!(browser.open("/admin/users").await.status, 403);
    let who = browser.open("/signed-in").await;
    assert!(
        who.text().contains("<strong>bob</strong>"),
        "{kind:?} {who:?}"
    );
    assert!(who.text().contains("Example &amp; Co"));
    // Whoever has signed in goes on.
    let again = browser.open("/sign-in?return=/deep").await;
    assert_eq!(location(&again), "/deep");

    keys_page::a_user_makes_uses_and_ends_a_key(&setup, &mut browser, kind).await;

    // A copy of the cookie ends with the session.
    let mut copy = browser.clone();
    let out = browser.send("POST", "/sign-out", &POSTS, "").await;
    assert_eq!(out.status, 200, "{kind:?} {out:?}");
    assert!(browser.session().is_none());
    let ended = copy.open("/deep").await;
    assert_eq!(location(&ended), "/sign-in?return=/deep", "{kind:?}");

    let logs = setup.doorward.output();
    let token = copy.session().unwrap();
    assert!(!logs.contains(&**token) && !logs.contains(BOB.1), "{logs}");
    let judged_by_module = kind == Kind::Module;
    let reasons = ["wrong-password", "sign-in", "sign-out", "token-ended"];
    for reason in &reasons[..reasons.len() - usize::from(judged_by_module)] {
        assert!(
            logs.contains(&format!("\"reason\":\"{reason}\"")),
            "{reason}\n{logs}"
        );
    }
}

async fn only_the_own_pages_act_with_the_cookie(kind: Kind) {
    let setup = Setup::open(kind, |_| {}).await;
    let mut browser = setup.browser();
    // A program and a script of a page get no redirect.
    for headers in [
        &[][..],
        &[("accept", "application/json")],
        &[("sec-fetch-mode", "cors"), ("accept", "text/html")],
    ] {
        let reply = browser.send("GET", "/data", headers, "").await;
        assert_eq!(reply.status, 401, "{kind:?} {headers:?}");
        assert!(reply.header("location").is_none());
    }
    let entered = browser.enter("/sign-in?return=/", BOB).await;
    assert_eq!(location(&entered), "/");
    let host = format!("https://{}", setup.edge.address());
    let before = setup.service.requests();
    for (method, headers) in [
        ("POST", &[][..]),
        ("POST", &[("sec-fetch-site", "cross-site")]),
        (
            "DELETE",
            &[("sec-fetch-site", "same-site"), ("origin", &host)],
        ),
        ("PUT", &[("origin", "https://evil.example")]),
        // Some gateways refuse an upgrade, and others hide it: these headers stay.
        (
            "GET",
            &[("sec-websocket-key", "x"), ("sec-websocket-version", "13")],
        ),
        (
            "GET",
            &[
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("sec-websocket-key", "x"),
                ("sec-websocket-version", "13"),
            ],
        ),
        (
            "GET",
            &[
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("sec-websocket-key", "x"),
                ("sec-websocket-version", "13"),
                ("origin", "https://evil.example"),
            ],
        ),
    ] {
        let reply = browser.send(method, "/data", headers, "").await;
        assert_eq!(reply.status, 403, "{kind:?} {method} {headers:?} {reply:?}");
    }
    assert_eq!(setup.service.requests(), before, "{kind:?}");
    for headers in [&[("sec-fetch-site", "same-origin")], &[("origin", &*host)]] {
        let reply = browser.send("POST", "/data", headers, "").await;
        assert_eq!(reply.status, 200, "{kind:?} {headers:?} {reply:?}");
    }
    // What everybody may do, another site may do, too: without the user and without the cookie.
    for headers in [&[][..], &[("sec-fetch-site", "cross-site")]] {
        let reply = browser.send("POST", "/healthz", headers, "").await;
        assert_eq!(reply.status, 200, "{kind:?} {headers:?} {reply:?}");
        let seen = reply.json();
        for pair in seen["headers"].as_array().unwrap() {
            let (name, value) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
            match name {
                "cookie" => assert_eq!(value, "theme=dark", "{kind:?}"),
                "x-auth-user" | "x-auth-roles" => assert_eq!(value, "-", "{kind:?}"),
                "x-auth-admin" => assert_eq!(value, "false", "{kind:?}"),
                _ => {}
            }
        }
        assert!(!reply.text().contains(browser.session().unwrap()));
    }
    // Nobody else can sign the user out, or in as somebody else.
    let foreign = [POSTS[0], ("sec-fetch-site", "cross-site"), POSTS[2]];
    let reply = browser.send("POST", "/sign-out", &foreign, "").await;
    assert_eq!(reply.status, 403, "{kind:?}");
    let form = format!("username={}&password={}&form=x", ADA.0, ADA.1);
    for headers in [foreign, POSTS] {
        let reply = browser.send("POST", "/sign-in", &headers, &form).await;
        assert_eq!(reply.status, 403, "{kind:?} {reply:?}");
    }
    let own = browser.open("/data").await;
    assert_eq!(own.status, 200, "{kind:?}");
    // `Authorization` counts alone.
    let both = [&NAVIGATES[..], &[("authorization", "Bearer x.y.z")]].concat();
    assert_eq!(browser.send("GET", "/data", &both, "").await.status, 401);
}

async fn a_form_is_throttled_and_two_tabs_work(kind: Kind) {
    let setup = Setup::open(kind, |settings| {
        settings
            .env("DOORWARD_CLIENT_ADDRESS", "peer")
            .env("DOORWARD_TRUSTED_PROXIES", "127.0.0.1/32");
    })
    .await;
    let mut browser = setup.browser();
    // The second tab does not spoil the form of the first.
    let first = browser.open("/sign-in?return=/one").await;
    let second = browser.open("/sign-in?return=/two").await;
    let key = |page: &Reply| between(page.text(), "name=\"form\" value=\"", "\"").to_owned();
    assert_eq!(key(&first), key(&second));
    let form = format!("username={}&password={}&form={}", BOB.0, BOB.1, key(&first));
    let entered = browser
        .send("POST", "/sign-in?return=/one", &POSTS, &form)
        .await;
    assert_eq!(location(&entered), "/one");
    let entered = browser
        .send("POST", "/sign-in?return=/two", &POSTS, &form)
        .await;
    assert_eq!(location(&entered), "/two");

    let mut other = setup.browser();
    let mut last = None;
    for _ in 0..40 {
        let reply = other.enter("/sign-in", (ADA.0, "wrong")).await;
        if reply.status == 429 {
            last = Some(reply);
            break;
        }
        assert_eq!(reply.status, 422, "{reply:?}");
    }
    let throttled = last.expect("too many attempts");
    assert!(throttled.header("retry-after").is_some());
    assert!(
        throttled.text().contains("Too many attempts"),
        "{throttled:?}"
    );
}

macro_rules! through {
    ($($test:ident),+) => {
        $(
            mod $test {
                #[tokio::test(flavor = "multi_thread")]
                async fn oldest_envoy() {
                    super::$test(super::KINDS[0]).await;
                }
                #[tokio::test(flavor = "multi_thread")]
                async fn newest_envoy() {
                    super::$test(super::KINDS[1]).await;
                }
                #[tokio::test(flavor = "multi_thread")]
                async fn module() {
                    super::$test(super::KINDS[2]).await;
                }
                #[tokio::test(flavor = "multi_thread")]
                async fn oldest_envoy_http() {
                    super::$test(super::KINDS[3]).await;
                }
                #[tokio::test(flavor = "multi_thread")]
                async fn newest_envoy_http() {
                    super::$test(super::KINDS[4]).await;
                }
                #[tokio::test(flavor = "multi_thread")]
                async fn nginx() {
                    super::$test(super::KINDS[5]).await;
                }
                #[tokio::test(flavor = "multi_thread")]
                async fn caddy() {
                    super::$test(super::KINDS[6]).await;
                }
                #[tokio::test(flavor = "multi_thread")]
                async fn traefik() {
                    super::$test(super::KINDS[7]).await;
                }
            }
        )+
    };
}

through!(
    a_deep_link_leads_to_the_form_and_back,
    only_the_own_pages_act_with_the_cookie,
    a_form_is_throttled_and_two_tabs_work
);

/// At half of its life, Envoy adds the next cookie to the answer, and other gateways lead over the page.
#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_is_renewed_and_signing_out_ends_all_of_its_tokens() {
    for kind in [Kind::Envoy(Envoy::NEWEST), Kind::Nginx] {
        let home = Doorward::prepare(|settings| {
            settings.toml(RULES).env("DOORWARD_JWT__LIFETIME", "4h");
        });
        let (home, clock) = Clock::under(home);
        let setup = Setup::of(home, kind).await;
        let mut browser = setup.browser();
        browser.enter("/sign-in?return=/", BOB).await;
        let first = browser.session().unwrap().clone();
        let mut other = browser.clone();
        assert_eq!(browser.open("/a").await.status, 200);
        assert_eq!(*browser.session().unwrap(), first, "too early");
        clock.set(2 * 3600 + 60);
        let reply = browser.open("/a?b").await;
        if kind == Kind::Nginx {
            let page = location(&reply).to_owned();
            assert_eq!(page, "/sign-in?return=/a%3Fb");
            let renewed = browser.open(&page).await;
            assert_eq!(location(&renewed), "/a?b");
        } else {
            assert_eq!(reply.status, 200);
            assert_eq!(reply.header("cache-control"), Some("no-store"));
        }
        assert_ne!(*browser.session().unwrap(), first, "{kind:?}");
        assert_eq!(browser.open("/a").await.status, 200);
        // What is no navigation is never redirected.
        assert_eq!(other.send("GET", "/a", &[], "").await.status, 200);
        // Signing out ends all tokens of the session.
        browser.send("POST", "/sign-out", &POSTS, "").await;
        assert_eq!(
            other.send("GET", "/a", &[], "").await.status,
            401,
            "{kind:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_template_is_a_fault_of_the_settings() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("sign-in.html");
    let check = async |text: &str, templates: &Path| {
        fs::write(&own, text).unwrap();
        let home = Doorward::prepare(|settings| {
            settings
                .toml(RULES)
                .env("DOORWARD_SIGN_IN__TEMPLATES", templates.to_str().unwrap());
        });
        home.run(&["config", "check"], "").await
    };
    let good = check("<p>{{ name }}: {{ form_key }}", dir.path()).await;
    assert!(good.status.success(), "{good:?}");
    let broken = check("<p>{{ nmae }}", dir.path()).await;
    assert!(!broken.status.success());
    let said = format!("{}{}", broken.stdout, broken.stderr);
    assert!(
        said.contains("sign-in.html") && said.contains("SIGN_IN__TEMPLATES"),
        "{said}"
    );
    let nowhere = check("", &dir.path().join("none")).await;
    assert!(!nowhere.status.success(), "{nowhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_there_are_no_pages_and_a_cookie_is_nothing() {
    let setup = Setup::open(Kind::Envoy(Envoy::NEWEST), |_| {}).await;
    let mut browser = setup.browser();
    browser.enter("/sign-in?return=/", BOB).await;
    let (home, _) = setup.doorward.stop().await;
    let rules = RULES
        .split("\n[[route]]\n")
        .filter(|part| !part.contains("sign"))
        .chain(["path = \"/*\"\nallow = \"signed-in\"\n"])
        .collect::<Vec<_>>()
        .join("\n[[route]]\n");
    fs::write(
        home.dir().join("doorward.toml"),
        format!("[[route]]\n{}", rules.trim_start_matches("\n[[route]]\n")),
    )
    .unwrap();
    let doorward = home.serve().await;
    let edge = edge(Kind::Envoy(Envoy::NEWEST), &doorward, setup.service.address).await;
    browser.edge = edge.address();
    let reply = browser.open("/a").await;
    assert_eq!(reply.status, 401, "{reply:?}");
    assert_eq!(
        reply.header("www-authenticate"),
        Some("Bearer realm=\"doorward\"")
    );
    for path in ["/sign-in", "/sign-out", "/signed-in", "/my-keys"] {
        let reply = send(doorward.http, "GET", path, &[], "").await;
        assert_eq!(reply.status, 404, "{path}");
    }
    // Rules that name a page need the setting.
    let (home, _) = doorward.stop().await;
    fs::write(
        home.dir().join("doorward.toml"),
        RULES.replace("enabled = true", "enabled = false"),
    )
    .unwrap();
    let refused = home.run(&["config", "check"], "").await;
    assert!(!refused.status.success());
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("sign_in.enabled = true"), "{said}");
}
