mod doors;
mod question;

use proptest::prelude::*;
use prost::Message as _;
use tower::ServiceExt as _;

use self::{
    doors::{DOORS, PROXY},
    question::{Question, Told, any_question, ask, told},
};
use super::*;
use crate::{
    domain::request::{Host, RequestFault},
    doors::wire::envoy::service::auth::v3::CheckResponse,
};

/// A body that panics when it is read.
struct Panics;

impl hyper::body::Body for Panics {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        panic!("a simulated bug")
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
                redirect: None,
                cookies: None,
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
                prop_assert_eq!(&told(&question, &response), &expected, "{} {:?}", door, headers);
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
        prop_assert_eq!(&told(&question, &response), &expected, "{}", target);
        let removes = response.headers().get("x-envoy-auth-headers-to-remove");
        prop_assert_eq!(response.status() == 200, removes.is_some());
    }

    #[test]
    fn arbitrary_headers_give_no_500_and_no_identity(
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

/// Cookies change the answers that the property above compares. It would also hold if every door ignored cookies.
#[test]
fn a_cookie_lets_a_browser_in_and_without_one_it_is_sent_to_the_form() {
    let ask = |headers: &[(&str, &str)]| {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let question = Question {
            method: "GET".into(),
            host: "a.example".into(),
            target: "/x?y".into(),
            headers: headers.iter().map(own).collect(),
        };
        question.grpc()
    };
    let navigates = ("sec-fetch-mode", "navigate");
    let sent = ask(&[navigates]);
    let form = "/sign-in?return=/x%3Fy";
    assert_eq!((sent.status, sent.redirect.as_deref()), (303, Some(form)));
    let cookies = format!("a=1; {}", DOORS.plain_cookie);
    let passed = ask(&[navigates, ("cookie", &cookies)]);
    assert_eq!(
        (passed.status, passed.cookies.as_deref()),
        (200, Some("a=1"))
    );
    assert!(passed.identity.is_some());
    let alone = ask(&[("cookie", &DOORS.plain_cookie)]);
    assert_eq!((alone.status, alone.cookies), (200, None));
}

fn status(path: &str, headers: &[(&str, &str)]) -> u16 {
    let headers: Vec<_> = headers
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    ask(path, "GET", &headers).status().as_u16()
}

#[test]
fn a_missing_repeated_or_malformed_dialect_header_is_denied() {
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

/// Traefik forwards `X-Original-*` of the client, so that the client would describe its own request.
#[test]
fn traefik_is_refused_at_the_path_of_nginx() {
    let nginx = [
        ("authorization", &*DOORS.plain),
        ("x-original-method", "GET"),
        ("x-original-uri", "/x"),
        ("host", "a.example"),
    ];
    let forward = [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
        ("x-forwarded-uri", "/x"),
    ];
    assert_eq!(status("/auth/nginx", &nginx), 200);
    let both = [&nginx[..], &forward].concat();
    assert_eq!(status("/auth/nginx", &both), 403);
    let refused = with_headers(&both);
    let line = Dialect::Nginx.line(&refused);
    assert!(matches!(line, Err(RequestFault::TwoOriginals)));
}

/// ingress-nginx sends `X-Original-URL` with every sub-request; a client that adds it gains nothing.
#[test]
fn no_host_is_trusted_if_an_original_url_arrives() {
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
fn a_200_repeats_the_authorization_that_the_service_may_see() {
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
fn only_trusted_gateways_are_answered() {
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
