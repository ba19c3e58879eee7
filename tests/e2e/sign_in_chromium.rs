//! Signing in with Debian's Chromium, through real gateways: what browsers do with the cookie, and what people see.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Response, StatusCode},
    response::Html,
    routing::get,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{
    certificates::Authority,
    direct::{bearer, post},
    front::BOB,
    harness::{
        Chromium, Database, Doorward, Envoy, EnvoyConfig, PATIENCE, Settings, Sqlite, repository,
        send, tool, until,
    },
    keys_page,
    sign_in::{Kind, RULES, Setup, edge, newest_envoy},
};

async fn open() -> (Setup, Chromium, String) {
    open_with(|_| {}).await
}

async fn open_with(choose: impl FnOnce(&mut Settings)) -> (Setup, Chromium, String) {
    open_through(newest_envoy(), choose).await
}

async fn open_through(kind: Kind, choose: impl FnOnce(&mut Settings)) -> (Setup, Chromium, String) {
    let setup = Setup::open(kind, |settings| {
        settings.env("DOORWARD_SIGN_IN__INSECURE_COOKIE_FOR_LOCALHOST", "true");
        choose(settings);
    })
    .await;
    let host = format!("http://localhost:{}", setup.edge.address().port());
    (setup, Chromium::start().await, host)
}

async fn enter(browser: &Chromium, who: (&str, &str)) {
    // The name has the focus already.
    browser.type_into("#username", who.0).await;
    browser.type_into("#password", who.1).await;
    browser.press("button").await;
}

/// What a script of the page gets: the status, and whether it was redirected.
async fn fetched(browser: &Chromium, method: &str) -> (u64, bool) {
    let script = "return fetch('/data', {method: arguments[0], redirect: 'manual'}).then(reply => [reply.status, reply.type])";
    let found = browser.run(script, &json!([method])).await;
    (found[0].as_u64().unwrap(), found[1] == "opaqueredirect")
}

mod a_browser_comes_to_the_form_and_back {
    use super::{Kind, through};

    #[tokio::test(flavor = "multi_thread")]
    async fn envoy() {
        through(super::newest_envoy()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nginx() {
        through(Kind::Nginx).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn caddy() {
        through(Kind::Caddy).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn traefik() {
        through(Kind::Traefik).await;
    }
}

async fn through(kind: Kind) {
    let (setup, browser, host) = open_through(kind, |_| {}).await;
    browser.open(&format!("{host}/deep/link?a=b&c=%20d")).await;
    browser.reaches("/sign-in?return=").await;
    assert!(
        browser
            .text()
            .await
            .contains("You will go next to /deep/link?a=b&c=%20d")
    );
    enter(&browser, (BOB.0, "wrong")).await;
    browser.reaches("/sign-in?return=").await;
    assert!(
        browser
            .text()
            .await
            .contains("The name or the password is wrong.")
    );
    let active = browser
        .run("return document.activeElement.id", &json!([]))
        .await;
    assert_eq!(active, "username");

    enter(&browser, BOB).await;
    browser.reaches("/deep/link?a=b&c=%20d").await;
    let seen = browser.text().await;
    assert!(seen.contains("\"x-auth-user\",\"bob\""), "{seen}");
    assert!(!seen.contains("doorward-localhost"), "{seen}");
    // No script reads the cookie.
    assert_eq!(browser.run("return document.cookie", &json!([])).await, "");
    assert_eq!(fetched(&browser, "GET").await, (200, false));
    assert_eq!(fetched(&browser, "POST").await, (200, false));

    // The browser does not send the cookie to another host.
    let own = browser.url().await;
    let elsewhere = own.replace("//localhost:", "//other.example:");
    browser.open(&elsewhere).await;
    browser.reaches("/sign-in?return=").await;
    browser.open(&own).await;
    browser.reaches("/deep/link?a=b&c=%20d").await;

    // Signed out in one tab, the other one is, too.
    let first = browser.another_tab().await;
    browser.open(&format!("{host}/signed-in")).await;
    assert!(browser.text().await.contains("as bob"));
    browser.press("button").await;
    browser.reaches("/sign-out").await;
    assert!(browser.text().await.contains("You are signed out"));
    browser.tab(&first).await;
    // A script gets 401 and no redirect, because it cannot show the form.
    for method in ["GET", "POST"] {
        assert_eq!(fetched(&browser, method).await, (401, false), "{kind:?}");
    }
    drop(setup);
    browser.close().await;
}

/// A page of another origin that posts a form by itself.
async fn foreign(target: &str) -> SocketAddr {
    let page = format!(
        "<!doctype html><form method=post action='{target}'></form><script>document.forms[0].submit()</script>"
    );
    let router = Router::new()
        .route("/", get(move || async move { Html(page.clone()) }))
        // The browser would replace an empty page by one of its own, which has no origin.
        .route("/still", get(async || Html("<!doctype html><p>nothing")));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_page_cannot_act_for_the_user() {
    let (setup, browser, host) = open().await;
    browser.open(&format!("{host}/sign-in?return=/data")).await;
    enter(&browser, BOB).await;
    browser.reaches("/data").await;
    let evil = foreign(&format!("{host}/data")).await;
    // Another port of the same site, so that the cookie is sent; and another site, which gets none.
    for (from, expected) in [
        ("localhost", "Cross-site request"),
        ("127.0.0.1", "Missing token"),
    ] {
        browser
            .open(&format!("http://{from}:{}/", evil.port()))
            .await;
        browser.reaches("/data").await;
        assert_eq!(browser.text().await.trim(), expected, "{from}");
    }
    // A WebSocket of another origin: refused before the service sees it.
    browser
        .open(&format!("http://localhost:{}/still", evil.port()))
        .await;
    let url = format!("{}/socket", host.replace("http:", "ws:"));
    assert_eq!(browser.run(SOCKET, &json!([url])).await, "refused");
    (setup.doorward)
        .logged("the refused WebSocket", |line| {
            line["fields"]["path"] == "/socket" && line["fields"]["reason"] == "cross-site"
        })
        .await;
    browser.close().await;
}

/// Opens a WebSocket, and says whether it was opened.
const SOCKET: &str = "const url = arguments[0]; return new Promise(done => { const socket = new WebSocket(url); socket.onopen = () => done('open'); socket.onerror = () => done('refused'); })";

/// A service with a page, and with a WebSocket at `/socket`.
async fn with_socket() -> SocketAddr {
    let socket = async |request: Request| {
        let accept = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await;
            // Open until the test ends.
            std::future::pending::<()>().await;
            drop(upgraded);
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", accept)
            .body(Body::empty())
            .unwrap()
    };
    let router = Router::new()
        .route("/socket", get(socket))
        .fallback(async || Html("<!doctype html><p>the service"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_needs_the_cookie_and_the_own_page() {
    let (setup, browser, _) = open().await;
    let own = edge(newest_envoy(), &setup.doorward, with_socket().await).await;
    let host = format!("localhost:{}", own.address().port());
    let url = format!("ws://{host}/socket");
    let refused = async |reason: &'static str| {
        assert_eq!(browser.run(SOCKET, &json!([url])).await, "refused");
        (setup.doorward)
            .logged(reason, |line| {
                line["fields"]["path"] == "/socket" && line["fields"]["reason"] == reason
            })
            .await;
    };
    // A public page of the same host, without a cookie.
    browser.open(&format!("http://{host}/healthz")).await;
    refused("missing-token").await;
    browser
        .open(&format!("http://{host}/sign-in?return=/page"))
        .await;
    enter(&browser, BOB).await;
    browser.reaches("/page").await;
    assert_eq!(browser.run(SOCKET, &json!([url])).await, "open");
    // With the same cookie, from another port.
    let evil = foreign("/").await;
    browser
        .open(&format!("http://localhost:{}/still", evil.port()))
        .await;
    refused("cross-site").await;
    browser.close().await;
}

/// While a page is open, the token of its cookie is ended at another replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_at_every_replica() {
    let database = Database::<Sqlite>::start().await;
    let (setup, browser, host) = open_with(|settings| {
        settings.envs(database.env());
    })
    .await;
    browser.open(&format!("{host}/sign-in?return=/data")).await;
    enter(&browser, BOB).await;
    browser.reaches("/data").await;
    assert_eq!(fetched(&browser, "GET").await, (200, false));
    let keys = setup.doorward.home().dir().join("keys");
    let other = Doorward::prepare(|settings| {
        settings
            .toml(RULES)
            .envs(database.env())
            .env("DOORWARD_JWT__KEYS_DIR", keys.to_str().unwrap());
    });
    let other = other.serve().await;
    let own = bearer(&other, BOB).await;
    let reply = post(&other, "/logout?all", Some(&own), &json!({})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    // Within two seconds on a machine that is not busy.
    until("the end", Duration::from_secs(60), async || {
        (fetched(&browser, "GET").await == (401, false)).then_some(())
    })
    .await;
    browser.open(&format!("{host}/data")).await;
    browser.reaches("/sign-in?return=/data").await;
    browser.close().await;
}

/// Envoy with TLS, for hosts of one domain.
async fn with_tls(setup: &Setup, dir: &Path) -> Envoy {
    let authority = Authority::new(dir, "authority");
    authority.issue("edge", "DNS:*.team.example", 1);
    let file = |name: &str| dir.join(name).display().to_string();
    let tls = format!(
        r#"        - transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                tls_certificates:
                  - certificate_chain: {{ filename: {} }}
                    private_key: {{ filename: {} }}
          filters:
"#,
        file("edge.crt"),
        file("edge.key"),
    );
    let config = EnvoyConfig::committed()
        .replace("        - filters:\n", &tls)
        .free_ports()
        .doorward(setup.doorward.grpc)
        .doorward_http_if_used(setup.doorward.http)
        .service(setup.service.address);
    Envoy::start(Envoy::NEWEST, &config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_of_the_domain_cannot_toss_a_cookie() {
    let setup = Setup::open(newest_envoy(), |_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let envoy = with_tls(&setup, dir.path()).await;
    let browser = Chromium::start().await;
    let host = |name: &str| format!("https://{name}.team.example:{}", envoy.edge.port());
    let toss = async || {
        browser.open(&format!("{}/healthz", host("evil"))).await;
        for name in [
            "__Host-doorward",
            "__Host-doorward-form",
            "__Host-doorward-later",
            "doorward-localhost",
            "doorward-localhost-form",
            "theme",
        ] {
            let cookie = format!("{name}=tossed; Domain=team.example; Path=/; Secure");
            browser
                .run("document.cookie = arguments[0]", &json!([cookie]))
                .await;
        }
    };
    toss().await;
    browser.open(&format!("{}/data", host("app"))).await;
    browser.reaches("/sign-in?return=/data").await;
    enter(&browser, BOB).await;
    for _ in 0..2 {
        browser.reaches(&format!("{}/data", host("app"))).await;
        let seen = browser.text().await;
        assert!(seen.contains("\"x-auth-user\",\"bob\""), "{seen}");
        // What the other host may set arrives, and nothing of Doorward's.
        assert!(seen.contains("theme=tossed"), "{seen}");
        assert!(!seen.contains("doorward"), "{seen}");
        toss().await;
        browser.open(&format!("{}/data", host("app"))).await;
    }
    // The cookie belongs to the host that signed the user in.
    browser.open(&format!("{}/data", host("evil"))).await;
    browser
        .reaches(&format!("{}/sign-in?return=/data", host("evil")))
        .await;
    browser.close().await;
}

/// Uses the page for keys with the keyboard and the mouse; `check` runs axe-core on each page.
async fn a_user_makes_and_ends_a_key(
    setup: &Setup,
    browser: &Chromium,
    check: &impl AsyncFn(&str),
) {
    let make = "form:last-of-type button:not(.small)";
    browser.type_into("#name", "nightly backup").await;
    browser.press(make).await;
    until("the refusal", PATIENCE, async || {
        let active = "return document.activeElement.id + document.title";
        let active = browser.run(active, &json!([])).await;
        (active == "nameError: Keys for machines - Example & Co").then_some(())
    })
    .await;
    check("keys-refused").await;
    browser
        .run("document.getElementById('name').value = ''", &json!([]))
        .await;
    browser.type_into("#name", "backup").await;
    browser.type_into("#paths", "/deep/*").await;
    browser.type_into("#days", "30").await;
    browser.press(make).await;
    let shown = async || {
        let key = "return document.querySelector('#key')?.value ?? ''";
        let key = browser.run(key, &json!([])).await;
        Some(key.as_str()?.to_owned()).filter(|key| key.starts_with("dwk_"))
    };
    let key = until("the key", PATIENCE, shown).await;
    let status = async || {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", &*bearer)];
        let edge = setup.edge.address();
        send(edge, "GET", "/deep/x", &headers, "").await.status
    };
    assert_eq!(status().await, 200);
    if writes() {
        // The pictures show no real key.
        let fake =
            "document.querySelector('#key').value = 'dwk_' + '0'.repeat(16) + '_' + '0'.repeat(72)";
        browser.run(fake, &json!([])).await;
    }
    check("new-key").await;
    // The browser sends the form again.
    browser.command("Page.reload", &json!({})).await;
    until("the answer to the second form", PATIENCE, async || {
        let text = browser.text().await;
        text.contains("has made its key already").then_some(())
    })
    .await;
    let count = "return document.querySelectorAll('li').length";
    assert_eq!(browser.run(count, &json!([])).await, 1);
    assert!(shown().await.is_none());
    browser.open(&browser.url().await).await;
    check("keys").await;

    browser.press("button.small").await;
    // Within two seconds on a machine that is not busy.
    until("the end of the key", PATIENCE, async || {
        (status().await == 401).then_some(())
    })
    .await;
    until("the page without the key", PATIENCE, async || {
        let text = browser.text().await;
        text.contains("You have no key that can be used")
            .then_some(())
    })
    .await;
    // A reload after the redirect asks for the page alone.
    browser.command("Page.reload", &json!({})).await;
    assert_eq!(status().await, 401);
}

/// Whether this run makes the pictures again.
fn writes() -> bool {
    std::env::var("DOORWARD_GOLDEN").is_ok_and(|mode| mode == "write")
}

/// axe-core finds nothing, in both colours and on a phone. With `DOORWARD_GOLDEN=write`, the pictures of the documents are
/// made again.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_can_use_the_pages() {
    let (setup, browser, host) = open_with(keys_page::with_keys).await;
    let axe = fs::read_to_string(tool("axe-core-4.14.1").join("axe.min.js")).unwrap();
    let check = async |name: &str| {
        for (form, width, colours) in [
            ("light", 1000, "light"),
            ("dark", 1000, "dark"),
            ("phone", 360, "light"),
        ] {
            let features =
                json!({"features": [{"name": "prefers-color-scheme", "value": colours}]});
            browser
                .command("Emulation.setEmulatedMedia", &features)
                .await;
            let resize = async |height: u64| {
                let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
                browser
                    .command("Emulation.setDeviceMetricsOverride", &size)
                    .await;
            };
            resize(640).await;
            let height = "return document.documentElement.scrollHeight";
            let height = browser.run(height, &json!([])).await.as_u64().unwrap();
            resize(height).await;
            let script = format!(
                "{axe}; return axe.run().then(found => found.violations.map(one => one.id + ': ' + one.nodes.map(node => node.html).join(' ')))"
            );
            let found = browser.run(&script, &json!([])).await;
            assert_eq!(found, json!([]), "{name} {form}");
            let overflows = "return document.documentElement.scrollWidth > window.innerWidth";
            assert_eq!(
                browser.run(overflows, &json!([])).await,
                false,
                "{name} {form}"
            );
            if writes() {
                let dir = repository().join("docs/sign-in");
                fs::create_dir_all(&dir).unwrap();
                fs::write(
                    dir.join(format!("{name}-{form}.png")),
                    browser.picture().await,
                )
                .unwrap();
            }
        }
    };
    browser
        .open(&format!("{host}/sign-in?return=/reports/2026"))
        .await;
    check("form").await;
    enter(&browser, (BOB.0, "wrong")).await;
    assert!(browser.text().await.contains("wrong"));
    check("refused").await;
    enter(&browser, BOB).await;
    browser.reaches("/reports/2026").await;
    browser.open(&format!("{host}/signed-in")).await;
    check("signed-in").await;
    browser.press("a[href='/my-keys']").await;
    browser.reaches("/my-keys").await;
    a_user_makes_and_ends_a_key(&setup, &browser, &check).await;
    browser.open(&format!("{host}/signed-in")).await;
    browser.press("button").await;
    browser.reaches("/sign-out").await;
    check("signed-out").await;
    // As after a redirect that follows the form.
    let network = json!({"headers": {"Referer": format!("{host}/sign-in")}});
    browser.command("Network.enable", &json!({})).await;
    browser
        .command("Network.setExtraHTTPHeaders", &network)
        .await;
    browser
        .open(&format!("{host}/sign-in?return=/reports/2026"))
        .await;
    assert!(
        browser.text().await.contains("Signing in does not hold"),
        "{}",
        browser.text().await
    );
    check("loop").await;
    drop(setup);
    browser.close().await;
}
