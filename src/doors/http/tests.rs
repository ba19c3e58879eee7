use std::{
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
};

use proptest::prelude::*;
use prost::Message as _;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

use super::*;
use crate::{
    actions::{
        equal_time::EqualTime,
        hashing::{HashPriority, Hashing, Line},
        run::{Actions, Learning},
    },
    domain::{
        account::{Identity, Roles, Username},
        decision::{LoginReply, Realm},
        identity_headers::IdentityHeaders,
        judge::Judge,
        keyring::Keyring,
        path::Tolerance,
        policy::{Demand, Policy, Rule},
        request::Host,
        revocation::Generation,
        token::{Secret, Signer, TokenTerms, UnixTime, Verifier},
        trust::{ClientAddress, Peer, TrustedProxies, Warned},
    },
    doors::{
        grpc,
        wire::envoy::service::auth::v3::{
            AttributeContext, CheckRequest, CheckResponse,
            attribute_context::{self, HttpRequest, http_request::HeadersEntry},
            check_response::HttpResponse,
        },
    },
    live::Live,
    login::{
        desk::Desk,
        enrolment::{NameRules, PasswordRules},
        fair_queue::Limits,
        password::Hasher,
        throttle::{Free, Throttle},
    },
    observe::{metrics::Metrics, request_log::Parent, spans::Spans},
    tables::{
        database::{Connections, Database},
        state::State,
        store::Store,
        sync,
        users::Users,
    },
};

const PROXY: Peer = Peer::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

/// All doors with one authorizer.
struct Doors {
    runtime: Runtime,
    http: Door,
    grpc: grpc::Door,
    plain: String,
    admin: String,
}

static DOORS: LazyLock<Doors> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let rule = |path: &str, methods: &[&str], hosts: &[&str], allow: &str| {
        let own = |list: &[&str]| {
            list.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        Rule::new(
            path,
            &own(methods),
            &own(hosts),
            Demand::parse(allow).unwrap(),
        )
        .unwrap()
    };
    let terms = TokenTerms {
        issuer: "doorward".into(),
        audience: "doorward".into(),
        lifetime: Duration::from_secs(3600),
        leeway: Duration::from_secs(30),
    };
    let secret = Secret::parse(Secret::generate().as_bytes()).unwrap();
    let keys = Keyring::of_secret(&secret, terms.lasts());
    let verifier = Verifier::of(&keys, terms.clone());
    let signer = Signer::new(Arc::new(keys), terms);
    let token = |roles: &str| {
        let identity = Identity {
            subject: "7".into(),
            username: Username::parse("ada").unwrap(),
            roles: Roles::parse_list(roles).unwrap(),
        };
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let token = signer
            .issue(
                &identity,
                Generation::default(),
                None,
                UnixTime(now.as_secs()),
            )
            .unwrap();
        format!("Bearer {}", token.expose())
    };
    let (plain, admin) = (token("editor"), token("admin"));
    let judge = Judge {
        policy: Policy::new(vec![
            rule("/*", &[], &[], "signed-in"),
            rule("/login", &[], &[], "login"),
            rule("/open/*", &[], &[], "public"),
            rule("/open/write/*", &["POST", "DELETE"], &[], "role:editor"),
            rule("/admin/*", &[], &[], "role:admin"),
            rule("/*", &[], &["internal.example"], "role:admin"),
            rule("/closed", &[], &[], "nobody"),
        ])
        .unwrap(),
        verifier,
        revoked: Arc::default(),
        forwards_bearer: true,
        allows_preflight: true,
    };
    let desk = Desk {
        hasher: Arc::new(Hasher::new().unwrap()),
        passwords: PasswordRules::default(),
        names: NameRules::default(),
        sessions: None,
        reply: LoginReply::Direct,
        signer,
    };
    let dir = tempfile::tempdir().unwrap().keep();
    let entered = runtime.enter();
    let database = Database::Sqlite(dir.join("users.db"));
    let connections = Connections::open(&database, 1, Duration::from_millis(10)).unwrap();
    let store = Store {
        users: Users::new(connections.clone(), None),
        state: State::new(connections),
        together: true,
    };
    let secret = Secret::parse(Secret::generate().as_bytes()).unwrap();
    let metrics = Metrics::default();
    let throttle = Arc::new(Throttle::new(
        Keyring::of_secret(&secret, Duration::ZERO)
            .seal()
            .unwrap()
            .clone(),
        Free {
            account: 5,
            address: 100,
            unknown: 1000,
        },
    ));
    let hashing = Hashing::new(1, HashPriority::Normal, || {}).unwrap();
    let limits = Limits {
        places: 1,
        memory: 19_456,
        entries: 1,
    };
    let authorizer = Authorizer::new(Actions {
        live: Live::new(Rules {
            counts: metrics.decisions(&judge.policy),
            judge,
            desk,
            realm: Realm::parse("doorward").unwrap(),
            tolerance: Tolerance::default(),
            identity: IdentityHeaders::default(),
            trusted: TrustedProxies::loopback(),
            client_address: ClientAddress::Peer,
            warned: Warned::default(),
        }),
        throttle: Arc::clone(&throttle),
        shares: sync::shares(store.clone()).0,
        store,
        grace: Duration::ZERO,
        register_roles: Roles::default(),
        line: Line::new(limits, throttle, Arc::clone(hashing.times())),
        hashing,
        equal_time: EqualTime::default(),
        learning: Learning::default(),
        spans: Spans::default(),
        metrics,
    });
    drop(entered);
    Doors {
        http: Door {
            authorizer: authorizer.clone(),
            endpoints: vec![Endpoint::Login, Endpoint::Logout].into(),
            sign_in: Some(HeaderValue::from_static("https://login.example/")),
            feed: None,
        },
        grpc: grpc::Door {
            authorizer,
            metadata: true,
        },
        runtime,
        plain,
        admin,
    }
});

/// A body that panics when it is read.
struct Panics;

impl hyper::body::Body for Panics {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        panic!("as a fault of Doorward would")
    }
}

#[test]
fn a_panic_is_answered() {
    let request = Request::post("/login")
        .header("content-type", "application/json")
        .body(Panics)
        .unwrap();
    let door = Arc::new(DOORS.http.clone());
    let service = door.service(PROXY, Peers::Trusted, InFlight::leak(1));
    let answer = DOORS.runtime.block_on(service.oneshot(request)).unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
}

#[derive(Clone, Debug)]
struct Question {
    method: String,
    host: String,
    target: String,
    headers: Vec<(String, String)>,
}

/// The answer to the gateway, in terms that all dialects share.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    challenge: Option<String>,
    identity: Option<Vec<String>>,
}

fn ask(target: &str, method: &str, headers: &[(String, String)]) -> Response<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::<Bytes>::default()).unwrap();
    DOORS.runtime.block_on(DOORS.http.answer(request, PROXY))
}

fn told(response: &Response<Full<Bytes>>) -> Told {
    let header = |name: &str| {
        let mut values = response.headers().get_all(name).iter();
        let value = values
            .next()
            .map(|value| value.to_str().unwrap().to_owned());
        assert!(values.next().is_none(), "{name} twice");
        value
    };
    let size: usize = response
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    assert!(
        size < 4096,
        "nginx has 4 KiB for the answer of a sub-request: {size}"
    );
    assert_eq!(header("cache-control").as_deref(), Some("no-store"));
    let identity = ["x-auth-user", "x-auth-roles", "x-auth-admin"].map(header);
    let status = response.status().as_u16();
    if status == 200 {
        assert!(hyper::body::Body::size_hint(response.body()).exact() == Some(0));
        assert!(
            identity
                .iter()
                .flatten()
                .filter(|value| !value.is_empty())
                .count()
                == 3
        );
    } else {
        assert!(identity.iter().flatten().next().is_none());
    }
    let known = identity[0].as_deref().is_some_and(|user| user != "-");
    Told {
        status: header("x-auth-status").map_or(status, |status| status.parse().unwrap()),
        challenge: header("www-authenticate"),
        identity: known.then(|| identity.into_iter().flatten().collect()),
    }
}

impl Question {
    fn with(&self, own: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = own
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        own.chain(self.headers.iter().cloned()).collect()
    }

    fn nginx_by_uri(&self) -> Vec<(String, String)> {
        self.with(&[
            ("x-original-method", &self.method),
            ("x-original-uri", &self.target),
            ("host", &self.host),
        ])
    }

    fn nginx_by_url(&self) -> Vec<(String, String)> {
        let url = format!("https://{}{}", self.host, self.target);
        self.with(&[
            ("x-original-method", &self.method),
            ("x-original-url", &url),
            ("host", "doorward.svc"),
        ])
    }

    fn forward(&self) -> Vec<(String, String)> {
        self.with(&[
            ("x-forwarded-method", &self.method),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", &self.host),
            ("x-forwarded-uri", &self.target),
            ("host", "doorward.svc"),
        ])
    }

    fn grpc(&self) -> Told {
        let http = HttpRequest {
            method: self.method.clone().into(),
            host: self.host.clone().into(),
            path: self.target.clone().into(),
            headers: self
                .with(&[(":path", &self.target)])
                .into_iter()
                .map(|(key, value)| HeadersEntry {
                    key: key.into(),
                    value: value.into(),
                })
                .collect(),
            ..HttpRequest::default()
        };
        let check = CheckRequest {
            attributes: Some(AttributeContext {
                source: None,
                request: Some(attribute_context::Request { http: Some(http) }),
            }),
        };
        let response = DOORS.runtime.block_on((DOORS.grpc).answer(
            &check.encode_to_vec(),
            Some(PROXY),
            Parent::default(),
        ));
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let response = CheckResponse::decode(response.message()).unwrap();
        match response.http_response.unwrap() {
            HttpResponse::OkResponse(ok) => Told {
                status: 200,
                challenge: None,
                identity: (!ok.headers.is_empty()).then(|| {
                    ok.headers
                        .iter()
                        .map(|o| text(&o.header.as_ref().unwrap().value))
                        .collect()
                }),
            },
            HttpResponse::DeniedResponse(denied) => Told {
                status: denied.status.unwrap().code.try_into().unwrap(),
                challenge: denied
                    .headers
                    .iter()
                    .filter_map(|option| option.header.as_ref())
                    .find(|header| header.key == "www-authenticate")
                    .map(|header| text(&header.value)),
                identity: None,
            },
        }
    }
}

fn any_question() -> impl Strategy<Value = Question> {
    let headers = prop::sample::select(vec![
        "none",
        "plain",
        "admin",
        "bad",
        "two",
        "joined",
        "basic",
        "foreign",
        "preflight",
    ]);
    let target = prop_oneof![
        prop::sample::select(vec![
            "/",
            "/login",
            "/login/",
            "/open",
            "/open/x?y=//",
            "/open/write/1",
            "/admin",
            "/admin/users",
            "/Admin",
            "/closed",
            "//admin",
            "/%61dmin",
            "/x/../admin",
            "/a%2fb",
            "/a;b",
            "/OPEN/x",
            "/a%20b",
            "/admin%3f",
        ])
        .prop_map(str::to_owned),
        "(/(open|admin|write|x|%2e|\\.\\.|A;b)){1,3}/?(\\?[a-z/;=]{0,5})?",
    ];
    (
        prop::sample::select(vec!["GET", "POST", "DELETE", "OPTIONS", "HEAD"]),
        prop::sample::select(vec![
            "a.example",
            "internal.example",
            "INTERNAL.example:8443",
            "127.0.0.1:80",
            "a_b",
        ]),
        target,
        headers,
    )
        .prop_map(|(method, host, target, shown)| {
            let one = |value: &str| vec![("authorization".to_owned(), value.to_owned())];
            let (plain, admin) = (&*DOORS.plain, &*DOORS.admin);
            let headers = match shown {
                "none" => Vec::new(),
                "plain" => one(plain),
                "admin" => one(admin),
                "bad" => one(&format!("{plain}x")),
                "two" => [one(plain), one(admin)].concat(),
                "joined" => one(&format!("{plain},{admin}")),
                "basic" => one("Basic !"),
                "foreign" => one("Digest x"),
                _ => vec![
                    ("origin".to_owned(), "https://app.example".to_owned()),
                    (
                        "access-control-request-method".to_owned(),
                        "POST".to_owned(),
                    ),
                ],
            };
            Question {
                method: method.into(),
                host: host.into(),
                target,
                headers,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_same_question_gets_the_same_answer_at_every_door(question in any_question()) {
        let mut expected = question.grpc();
        // Only the gRPC door accepts a login; a sub-request gets the answer that a token is required. The rule of a host
        // comes before the rule for logins, which names none.
        let has_own_rule = question.host.to_ascii_lowercase().starts_with("internal.example");
        if question.method == "POST" && question.target == "/login" && !has_own_rule {
            expected = Told {
                status: 401,
                challenge: Some("Basic realm=\"doorward\", charset=\"UTF-8\"".into()),
                identity: None,
            };
        }
        for (door, headers) in [
            ("/auth/nginx", question.nginx_by_uri()),
            ("/auth/forward", question.forward()),
        ] {
            for method in ["GET", "HEAD", "POST"] {
                let response = ask(door, method, &headers);
                if door == "/auth/nginx" {
                    prop_assert!(matches!(response.status().as_u16(), 200 | 401 | 403));
                    prop_assert!(response.status() != 401 || response.headers().contains_key("x-auth-sign-in"));
                }
                prop_assert_eq!(&told(&response), &expected, "{} {:?}", door, headers);
            }
        }
        // The URL leads to the same decision, except for the host.
        if Host::parse(question.host.as_bytes()).is_some() {
            let expected = RequestLine {
                method: question.method.as_bytes(),
                host: b"",
                target: question.target.as_bytes(),
            };
            let request = with_headers(&question.nginx_by_url());
            let line = Dialect::Nginx.line(&request).unwrap();
            prop_assert_eq!(parts(line), parts(expected));
        }
        let target = format!("/auth/envoy{}", question.target);
        let response = ask(&target, &question.method, &question.with(&[("host", &question.host)]));
        prop_assert_eq!(&told(&response), &expected, "{}", target);
        let removes = response.headers().get("x-envoy-auth-headers-to-remove");
        prop_assert_eq!(response.status() == 200, removes.is_some());
    }

    #[test]
    fn every_question_is_answered(
        names in prop::collection::vec(prop::sample::select(vec![
            "x-original-method", "x-original-uri", "x-original-url", "x-forwarded-method", "x-forwarded-proto",
            "x-forwarded-host", "x-forwarded-uri", "authorization", "host",
        ]), 0..9),
        values in prop::collection::vec("[ -~]{0,20}", 9),
        path in prop::sample::select(vec!["/auth/nginx", "/auth/forward", "/auth/envoy/x", "/validate"]),
    ) {
        let headers: Vec<_> = names.into_iter().map(str::to_owned).zip(values).collect();
        let response = ask(path, "GET", &headers);
        prop_assert_ne!(response.status(), 500);
        let anonymous = response.headers().get("x-auth-user").is_none_or(|user| user == "-");
        prop_assert!(anonymous);
    }
}

fn status(path: &str, headers: &[(&str, &str)]) -> u16 {
    let headers: Vec<_> = headers
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    ask(path, "GET", &headers).status().as_u16()
}

#[test]
fn a_dialect_header_that_is_missing_doubled_or_malformed_is_a_denial() {
    let plain = &*DOORS.plain;
    let good = [
        ("authorization", plain),
        ("x-original-method", "GET"),
        ("x-original-uri", "/x"),
        ("host", "a.example"),
    ];
    assert_eq!(status("/auth/nginx", &good), 200);
    for broken in [
        &good[..1],
        &good[..2],
        &[good[0], good[2], good[3]][..],
        &[good[0], good[1], good[1], good[2], good[3]],
        &[good[0], good[1], good[2], good[2], good[3]],
        &[good[0], good[1], ("x-original-uri", ""), good[3]],
        &[good[0], ("x-original-method", "G T"), good[2], good[3]],
        &[
            good[0],
            good[1],
            good[2],
            ("x-original-url", "http://a.example/y"),
            good[3],
        ],
        &[
            good[0],
            good[1],
            ("x-original-url", "ftp://a.example/x"),
            good[3],
        ],
        &[
            good[0],
            good[1],
            ("x-original-url", "http://a.example"),
            good[3],
        ],
        &[
            good[0],
            good[1],
            ("x-original-url", "http://a?b=/x"),
            good[3],
        ],
        &[good[0], good[1], ("x-original-url", "http://a#/x"), good[3]],
    ] {
        assert_eq!(status("/auth/nginx", broken), 403, "{broken:?}");
    }
    let good = [
        ("authorization", plain),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
        ("x-forwarded-uri", "/x"),
    ];
    assert_eq!(status("/auth/forward", &good), 200);
    for (index, header) in good.iter().enumerate().skip(1) {
        let mut missing = good.to_vec();
        missing.remove(index);
        assert_eq!(status("/auth/forward", &missing), 400, "{missing:?}");
        let mut doubled = good.to_vec();
        doubled.push(*header);
        assert_eq!(status("/auth/forward", &doubled), 400, "{doubled:?}");
    }
    assert_eq!(
        status(
            "/auth/forward",
            &[
                good[0],
                good[1],
                ("x-forwarded-proto", "https, http"),
                good[3],
                good[4]
            ]
        ),
        400
    );
    assert_eq!(status("/auth/envoy/x", &[("authorization", plain)]), 400);
    assert_eq!(
        status(
            "/auth/envoy/x",
            &[("authorization", plain), ("host", "a.example")]
        ),
        200
    );
}

/// For a request line without a host, nginx sends `http:///admin`, in which a URL library would read "admin" as the
/// host.
#[test]
fn an_original_url_is_cut_and_not_parsed() {
    let read = |url: &str| {
        let request = with_headers(&[("x-original-method", "GET"), ("x-original-url", url)]);
        let line = Dialect::Nginx.line(&request).ok()?;
        let [_, host, target] = parts(line);
        assert!(host.is_empty());
        Some(String::from_utf8(target.to_vec()).unwrap())
    };
    for (url, target) in [
        ("http://a.example/open", "/open"),
        ("http:///admin", "/admin"),
        ("https://a.example:8080//x?y#z", "//x?y#z"),
    ] {
        assert_eq!(read(url).as_deref(), Some(target), "{url}");
    }
    for url in [
        "http://open@a.example/x",
        "http://a?b=/x",
        "http://a#/x",
        "http://a..",
        "x",
    ] {
        assert_eq!(read(url), None, "{url}");
    }
}

/// ingress-nginx sends it with every sub-request, and a client that adds it gains nothing.
#[test]
fn where_an_original_url_comes_no_host_is_believed() {
    let plain = &*DOORS.plain;
    let question = [
        ("authorization", plain),
        ("x-original-method", "GET"),
        ("x-original-uri", "/x"),
        ("host", "a.example"),
    ];
    assert_eq!(status("/auth/nginx", &question), 200);
    for url in [
        "http://a.example/x",
        "http://internal.example/x",
        "http:///x",
    ] {
        for question in [&question[..], &question[..2]] {
            let question = [question, &[("x-original-url", url)]].concat();
            assert_eq!(status("/auth/nginx", &question), 403, "{question:?}");
        }
    }
}

fn with_headers<S: AsRef<str>>(headers: &[(S, S)]) -> Request<()> {
    let mut request = Request::get("/auth/nginx");
    for (name, value) in headers {
        request = request.header(name.as_ref(), value.as_ref());
    }
    request.body(()).unwrap()
}

fn parts(line: RequestLine<'_>) -> [&[u8]; 3] {
    [line.method, line.host, line.target]
}

/// Gateways that cannot remove a header on request replace the client's header by that of the answer.
#[test]
fn a_pass_repeats_the_authorization_that_may_travel_on() {
    let plain = &*DOORS.plain;
    let touched = format!("{plain}x");
    let question = Question {
        method: "GET".into(),
        host: "a.example".into(),
        target: "/open".into(),
        headers: Vec::new(),
    };
    for (shown, travels) in [
        (&[][..], false),
        (&[plain], true),
        (&["bearer of-a-service"], true),
        (&[&*touched], false),
        (&["Basic YTpi"], false),
        (&["Digest x"], false),
        (&["Bearer a b"], false),
    ] {
        let values = shown
            .iter()
            .map(|value| ("authorization".to_owned(), (*value).to_owned()));
        let question = Question {
            headers: values.collect(),
            ..question.clone()
        };
        for (door, headers) in [
            ("/auth/nginx", question.nginx_by_uri()),
            ("/auth/forward", question.forward()),
        ] {
            let response = ask(door, "GET", &headers);
            assert_eq!(response.status(), 200, "{door} {shown:?}");
            let repeated = response.headers().get("authorization");
            let repeated = repeated.map(|value| value.to_str().unwrap());
            let expected = travels.then(|| shown[0]);
            assert_eq!(repeated, expected, "{door} {shown:?}");
        }
        let headers = question.with(&[("host", &question.host)]);
        let response = ask("/auth/envoy/open", "GET", &headers);
        assert!(response.headers().get("authorization").is_none());
        let removed = response.headers()["x-envoy-auth-headers-to-remove"].to_str();
        let is_removed = removed.unwrap().ends_with(", authorization");
        assert_eq!(is_removed, !travels && !shown.is_empty(), "{shown:?}");
    }
}

#[test]
fn nobody_but_a_gateway_of_ours_is_answered() {
    let stranger = Peer::Address("192.0.2.1".parse().unwrap());
    for path in ["/auth/nginx", "/auth/forward", "/auth/envoy/open"] {
        let request = Request::get(path)
            .header("host", "a")
            .body(Full::<Bytes>::default())
            .unwrap();
        let response = DOORS.runtime.block_on(DOORS.http.answer(request, stranger));
        assert_eq!(response.status(), 403, "{path}");
    }
    for peer in [Some(stranger), None] {
        let answer = DOORS
            .runtime
            .block_on(DOORS.grpc.answer(b"", peer, Parent::default()));
        let answer = CheckResponse::decode(answer.message()).unwrap();
        assert_ne!(answer.status.unwrap().code, 0);
    }
}
