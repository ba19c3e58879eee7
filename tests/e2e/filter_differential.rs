//! The same requests through an Envoy with the module and through one with gRPC ext_authz: clients get the same answers, and
//! the service gets the same requests.
//!
//! `DOORWARD_DIFFERENTIAL` is the number of requests, by default 2,000.

use std::{env, fs};

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::Value;

use crate::{
    front::{ADA, BOB, Front, basic, tampered},
    harness::{Envoy, EnvoyConfig, repository, send_bytes},
};

/// The number of concurrent requests; more would time out on two cores.
const AT_ONCE: usize = 16;

const METHODS: [&str; 12] = [
    "GET", "GET", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PROPFIND", "get", "Post",
    "M-SEARCH",
];

const HOSTS: [&str; 8] = [
    "x",
    "www.example",
    "internal.example",
    "a.internal.example:8443",
    "INTERNAL.example.",
    "a..b",
    "[::1]:80",
    "x,y",
];

const PATHS: [&str; 20] = [
    "/",
    "/healthz",
    "/healthz?x=1",
    "/profile",
    "/profile/",
    "/echo",
    "/admin/users",
    "/admin",
    "/Admin/users",
    "/login",
    "/logout",
    "/logout?all",
    "/login/x",
    "/a%20b",
    "/a.json",
    "/caf%C3%A9",
    "/x?y=//..;",
    "/%61dmin/users",
    "/things;v=1/x",
    "/a//b",
];

const HEADERS: [(&str, &str); 24] = [
    ("x-auth-user", "root"),
    ("X-Auth-Roles", "admin"),
    ("x-auth-admin", "true"),
    ("x_auth_user", "root"),
    ("x.auth.admin", "true"),
    ("accept", "application/json"),
    ("accept", "*/*"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "application/grpc"),
    ("content-type", "text/plain"),
    ("origin", "https://app.example"),
    ("access-control-request-method", "GET"),
    ("access-control-request-method", "PUT"),
    ("access-control-request-method", "post"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-for", "192.0.2.1, 192.0.2.2"),
    ("x-envoy-external-address", "192.0.2.9"),
    ("x-request-id", "mine"),
    ("cookie", "a=b"),
    ("connection", "x-auth-user"),
    ("te", "trailers"),
    ("x-envoy-original-path", "/healthz"),
    ("proxy-authorization", "Bearer x"),
];

/// A random request.
fn request(random: &mut fastrand::Rng, credentials: &[String], seeds: &[Vec<u8>]) -> Vec<u8> {
    fn any<'a, T: ?Sized>(random: &mut fastrand::Rng, of: &[&'a T]) -> &'a T {
        of[random.usize(..of.len())]
    }
    let method = any(random, &METHODS);
    let path = match random.u8(..4) {
        0 => any(random, &crate::paths::TRICKS).as_bytes().to_vec(),
        1 if !seeds.is_empty() => seeds[random.usize(..seeds.len())].clone(),
        _ => any(random, &PATHS).as_bytes().to_vec(),
    };
    let mut bytes = [method.as_bytes(), b" ", &path, b" HTTP/1.1\r\n"].concat();
    let mut add = |name: &str, value: &[u8]| {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    };
    add("host", any(random, &HOSTS).as_bytes());
    add("connection", b"close");
    for _ in 0..random.usize(..4) {
        let (name, value) = HEADERS[random.usize(..HEADERS.len())];
        if name != "connection" {
            add(name, value.as_bytes());
        }
    }
    let shown = match random.u8(..10) {
        0 => 0,
        1 => 2,
        _ => 1,
    };
    for _ in 0..shown {
        let value = match random.u8(..8) {
            0 if !seeds.is_empty() => seeds[random.usize(..seeds.len())].clone(),
            _ => credentials[random.usize(..credentials.len())]
                .clone()
                .into_bytes(),
        };
        add("authorization", &value);
    }
    if matches!(method, "POST" | "PUT") {
        let body = any(
            random,
            &[
                "",
                "{}",
                "{\"username\":\"bob\"}",
                "username=bob&password=",
                "x",
            ],
        );
        add("content-length", body.len().to_string().as_bytes());
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.as_bytes());
    } else {
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// After a malformed request, Envoy keeps the connection open for a second, so that the client can read the answer.
fn closing_at_once(config: EnvoyConfig) -> EnvoyConfig {
    let prefix = "stat_prefix: edge\n";
    config.replace(
        prefix,
        &format!("{prefix}                delayed_close_timeout: 0.02s\n"),
    )
}

/// An answer without the parts that differ between any two answers.
fn comparable(answer: &str) -> (String, Vec<String>, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default().to_owned();
    let mut headers: Vec<_> = lines
        .filter(|line| {
            let name = line.split(':').next().unwrap_or_default();
            !["date", "x-envoy-upstream-service-time", "content-length"].contains(&name)
        })
        .map(str::to_owned)
        .collect();
    headers.sort();
    let mut body: Value = serde_json::from_str(body).unwrap_or_else(|_| body.into());
    if let Some(pairs) = body.get_mut("headers").and_then(Value::as_array_mut) {
        pairs.retain(|pair| pair[0] != "x-request-id");
    }
    (status, headers, body)
}

/// Seeds of the fuzz targets that fit into one line, as paths and as credentials.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for target in ["path", "credential", "token"] {
        for entry in fs::read_dir(repository().join("fuzz/seeds").join(target)).unwrap() {
            let seed = fs::read(entry.unwrap().path()).unwrap();
            let is_line = !seed.is_empty() && seed.len() < 4000;
            if is_line && !seed.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                seeds.push(seed);
            }
        }
    }
    assert!(seeds.len() > 10, "{}", seeds.len());
    seeds
}

#[tokio::test(flavor = "multi_thread")]
async fn the_module_answers_as_ext_authz_does() {
    let wanted = env::var("DOORWARD_DIFFERENTIAL").map_or(2000, |text| text.parse().unwrap());
    let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
    let hosts = "
        [[route]]
        path = '/*'
        hosts = ['internal.example', '*.internal.example']
        allow = 'role:admin'
    ";
    let front = Front::open(
        Envoy::NEWEST,
        |settings| {
            settings
                .toml(format!("{rules}{hosts}"))
                .env("DOORWARD_CORS__ALLOW_PREFLIGHT", "true")
                .env("DOORWARD_PATHS__TOLERATE", "semicolon,double-slash");
        },
        |_| closing_at_once(EnvoyConfig::module().untouched()),
    )
    .await;
    let config = closing_at_once(EnvoyConfig::committed().untouched())
        .raw_headers()
        .free_ports()
        .doorward(front.doorward.grpc)
        .service(front.service.address);
    let asking = Envoy::start(Envoy::NEWEST, &config).await;
    let (ada, bob) = (front.bearer(ADA).await, front.bearer(BOB).await);
    let ended = front.bearer(BOB).await;
    let headers = [("authorization", &*ended)];
    assert_eq!(front.send("POST", "/logout", &headers).await.status, 200);
    let credentials = [
        ada.clone(),
        ada.to_lowercase(),
        bob.clone(),
        bob.replace("Bearer", "bearer"),
        tampered(&bob),
        ended,
        format!("{bob}, {ada}"),
        format!("{bob} "),
        "Bearer".into(),
        "Bearer  x".into(),
        "Basic !!!".into(),
        basic("", ""),
        "Negotiate abc".into(),
        "\u{fc}".into(),
    ];
    let seeds = seeds();
    let mut random = fastrand::Rng::with_seed(20_261_130);
    let requests = std::iter::repeat_with(|| request(&mut random, &credentials, &seeds));
    // A logout with a good token would revoke it for the second Envoy.
    let requests = requests.filter(|request| {
        let text = String::from_utf8_lossy(request);
        !(text.contains("/logout") && (text.contains(&ada[7..]) || text.contains(&bob[7..])))
    });
    let edges = [front.envoy.edge, asking.edge];
    let mut answers = stream::iter(requests.take(wanted))
        .map(async |request| {
            let [module, asked]: [String; 2] =
                join_all(edges.map(|edge| send_bytes(edge, &request)))
                    .await
                    .try_into()
                    .unwrap();
            (request, comparable(&module), comparable(&asked))
        })
        .buffer_unordered(AT_ONCE);
    let (mut passed, mut denied) = (0, 0);
    while let Some((request, module, asked)) = answers.next().await {
        let shown = String::from_utf8_lossy(&request);
        assert_eq!(module, asked, "\n{shown}");
        match module.0.split(' ').nth(1) {
            Some("200") => passed += 1,
            Some("401" | "403" | "400" | "405") => denied += 1,
            _ => {}
        }
    }
    assert!(
        passed > wanted / 20 && denied > wanted / 20,
        "{passed} passed, {denied} denied"
    );
}
