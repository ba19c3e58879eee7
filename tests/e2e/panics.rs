//! Panics during a decision. Denials and logins need random bytes for ids; in these tests the system stops providing
//! them, and the library that makes ids panics.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use doorward::doors::wire::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse,
    attribute_context::{self, HttpRequest},
    check_response::HttpResponse,
};
use prost::Message as _;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    front::{BOB, basic, log_in},
    harness::{Doorward, Envoy, EnvoyConfig, Reply, Service, program, repository, send},
    http2::{self, CHECK, Ended, HEALTH, call, frame, message, preface},
};

/// A Doorward that panics while the file `broken` exists.
struct Fragile {
    doorward: Doorward,
    broken: PathBuf,
}

impl Fragile {
    async fn start() -> Self {
        let home = Doorward::prepare(|settings| {
            settings.toml(fs::read_to_string(repository().join("examples/doorward.toml")).unwrap());
        });
        home.add_user(BOB.0, BOB.1, &[]).await;
        let (library, broken) = (preload(home.dir()), home.dir().join("broken"));
        let doorward = home
            .with(|settings| {
                settings
                    .env("LD_PRELOAD", library.to_str().unwrap())
                    .env("NO_RANDOMNESS", broken.to_str().unwrap());
            })
            .serve()
            .await;
        Self { doorward, broken }
    }

    /// From now on, everything that needs random bytes panics.
    fn break_it(&self) {
        fs::write(&self.broken, "").unwrap();
    }

    /// How many decisions of a door have failed inside Doorward.
    async fn failures(&self, door: &str) -> u64 {
        let numbers = send(self.doorward.ops, "GET", "/metrics", &[], "").await;
        let labels = format!(
            "doorward_decisions_total{{door=\"{door}\",decision=\"deny\",reason=\"internal\",rule=\"none\"}} "
        );
        let mut lines = numbers.text().lines();
        let count = lines.find_map(|line| line.strip_prefix(&*labels));
        count.map_or(0, |count| count.parse().unwrap())
    }

    /// Asserts that the log contains the place of the panic.
    async fn logs_the_place(&self) {
        let line = self
            .doorward
            .logged("a panic", |line| line["fields"]["message"] == "panicked")
            .await;
        assert_eq!(line["level"], "ERROR");
        let place = line["fields"]["place"].as_str().unwrap();
        assert!(place.contains(".rs:"), "{place}");
    }
}

fn preload(dir: &Path) -> PathBuf {
    let library = dir.join("no_randomness.so");
    let built = Command::new(program("cc"))
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(repository().join("tests/harness/no_randomness.c"))
        .status();
    assert!(built.unwrap().success());
    library
}

fn denied(answer: &[u8]) -> (i32, i32) {
    let answer = CheckResponse::decode(answer.get(5..).unwrap()).unwrap();
    let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else {
        panic!("not a denial");
    };
    (answer.status.unwrap().code, denied.status.unwrap().code)
}

fn check(method: &str, path: &str) -> Vec<u8> {
    let http = HttpRequest {
        method: method.to_owned().into(),
        path: path.to_owned().into(),
        ..HttpRequest::default()
    };
    let check = CheckRequest {
        attributes: Some(AttributeContext {
            source: None,
            request: Some(attribute_context::Request { http: Some(http) }),
        }),
    };
    message(&check.encode_to_vec())
}

/// An unsafe Envoy configuration: requests pass if Doorward does not answer.
fn open(config: EnvoyConfig) -> EnvoyConfig {
    config.replace("failure_mode_allow: false", "failure_mode_allow: true")
}

fn has_status(reply: &Reply, status: u16) {
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (status, Some("1")),
        "{reply:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_denial_and_other_calls_of_the_connection_go_on() {
    let fragile = Fragile::start().await;
    let mut stream = TcpStream::connect(fragile.doorward.grpc).await.unwrap();
    // The first call is half sent when the next one panics.
    let public = check("GET", "/healthz");
    let (half, rest) = public.split_at(9);
    let begun = [preface(), call(1, CHECK), frame(http2::DATA, 0, 1, half)].concat();
    stream.write_all(&begun).await.unwrap();
    fragile.break_it();
    for id in [3, 5] {
        let body = frame(http2::DATA, http2::END_STREAM, id, &check("GET", "/orders"));
        stream
            .write_all(&[call(id, CHECK), body].concat())
            .await
            .unwrap();
        let Ended::Answered(answer) = http2::ended(&mut stream, id).await else {
            panic!("no answer");
        };
        // UNAVAILABLE
        assert_eq!(denied(&answer), (14, 503));
    }
    let rest = frame(http2::DATA, http2::END_STREAM, 1, rest);
    let health = frame(http2::DATA, http2::END_STREAM, 7, &message(&[]));
    stream.write_all(&rest).await.unwrap();
    let Ended::Answered(answer) = http2::ended(&mut stream, 1).await else {
        panic!("no answer");
    };
    let answer = CheckResponse::decode(&answer[5..]).unwrap();
    assert_eq!(answer.status.unwrap().code, 0);
    stream
        .write_all(&[call(7, HEALTH), health].concat())
        .await
        .unwrap();
    let Ended::Answered(_) = http2::ended(&mut stream, 7).await else {
        panic!("no answer");
    };
    assert_eq!(fragile.failures("grpc").await, 2);
    fragile.logs_the_place().await;
}

/// A login panics in its own task, after its password was verified.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_passes_an_envoy_that_lets_errors_through_when_a_decision_panics() {
    for version in Envoy::VERSIONS {
        let fragile = Fragile::start().await;
        let bearer = log_in(fragile.doorward.http, BOB).await;
        let service = Service::start().await;
        let config = open(EnvoyConfig::committed())
            .free_ports()
            .doorward(fragile.doorward.grpc)
            .service(service.address);
        let envoy = Envoy::start(version, &config).await;
        let profile = [("authorization", &*bearer)];
        fragile.break_it();
        // A valid token needs no random bytes, not even the first one.
        let reply = send(envoy.edge, "GET", "/profile", &profile, "").await;
        assert_eq!(reply.status, 200, "{version}: {reply:?}");
        let credentials = basic(BOB.0, BOB.1);
        for (method, path, headers) in [
            ("GET", "/orders", &[][..]),
            ("GET", "/orders", &[("authorization", "Bearer x")]),
            ("POST", "/login", &[("authorization", &*credentials)]),
        ] {
            has_status(&send(envoy.edge, method, path, headers, "").await, 503);
        }
        assert_eq!(service.requests(), 1, "{version}");
        assert_eq!(fragile.failures("grpc").await, 3, "{version}");
        fragile.logs_the_place().await;
        let reply = send(envoy.edge, "GET", "/profile", &profile, "").await;
        assert_eq!(reply.status, 200, "{version}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_random_bytes_nothing_starts() {
    let home = Doorward::prepare(|_| {});
    home.run(&["migrate"], "").await.ok();
    let (library, broken) = (preload(home.dir()), home.dir().join("broken"));
    fs::write(&broken, "").unwrap();
    let home = home.with(|settings| {
        settings
            .env("LD_PRELOAD", library.to_str().unwrap())
            .env("NO_RANDOMNESS", broken.to_str().unwrap());
    });
    let ran = home.run(&["serve"], "").await;
    let output = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{output}");
    assert!(
        output.contains("the system gives no random bytes") && !output.contains("panicked"),
        "{output}"
    );
}

/// In its HTTP mode, Envoy treats a 5xx as a failure, so the denial has another status there.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_passes_an_http_envoy_that_lets_errors_through_when_a_decision_panics() {
    for version in Envoy::VERSIONS {
        let fragile = Fragile::start().await;
        let service = Service::start().await;
        let config = open(EnvoyConfig::file("envoy-http.yaml"))
            .free_ports()
            .doorward_http(fragile.doorward.http)
            .service(service.address);
        let envoy = Envoy::start(version, &config).await;
        fragile.break_it();
        for _ in 0..3 {
            has_status(&send(envoy.edge, "GET", "/orders", &[], "").await, 429);
        }
        assert_eq!(service.requests(), 0, "{version}");
        assert_eq!(fragile.failures("envoy-http").await, 3, "{version}");
        fragile.logs_the_place().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_at_the_http_port_is_answered_in_the_form_of_the_gateway() {
    let fragile = Fragile::start().await;
    fragile.break_it();
    let http = fragile.doorward.http;
    let nginx = [("x-original-method", "GET"), ("x-original-uri", "/orders")];
    let reply = send(http, "GET", "/auth/nginx", &nginx, "").await;
    has_status(&reply, 403);
    assert_eq!(reply.header("x-auth-status"), Some("503"));
    let forward = [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "example.com"),
        ("x-forwarded-uri", "/orders"),
    ];
    has_status(&send(http, "GET", "/auth/forward", &forward, "").await, 503);
    let credentials = basic(BOB.0, BOB.1);
    let login = [("authorization", &*credentials)];
    has_status(&send(http, "POST", "/login", &login, "").await, 503);
    has_status(&send(http, "GET", "/validate", &[], "").await, 503);
    for door in ["nginx", "forward", "login", "validate"] {
        assert_eq!(fragile.failures(door).await, 1, "{door}");
    }
}
