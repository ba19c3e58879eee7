//! Rules, keys and trusted addresses that change while Doorward serves.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use doorward::doors::wire::envoy::service::auth::v3::{
    AttributeContext, CheckRequest,
    attribute_context::{self, HttpRequest, http_request::HeadersEntry},
    authorization_client::AuthorizationClient,
};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use crate::{
    front::{BOB, Front},
    harness::{Doorward, Reply, Settings, send, until},
};

const RULES: &str = "
[[route]]
path = '/login'
allow = 'login'
[[route]]
path = '/open'
allow = 'public'
[[route]]
path = '/admin/*'
allow = 'role:admin'
[[route]]
path = '/*'
allow = 'signed-in'
";

const SECRET: &str = "4b1f0c6e92d7a8355e3c9b70f1d2846aa09b7c5d3e2f1807";
const ANOTHER: &str = "c09e7d41b3a258f6610f8e2d7b4c9a53d1e6f7082b3c4d59";

/// The longest time until a change takes effect without a signal, on a busy machine.
const BY_ITSELF: Duration = Duration::from_secs(20);

struct Setup {
    doorward: Doorward,
    bob: String,
}

impl Setup {
    async fn open(toml: &str, choose: impl FnOnce(&mut Settings, &Path)) -> Self {
        let home = Doorward::prepare(|settings| {
            settings.toml(toml);
        });
        // The directory exists only now.
        let dir = home.dir().to_owned();
        fs::write(dir.join("secret"), SECRET).unwrap();
        let home = home.with(|settings| choose(settings, &dir));
        home.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
        let doorward = home.serve().await;
        let bob = Front::login_directly(&doorward, BOB).await;
        Self { doorward, bob }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.doorward.home().dir().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        replace(&self.path(name), text.as_ref());
    }

    fn hang_up(&self) {
        self.doorward.signal(Signal::HUP);
    }

    fn lines(&self, is: impl Fn(&Value) -> bool) -> Vec<Value> {
        let lines = self.doorward.log().into_iter();
        lines.filter(|line| is(line)).collect()
    }

    fn reloads(&self) -> Vec<Value> {
        self.lines(|line| line["fields"]["message"] == "reloaded")
    }

    fn refusals(&self) -> Vec<Value> {
        self.lines(|line| line["level"] == "ERROR")
    }

    /// Acts, and waits for a new log line of this kind.
    async fn after(
        &self,
        what: &str,
        lines: impl Fn(&Self) -> Vec<Value>,
        act: impl FnOnce(),
    ) -> Value {
        let before = lines(self).len();
        act();
        until(what, BY_ITSELF, async || lines(self).get(before).cloned()).await
    }

    async fn ask(&self, path: &str, bearer: Option<&str>) -> Reply {
        ask(self.doorward.http, path, bearer).await
    }

    async fn status(&self, path: &str, bearer: Option<&str>) -> u16 {
        self.ask(path, bearer).await.status
    }

    async fn login(&self) -> Value {
        let body = json!({"username": BOB.0, "password": BOB.1}).to_string();
        let headers = [
            ("content-type", "application/json"),
            ("accept", "application/json"),
        ];
        let reply = send(self.doorward.http, "POST", "/login", &headers, body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// Asserts that [`RULES`] and the token from the start are still in force.
    async fn is_as_before(&self, why: &str) {
        for (path, bearer, status) in [
            ("/open", None, 200),
            ("/other", None, 401),
            ("/other", Some(&*self.bob), 200),
            ("/admin/x", Some(&*self.bob), 403),
        ] {
            assert_eq!(self.status(path, bearer).await, status, "{why}: {path}");
        }
    }
}

async fn ask(http: SocketAddr, path: &str, bearer: Option<&str>) -> Reply {
    let mut headers = vec![
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a"),
        ("x-forwarded-uri", path),
        ("x-forwarded-for", "203.0.113.5"),
    ];
    headers.extend(bearer.map(|bearer| ("authorization", bearer)));
    send(http, "GET", "/auth/forward", &headers, "").await
}

/// Replaces a file atomically, whatever is at its path.
fn replace(path: &Path, content: &[u8]) {
    let draft = path.with_file_name(".written");
    fs::write(&draft, content).unwrap();
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path).unwrap();
    }
    fs::rename(&draft, path).unwrap();
}

fn by_secret_file(settings: &mut Settings, dir: &Path) {
    settings.env("JWT_SECRET_FILE", dir.join("secret").to_str().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_takes_effect_with_and_without_a_signal() {
    let head = "self_service.register = true\n";
    let setup = Setup::open(&format!("{head}{RULES}"), by_secret_file).await;
    setup.write("common", "something-else-entirely\n");
    let common = setup.path("common").display().to_string();
    let register = "[[route]]\npath = '/register'\nallow = 'register'\n";
    let write = |settings: &str, rules: &str| {
        let text = format!("{head}{settings}\n{RULES}{rules}");
        setup.write("doorward.toml", text);
    };
    let strange = "[[route]]\npath = '/new'\nallow = ";
    for asked in [false, true] {
        let change = async |act: &dyn Fn()| {
            let line = setup
                .after("it reloads", Setup::reloads, || {
                    act();
                    if asked {
                        setup.hang_up();
                    }
                })
                .await;
            let by = if asked {
                "SIGHUP"
            } else {
                "a file has changed"
            };
            assert_eq!(line["fields"]["by"], by, "{line}");
        };
        let bob = Some(&*setup.bob);
        // A rule is added, changed and removed.
        change(&|| write("", &format!("{strange}'public'"))).await;
        assert_eq!(setup.status("/new", None).await, 200);
        change(&|| write("", &format!("{strange}'role:admin'"))).await;
        assert_eq!(setup.status("/new", bob).await, 403);
        change(&|| write("", "")).await;
        assert_eq!(setup.status("/new", bob).await, 200);
        assert_eq!(setup.status("/new", None).await, 401);

        change(&|| write("login.realm = 'elsewhere'", "")).await;
        let reply = setup.ask("/x", None).await;
        let challenge = reply.header("www-authenticate").unwrap().to_owned();
        assert!(challenge.contains("realm=\"elsewhere\""), "{challenge}");
        change(&|| write("jwt.lifetime = '2h'", "")).await;
        assert_eq!(setup.login().await["expires_in"], 7200);
        change(&|| write("trusted_proxies = ['192.0.2.0/24']", "")).await;
        assert_eq!(setup.status("/open", None).await, 403);
        change(&|| write("client_address = 'x-forwarded-for:1'", "")).await;
        assert_eq!(setup.status("/whose", None).await, 401);
        setup
            .doorward
            .logged("the client", |line| {
                line["fields"]["client"] == "203.0.113.5"
            })
            .await;

        let listed = format!("passwords.blocklist = '{common}'");
        setup.write("common", "something-else-entirely\n");
        change(&|| write(&listed, register)).await;
        change(&|| setup.write("common", "Correct-Horse-Battery\n")).await;
        let body = json!({"username": "eve", "password": "correct-horse-battery"}).to_string();
        let headers = [("content-type", "application/json")];
        let reply = send(setup.doorward.http, "POST", "/register", &headers, body).await;
        assert_eq!(reply.status, 400, "{reply:?}");

        change(&|| setup.write("secret", ANOTHER)).await;
        assert_eq!(setup.status("/x", bob).await, 401);
        let token = setup.login().await["access_token"]
            .as_str()
            .unwrap()
            .to_owned();
        let renewed = format!("Bearer {token}");
        assert_eq!(setup.status("/x", Some(&renewed)).await, 200);
        change(&|| {
            setup.write("secret", SECRET);
            write("", "");
        })
        .await;
        setup.is_as_before("at the end").await;
        assert_eq!(setup.status("/x", Some(&renewed)).await, 401);
    }
    assert!(setup.refusals().is_empty(), "{}", setup.doorward.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_need_a_restart_are_named_and_not_applied() {
    let listen = |port: u16| format!("listen.http = '127.0.0.1:{port}'\n");
    let setup = Setup::open(&format!("{}{RULES}", listen(0)), |settings, _| {
        settings.without("DOORWARD_LISTEN__HTTP");
        settings.without("DOORWARD_DATA_DIR");
        settings.without("DOORWARD_LOGIN__HASH_PRIORITY");
    })
    .await;
    let changed = [
        ("data_dir", "'elsewhere'"),
        ("listen.http", "'127.0.0.1:1'"),
        ("database.connections", "3"),
        ("database.timeout", "'1s'"),
        ("jwt.keys_dir", "'other-keys'"),
        ("jwt.issuer", "'somebody'"),
        ("jwt.audience", "'else'"),
        ("login.hash_threads", "1"),
        ("login.hash_priority", "'normal'"),
        ("login.hash_queue", "7"),
        ("throttle.account_failures", "9"),
        ("revocation.poll", "'2s'"),
        ("refresh.enabled", "true"),
        ("self_service.password", "true"),
        ("log.level", "'debug'"),
    ];
    let text: String = changed
        .iter()
        .map(|(key, value)| format!("{key} = {value}\n"))
        .collect();
    let other = setup.path("other-keys");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("broken.pem"), "none of its business").unwrap();
    let warnings = |setup: &Setup| {
        setup.lines(|line| {
            let said = line["fields"]["message"].as_str().unwrap_or_default();
            line["level"] == "WARN" && said.contains("only after a restart")
        })
    };
    let names = changed.iter().map(|(key, _)| *key).collect::<Vec<_>>();
    for turn in 0..3 {
        let rules = format!("login.realm = 'turn{turn}'\n{text}{RULES}");
        let line = setup
            .after("a warning", warnings, || {
                setup.write("doorward.toml", rules);
                if turn != 0 {
                    setup.hang_up();
                }
            })
            .await;
        assert_eq!(line["fields"]["keys"], names.join(", "), "{line}");
        // The other changes are in force; the warning is logged before that.
        until("the realm", BY_ITSELF, async || {
            let reply = setup.ask("/x", None).await;
            let challenge = reply.header("www-authenticate").unwrap();
            challenge.contains(&format!("turn{turn}")).then_some(())
        })
        .await;
        setup.is_as_before("the rest").await;
    }
    let login = setup.login().await;
    assert_eq!(login["refresh_token"], Value::Null, "{login}");
    let token = login["access_token"].as_str().unwrap();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", &*bearer)];
    let claims = send(setup.doorward.http, "GET", "/validate", &headers, "").await;
    assert_eq!(
        (&claims.json()["iss"], &claims.json()["aud"]),
        (&json!("doorward"), &json!("doorward"))
    );
    assert!(!setup.path("elsewhere").exists());

    // A rule of an endpoint that only a restart enables.
    let rule = "[[route]]\npath = '/refresh'\nallow = 'refresh'\n";
    let line = setup
        .after("a refusal", Setup::refusals, || {
            setup.write("doorward.toml", format!("{text}{RULES}{rule}"));
            setup.hang_up();
        })
        .await;
    let cause = line["fields"]["cause"].as_str().unwrap();
    assert!(
        cause.contains("switched off") && cause.contains("restart"),
        "{cause}"
    );
    setup.is_as_before("the rule of an endpoint").await;

    // After all changes are undone there is no warning; a restart applies what is in the file.
    let told = warnings(&setup).len();
    setup
        .after("it reloads", Setup::reloads, || {
            setup.write("doorward.toml", format!("{}{RULES}", listen(0)));
        })
        .await;
    assert_eq!(warnings(&setup).len(), told);
    setup.write(
        "doorward.toml",
        format!("{}jwt.issuer = 'somebody'\n{RULES}", listen(0)),
    );
    let (home, _) = setup.doorward.stop().await;
    let doorward = home.serve().await;
    assert_eq!(ask(doorward.http, "/x", Some(&setup.bob)).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_fails_during_a_hundred_reloads() {
    let setup = Setup::open(RULES, by_secret_file).await;
    let (http, grpc) = (setup.doorward.http, setup.doorward.grpc);
    // A request in flight with half of its body.
    let mut open = TcpStream::connect(http).await.unwrap();
    let head = b"POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{";
    open.write_all(head).await.unwrap();

    let ended = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..2 {
        let shared = (setup.bob.clone(), ended.clone(), answered.clone());
        let (bob, ended, answered) = shared.clone();
        clients.push(tokio::spawn(async move {
            // All requests use one connection.
            let stream = TcpStream::connect(http).await.unwrap();
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            while !ended.load(Ordering::Relaxed) {
                let request = Request::get("/auth/forward")
                    .header("host", "x")
                    .header("x-forwarded-method", "GET")
                    .header("x-forwarded-proto", "http")
                    .header("x-forwarded-host", "a")
                    .header("x-forwarded-uri", "/other")
                    .header("authorization", &bob)
                    .body(Empty::<Bytes>::new())
                    .unwrap();
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.status(), 200);
                assert_eq!(response.headers()["x-auth-user"], "bob");
                response.into_body().collect().await.unwrap();
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let (bob, ended, answered) = shared;
        clients.push(tokio::spawn(async move {
            let url = format!("http://{grpc}");
            let mut client = AuthorizationClient::connect(url).await.unwrap();
            let http = HttpRequest {
                method: "GET".into(),
                path: "/other".into(),
                headers: vec![HeadersEntry {
                    key: "authorization".into(),
                    value: bob.into(),
                }],
                ..HttpRequest::default()
            };
            let check = CheckRequest {
                attributes: Some(AttributeContext {
                    source: None,
                    request: Some(attribute_context::Request { http: Some(http) }),
                }),
            };
            while !ended.load(Ordering::Relaxed) {
                let response = client.check(check.clone()).await.unwrap().into_inner();
                assert_eq!(response.status.unwrap().code, 0);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for turn in 0..100 {
        let rule = format!("[[route]]\npath = '/turn/{turn}'\nallow = 'public'\n");
        setup
            .after("it reloads", Setup::reloads, || {
                setup.write("doorward.toml", format!("{RULES}{rule}"));
                setup.hang_up();
            })
            .await;
        if turn % 10 == 0 {
            assert_eq!(setup.status(&format!("/turn/{turn}"), None).await, 200);
        }
        // After many reloads, and before the timeout of the body.
        if turn == 30 {
            open.write_all(b"}").await.unwrap();
        }
    }
    ended.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(answered.load(Ordering::Relaxed) > 100, "{answered:?}");
    let mut answer = [0; 12];
    open.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
    assert!(setup.refusals().is_empty(), "{}", setup.doorward.output());
}

/// Updates a mount like Kubernetes: one rename replaces all files.
fn mount(dir: &Path, turn: usize, files: &[(&str, &str)]) {
    let own = format!("..2026_11_21_{turn}");
    fs::create_dir_all(dir.join(&own)).unwrap();
    for (name, text) in files {
        fs::write(dir.join(&own).join(name), text).unwrap();
    }
    let draft = dir.join("..data_tmp");
    symlink(&own, &draft).unwrap();
    fs::rename(&draft, dir.join("..data")).unwrap();
    for (name, _) in files {
        let link = dir.join(name);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(name), &link).unwrap();
        }
    }
    if let Some(before) = turn.checked_sub(1) {
        let _ = fs::remove_dir_all(dir.join(format!("..2026_11_21_{before}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_is_replaced_as_a_whole() {
    let rules = |open: &str| format!("{RULES}[[route]]\npath = '{open}'\nallow = 'public'\n");
    let setup = Setup::open(RULES, |settings, dir| {
        mount(
            &dir.join("mount"),
            0,
            &[("doorward.toml", &rules("/turn/0")), ("jwt", SECRET)],
        );
        let path = |name: &str| dir.join("mount").join(name).display().to_string();
        settings.env("DOORWARD_CONFIG", path("doorward.toml"));
        settings.env("JWT_SECRET_FILE", path("jwt"));
    })
    .await;
    let dir = setup.path("mount");
    assert_eq!(setup.status("/turn/0", None).await, 200);
    for turn in 1..4 {
        setup
            .after("it reloads", Setup::reloads, || {
                let text = rules(&format!("/turn/{turn}"));
                mount(&dir, turn, &[("doorward.toml", &text), ("jwt", SECRET)]);
            })
            .await;
        let open = setup.status(&format!("/turn/{turn}"), None).await;
        let before = setup.status(&format!("/turn/{}", turn - 1), None).await;
        assert_eq!((open, before), (200, 401), "{turn}");
    }
    // Both files change at once: when the new rules are in force, so is the new secret.
    let (http, bob) = (setup.doorward.http, setup.bob.clone());
    for turn in 4..30 {
        let secret = if turn % 2 == 0 { ANOTHER } else { SECRET };
        setup
            .after("it reloads", Setup::reloads, || {
                let text = rules(&format!("/turn/{turn}"));
                mount(&dir, turn, &[("doorward.toml", &text), ("jwt", secret)]);
                setup.hang_up();
            })
            .await;
        let open = ask(http, &format!("/turn/{turn}"), None).await.status;
        let status = ask(http, "/other", Some(&bob)).await.status;
        let expected = if turn % 2 == 0 { 401 } else { 200 };
        assert_eq!((open, status), (200, expected), "{turn}");
    }
    assert!(setup.refusals().is_empty(), "{}", setup.doorward.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partly_written_file_is_not_applied() {
    let setup = Setup::open(RULES, by_secret_file).await;
    let file = setup.path("doorward.toml");
    let whole = format!("{RULES}[[route]]\npath = '/new'\nallow = 'public'\n");
    // Written in place, with pauses; some of the partial files are valid settings.
    for size in [whole.len() / 9, whole.len() / 3] {
        let mut written = fs::File::create(&file).unwrap();
        sleep(Duration::from_millis(300)).await;
        for piece in whole.as_bytes().chunks(size) {
            std::io::Write::write_all(&mut written, piece).unwrap();
            setup.is_as_before("in pieces").await;
            sleep(Duration::from_millis(300)).await;
        }
        until("the new rule", BY_ITSELF, async || {
            (setup.status("/new", None).await == 200).then_some(())
        })
        .await;
        setup.write("doorward.toml", RULES);
        until("the previous rules", BY_ITSELF, async || {
            (setup.status("/new", None).await == 401).then_some(())
        })
        .await;
    }

    // The file is empty, without rules or missing for a while: each case is logged once, and the rules stay in force.
    for (text, why) in [
        (Some(""), "is empty"),
        (Some("\n \n"), "is empty"),
        (Some("# nothing\n"), "has no [[route]] any more"),
        (
            Some("trusted_proxies = '127.0.0.0/8'\n"),
            "has no [[route]] any more",
        ),
        (Some(RULES.split_at(40).0), "not TOML"),
        (None, "cannot be read"),
    ] {
        let refused = setup.refusals().len();
        let line = setup
            .after("a refusal", Setup::refusals, || match text {
                Some(text) => fs::write(&file, text).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            })
            .await;
        let cause = line["fields"]["cause"].as_str().unwrap();
        assert!(cause.contains(why), "{cause}");
        sleep(Duration::from_millis(2500)).await;
        setup.is_as_before(why).await;
        assert_eq!(
            setup.refusals().len(),
            refused + 1,
            "one line for each change"
        );
        setup.write("doorward.toml", RULES);
        setup
            .after("it reloads", Setup::reloads, || setup.hang_up())
            .await;
    }
}

/// The file with the default name, which no setting names.
#[tokio::test(flavor = "multi_thread")]
async fn rules_stay_in_force_when_their_file_disappears() {
    let setup = Setup::open(RULES, |settings, _| {
        settings.without("DOORWARD_CONFIG");
    })
    .await;
    setup.is_as_before("at the start").await;
    for asked in [false, true] {
        let line = setup
            .after("a refusal", Setup::refusals, || {
                fs::remove_file(setup.path("doorward.toml")).unwrap();
                if asked {
                    setup.hang_up();
                }
            })
            .await;
        let cause = line["fields"]["cause"].as_str().unwrap();
        assert!(cause.contains("doorward.toml: is gone"), "{cause}");
        setup.is_as_before("gone").await;
        setup
            .after("it reloads", Setup::reloads, || {
                setup.write("doorward.toml", RULES);
            })
            .await;
    }
    // A file that appears is read.
    let without = Setup::open("", |settings, _| {
        settings.without("DOORWARD_CONFIG");
    });
    let without = without.await;
    fs::remove_file(without.path("doorward.toml")).unwrap();
    let (home, _) = without.doorward.stop().await;
    let doorward = home.serve().await;
    let setup = Setup {
        bob: Front::login_directly(&doorward, BOB).await,
        doorward,
    };
    assert_eq!(setup.status("/open", None).await, 401);
    setup
        .after("it reloads", Setup::reloads, || {
            setup.write("doorward.toml", RULES);
        })
        .await;
    setup.is_as_before("it has appeared").await;
}

enum Break {
    Write(&'static str, Vec<u8>),
    Remove(&'static str),
    Directory(&'static str),
    Loop(&'static str),
    Pipe(&'static str),
}

impl Break {
    fn text(name: &'static str, text: impl Into<String>) -> Self {
        Self::Write(name, text.into().into_bytes())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Write(name, _)
            | Self::Remove(name)
            | Self::Directory(name)
            | Self::Loop(name)
            | Self::Pipe(name) => name,
        }
    }

    fn act(&self, dir: &Path) {
        let path = dir.join(self.name());
        if let Self::Write(_, content) = self {
            return replace(&path, content);
        }
        if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        match self {
            Self::Write(..) | Self::Remove(_) => {}
            Self::Directory(_) => fs::create_dir(&path).unwrap(),
            Self::Loop(_) => symlink(&path, &path).unwrap(),
            Self::Pipe(_) => {
                let made = std::process::Command::new("mkfifo").arg(&path).status();
                assert!(made.unwrap().success());
            }
        }
    }
}

async fn breaks(setup: &Setup, broken: Vec<(Break, &str)>) -> usize {
    let dir = setup.doorward.home().dir().to_owned();
    let count = broken.len();
    for (index, (act, why)) in broken.into_iter().enumerate() {
        let path = dir.join(act.name());
        let good = fs::read(&path).ok();
        let refused = setup.refusals().len();
        // Most are applied by a signal, which is faster.
        let asked = index % 8 != 0;
        let line = setup
            .after(why, Setup::refusals, || {
                act.act(&dir);
                if asked {
                    setup.hang_up();
                }
            })
            .await;
        let cause = line["fields"]["cause"].as_str().unwrap();
        assert!(
            cause.contains(why),
            "{index} {}: {why}: {cause}",
            act.name()
        );
        assert!(
            !cause.contains('\n') && cause.len() < 9000,
            "{}",
            cause.len()
        );
        for secret in [SECRET, ANOTHER, "hunter2hunter2"] {
            assert!(!line.to_string().contains(secret), "{line}");
        }
        setup.is_as_before(why).await;
        setup
            .after("the file is restored", Setup::reloads, || {
                match &good {
                    Some(good) => replace(&path, good),
                    None => fs::remove_file(&path)
                        .or_else(|_| fs::remove_dir(&path))
                        .unwrap(),
                }
                if asked {
                    setup.hang_up();
                }
            })
            .await;
        setup.is_as_before("restored").await;
        assert_eq!(setup.refusals().len(), refused + 1, "{why}");
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_broken_files_change_nothing() {
    let setup = Setup::open(RULES, by_secret_file).await;
    let rules = |more: &str| Break::text("doorward.toml", format!("{RULES}{more}"));
    let head = |more: &str| Break::text("doorward.toml", format!("{more}\n{RULES}"));
    let route = |path: &str| rules(&format!("[[route]]\npath = '{path}'\nallow = 'public'"));
    let many: String = (0..5000).map(|n| format!("unknown{n} = 1\n")).collect();
    let mut huge = RULES.as_bytes().to_vec();
    huge.resize(65 * 1024 * 1024, b'#');
    let file = "doorward.toml";
    let broken = vec![
        (rules("what is this"), "not TOML"),
        (rules("[[route]"), "not TOML"),
        (rules("[[route]]\npath = '/x"), "not TOML"),
        (
            Break::text(file, RULES.split_at(RULES.len() - 9).0),
            "not TOML",
        ),
        (Break::Write(file, vec![0, 159, 146, 150]), "is not UTF-8"),
        (Break::Write(file, vec![0; 4096]), "not TOML"),
        (Break::text(file, ""), "is empty"),
        (Break::text(file, "# all gone\n"), "has no [[route]]"),
        (Break::text(file, "route = []\n"), "has no [[route]]"),
        (Break::text(file, "route = 7\n"), "is not a list of tables"),
        (Break::Write(file, huge), "larger than 64 MiB"),
        (head(&many), "is not a setting"),
        (Break::Remove(file), "No such file"),
        (Break::Directory(file), "is a directory"),
        (Break::Loop(file), "Too many levels of symbolic links"),
        (Break::Pipe(file), "is a pipe or a device"),
        (head("login.relm = 'x'"), "did you mean login.realm?"),
        (rules("[[route]]\npth = '/x'\nallow = 'public'"), "pth"),
        (rules("[[route]]\npath = '/x'"), "\"allow\" is missing"),
        (rules("[[route]]\nallow = 'public'"), "\"path\" is missing"),
        (
            rules("[[route]]\npath = '/x'\nallow = 'everybody'"),
            "everybody",
        ),
        (
            rules("[[route]]\npath = 7.5\nallow = 'public'"),
            "neither a string",
        ),
        (
            rules("[[route]]\npath = '/x'\nallow = 'public'\nmethods = []"),
            "empty list",
        ),
        (
            rules("[[route]]\npath = '/x'\nallow = 'refresh'"),
            "switched off",
        ),
        (route("/open"), "two rules decide the same request"),
        (route("/a//b"), "/a//b"),
        (route("/a/*/b"), "/a/*/b"),
        (route("relative"), "relative"),
        (route("/a/../b"), "/a/../b"),
        (head("jwt.lifetime = 'long'"), "is not a duration"),
        (head("jwt.lifetime = '1s'"), "is not a duration"),
        (head("jwt.lifetime = ['1h']"), "write one value"),
        (head("trusted_proxies = 'everybody'"), "is not a network"),
        (head("client_address = 'guess'"), "is none of"),
        (head("login.realm = 'a\"b'"), "visible ASCII"),
        (head("cors.allow_preflight = 'maybe'"), "is none of"),
        (head("paths.tolerate = ['dots']"), "cannot be tolerated"),
        (head("passwords.min_length = 1"), "is not a number"),
        (
            head("passwords.blocklist = '/nowhere/at/all'"),
            "cannot be read",
        ),
        (head("passwords.blocklist = '/dev'"), "is a directory"),
        (
            head("jwt.previous_secret = 'short'"),
            "jwt.previous_secret: has 5 bytes",
        ),
        (Break::text("secret", "hunter2hunter2"), "has 14 bytes"),
        (Break::text("secret", ""), "JWT_SECRET_FILE"),
        (Break::text("secret", "\n"), "JWT_SECRET_FILE"),
        (Break::text("secret", "a".repeat(64)), "JWT_SECRET_FILE"),
        (Break::Remove("secret"), "cannot be read"),
        (Break::Directory("secret"), "is a directory"),
        (Break::Write("secret", vec![0xff; 64]), "is not UTF-8"),
    ];
    let first = breaks(&setup, broken).await;
    assert!(first >= 45, "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_keys_change_nothing() {
    let setup = Setup::open(RULES, |settings, dir| {
        let data = dir.join("data");
        fs::create_dir_all(data.join("keys")).unwrap();
        let key = doorward_key("first", "2026-01-01T00:00:00Z");
        fs::write(data.join("keys/first.pem"), key).unwrap();
        settings.without("JWT_SECRET_FILE");
    })
    .await;
    let good = fs::read_to_string(setup.path("data/keys/first.pem")).unwrap();
    let body = good.lines().nth(4).unwrap().to_owned();
    let first = "data/keys/first.pem";
    let second = "data/keys/second.jwk";
    let key = |name: &'static str, text: String| Break::text(name, text);
    let short = {
        use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
        BASE64_URL_SAFE_NO_PAD.encode([0xc5; 128])
    };
    let oct = |k: &str| format!(r#"{{"kty":"oct","alg":"HS256","k":"{k}"}}"#);
    let no_key = "is neither a JWK (RFC 7517) nor a key in PEM";
    let broken = vec![
        (key(first, good.split_at(good.len() - 30).0.into()), no_key),
        (key(first, good.split_at(good.len() / 2).0.into()), no_key),
        (key(first, String::new()), no_key),
        (key(first, good.replace("PRIVATE KEY", "PRIVATE")), no_key),
        (
            key(first, good.replace("PRIVATE KEY", "CERTIFICATE")),
            no_key,
        ),
        (key(first, good.replace(&body, "!!garbage!!")), no_key),
        (
            key(first, good.replace(&body, "AAAA")),
            "missing, malformed",
        ),
        (
            key(first, good.replace("ES256", "RS256")),
            "is no key for RS256",
        ),
        (
            key(first, good.replace("ES256", "none")),
            "does not name an algorithm",
        ),
        (
            key(first, good.replace("2026-01-01T00", "yesterday")),
            "not-before",
        ),
        (
            key(first, good.replace("2026-", "2999-")),
            "no key signs yet",
        ),
        (key(first, format!("{good}{good}")), no_key),
        (Break::Remove(first), "no key signs"),
        (Break::Directory(first), "is a directory"),
        (Break::Loop(first), "Too many levels of symbolic links"),
        (Break::Pipe(first), "is a pipe or a device"),
        (Break::Write(first, vec![0xfe; 300]), no_key),
        (
            key(second, r#"{"kty":"EC","crv":"P-256"}"#.into()),
            "missing, malformed",
        ),
        (key(second, r#"{"kty":"EC","crv":"P-2"#.into()), no_key),
        (key(second, r#"{"kid":"x"}"#.into()), no_key),
        (
            key(
                second,
                format!(r#"{{"kty":"RSA","alg":"RS256","n":"{short}","e":"AQAB"}}"#),
            ),
            "1024 bits",
        ),
        (key(second, oct("c2hvcnQ")), "has 5 bytes"),
        (key(second, oct(&"YWFh".repeat(20))), "is easy to guess"),
        (
            key(
                second,
                format!(
                    "{{\"kty\":\"oct\",\"kid\":\"first\",\"alg\":\"HS256\",\"k\":\"{ANOTHER}\"}}"
                ),
            ),
            "two keys are called \"first\"",
        ),
        (
            Break::text(
                "data/keys/second.pem",
                doorward_key("second", "2026-01-01T00:00:00Z"),
            ),
            "begin to sign at the same time",
        ),
        (
            Break::Directory("data/keys/notes"),
            "data/keys/notes: is a directory",
        ),
        (
            Break::text("data/keys/README.txt", "who looks after these"),
            no_key,
        ),
    ];
    breaks(&setup, broken).await;

    // The whole directory disappears with its keys.
    let (keys, away) = (setup.path("data/keys"), setup.path("away"));
    for _ in 0..2 {
        let line = setup
            .after("a refusal", Setup::refusals, || {
                fs::rename(&keys, &away).unwrap();
            })
            .await;
        assert!(
            line["fields"]["cause"]
                .as_str()
                .unwrap()
                .contains("is missing; restore it")
        );
        setup.is_as_before("no directory").await;
        setup
            .after("it reloads", Setup::reloads, || {
                fs::rename(&away, &keys).unwrap();
            })
            .await;
    }
}

fn doorward_key(id: &str, since: &str) -> String {
    use doorward::domain::{
        key::{Algorithm, Key, KeyId},
        token::UnixTime,
    };
    let since = humantime::parse_rfc3339(since).unwrap();
    let since = since.duration_since(std::time::UNIX_EPOCH).unwrap();
    let id = KeyId::parse(id).unwrap();
    let key = Key::generate(&id, Algorithm::Es256, UnixTime(since.as_secs()));
    key.unwrap().to_string()
}

/// Doorward never replaces the generated secret while it serves.
#[tokio::test(flavor = "multi_thread")]
async fn the_generated_secret_is_not_made_again() {
    let setup = Setup::open(RULES, |_, _| {}).await;
    let secret = setup.path("data/jwt.secret");
    let kept = fs::read(&secret).unwrap();
    for asked in [false, true] {
        let line = setup
            .after("a refusal", Setup::refusals, || {
                fs::remove_file(&secret).unwrap();
                if asked {
                    setup.hang_up();
                }
            })
            .await;
        let cause = line["fields"]["cause"].as_str().unwrap();
        assert!(cause.contains("there is no secret in"), "{cause}");
        assert!(!secret.exists());
        setup.is_as_before("no secret").await;
        setup
            .after("it reloads", Setup::reloads, || {
                fs::write(&secret, &kept).unwrap();
            })
            .await;
    }
    // A key replaces the secret, whose tokens are valid as long as the file exists.
    fs::create_dir_all(setup.path("data/keys")).unwrap();
    setup
        .after("it reloads", Setup::reloads, || {
            // It signs from now on, so tokens of the secret stay valid for a while.
            let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
            let key = doorward_key("k", &now.to_string());
            setup.write("data/keys/k.pem", key);
        })
        .await;
    setup.is_as_before("with a key").await;
    setup
        .after("it reloads", Setup::reloads, || {
            fs::remove_file(&secret).unwrap();
        })
        .await;
    assert_eq!(setup.status("/x", Some(&setup.bob)).await, 401);
    let token = Front::login_directly(&setup.doorward, BOB).await;
    assert_eq!(setup.status("/x", Some(&token)).await, 200);
    assert!(!secret.exists());
}
