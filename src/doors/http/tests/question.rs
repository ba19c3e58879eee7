//! One request in every dialect, and the answers in a form that all dialects share.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};
use proptest::prelude::*;
use prost::Message as _;

use super::doors::{DOORS, PROXY};
use crate::{
    doors::wire::envoy::{
        config::core::v3::HeaderValueOption,
        service::auth::v3::{
            AttributeContext, CheckRequest, CheckResponse,
            attribute_context::{self, HttpRequest, http_request::HeadersEntry},
            check_response::HttpResponse,
        },
    },
    observe::request_log::Parent,
};

#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) method: String,
    pub(super) host: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
}

/// The answer to the gateway, in terms that all dialects share.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) status: u16,
    pub(super) challenge: Option<String>,
    pub(super) identity: Option<Vec<String>>,
    /// Where a browser is sent.
    pub(super) redirect: Option<String>,
    /// What the service gets of `Cookie`, if the request passes.
    pub(super) cookies: Option<String>,
}

pub(super) fn ask(
    target: &str,
    method: &str,
    headers: &[(String, String)],
) -> Response<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::<Bytes>::default()).unwrap();
    DOORS.runtime.block_on(DOORS.http.answer(request, PROXY))
}

pub(super) fn told(question: &Question, response: &Response<Full<Bytes>>) -> Told {
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
    let own_status = header("x-auth-status").map_or(status, |status| status.parse().unwrap());
    // Envoy says which headers go, and forwards the others. The other gateways forward what the answer has.
    let cookies = match (status, header("x-envoy-auth-headers-to-remove")) {
        (200, Some(removed)) if removed.split(", ").all(|name| name != "cookie") => {
            header("cookie").or_else(|| question.cookies())
        }
        (200, _) => header("cookie"),
        _ => None,
    };
    Told {
        status: own_status,
        challenge: header("www-authenticate"),
        identity: known.then(|| identity.into_iter().flatten().collect()),
        redirect: (own_status == 303)
            .then(|| header("location").or_else(|| header("x-auth-sign-in")))
            .flatten(),
        cookies,
    }
}

impl Question {
    pub(super) fn with(&self, own: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = own
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        own.chain(self.headers.iter().cloned()).collect()
    }

    /// All cookies that the client sent.
    fn cookies(&self) -> Option<String> {
        let all = self.headers.iter().filter(|(name, _)| name == "cookie");
        let values: Vec<_> = all.map(|(_, value)| &**value).collect();
        (!values.is_empty()).then(|| values.join("; "))
    }

    pub(super) fn nginx_by_uri(&self) -> Vec<(String, String)> {
        self.with(&[
            ("x-original-method", &self.method),
            ("x-original-uri", &self.target),
            ("host", &self.host),
        ])
    }

    pub(super) fn nginx_by_url(&self) -> Vec<(String, String)> {
        let url = format!("https://{}{}", self.host, self.target);
        self.with(&[
            ("x-original-method", &self.method),
            ("x-original-url", &url),
            ("host", "doorward.svc"),
        ])
    }

    pub(super) fn forward(&self) -> Vec<(String, String)> {
        self.with(&[
            ("x-forwarded-method", &self.method),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", &self.host),
            ("x-forwarded-uri", &self.target),
            ("host", "doorward.svc"),
        ])
    }

    pub(super) fn grpc(&self) -> Told {
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
        let header = |all: &[HeaderValueOption], name: &str| {
            let mut all = all.iter().filter_map(|option| option.header.as_ref());
            let found = all.find(|header| header.key == name);
            found.map(|header| text(&header.value))
        };
        let response = CheckResponse::decode(response.message()).unwrap();
        match response.http_response.unwrap() {
            HttpResponse::OkResponse(ok) => Told {
                status: 200,
                challenge: None,
                identity: {
                    let set = ok.headers.iter().map(|own| own.header.as_ref().unwrap());
                    // The name of a key and the cookies come after them.
                    let others = ["x-auth-key", "cookie"];
                    let identity = set.filter(|header| others.iter().all(|own| header.key != *own));
                    let values: Vec<_> = identity.map(|header| text(&header.value)).collect();
                    (!values.is_empty()).then_some(values)
                },
                redirect: None,
                cookies: {
                    let mut set = ok.headers.iter().filter_map(|own| own.header.as_ref());
                    match set.find(|header| header.key == "cookie") {
                        Some(header) => Some(text(&header.value)),
                        None if ok.headers_to_remove.iter().any(|name| *name == "cookie") => None,
                        None => self.cookies(),
                    }
                },
            },
            HttpResponse::DeniedResponse(denied) => Told {
                status: denied.status.unwrap().code.try_into().unwrap(),
                challenge: header(&denied.headers, "www-authenticate"),
                identity: None,
                redirect: header(&denied.headers, "location"),
                cookies: None,
            },
        }
    }
}

pub(super) fn any_question() -> impl Strategy<Value = Question> {
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
        "key",
        "admin-key",
        "bad-key",
        "key-as-password",
        "password",
        "token-and-key",
        "cookie",
        "admin-cookie",
        "bad-cookie",
        "token-in-cookie",
        "two-cookies",
        "two-cookie-headers",
        "foreign-cookies",
        "token-and-cookie",
        "key-and-cookie",
        "basic-and-cookie",
    ]);
    let browser = prop::sample::select(vec![
        &[][..],
        &[("sec-fetch-mode", "navigate"), ("sec-fetch-site", "none")],
        &[
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-site", "same-origin"),
        ],
        &[
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-site", "cross-site"),
        ],
        &[("accept", "text/html"), ("origin", "https://a.example")],
        &[("origin", "https://evil.example")],
        &[("upgrade", "websocket"), ("sec-websocket-version", "13")],
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
            "/repo/x",
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
        browser,
    )
        .prop_map(|(method, host, target, shown, browser)| {
            let one = |value: &str| vec![("authorization".to_owned(), value.to_owned())];
            let (plain, admin) = (&*DOORS.plain, &*DOORS.admin);
            let (key, admin_key) = (&DOORS.plain_key, &DOORS.admin_key);
            let basic = |password: &str| {
                let pair = BASE64_STANDARD.encode(format!("git:{password}"));
                one(&format!("Basic {pair}"))
            };
            let cookie = |value: &str| vec![("cookie".to_owned(), value.to_owned())];
            let (own, admin_own) = (&*DOORS.plain_cookie, &*DOORS.admin_cookie);
            let mut headers = match shown {
                "cookie" => cookie(own),
                "admin-cookie" => cookie(&format!("a=1; {admin_own}; b=2")),
                "bad-cookie" => cookie(&format!("a=1; {own}x")),
                "token-in-cookie" => cookie(&plain.replace("Bearer ", "__Host-doorward=")),
                "two-cookies" => cookie(&format!("{own}; {admin_own}; a=1")),
                "two-cookie-headers" => [cookie(own), cookie("a=1")].concat(),
                "foreign-cookies" => [cookie("a=1; b=2"), cookie("c=3")].concat(),
                "token-and-cookie" => [one(plain), cookie(admin_own)].concat(),
                "key-and-cookie" => [one(&format!("Bearer {key}")), cookie(admin_own)].concat(),
                "basic-and-cookie" => [basic("builder-of-things"), cookie(admin_own)].concat(),
                "none" => Vec::new(),
                "plain" => one(plain),
                "admin" => one(admin),
                "bad" => one(&format!("{plain}x")),
                "two" => [one(plain), one(admin)].concat(),
                "joined" => one(&format!("{plain},{admin}")),
                "basic" => one("Basic !"),
                "foreign" => one("Digest x"),
                "key" => one(&format!("Bearer {key}")),
                "admin-key" => one(&format!("Bearer {admin_key}")),
                "bad-key" => one(&format!("Bearer {key}x")),
                "key-as-password" => basic(key),
                "password" => basic("builder-of-things"),
                "token-and-key" => [one(plain), one(&format!("Bearer {key}"))].concat(),
                _ => vec![
                    ("origin".to_owned(), "https://app.example".to_owned()),
                    (
                        "access-control-request-method".to_owned(),
                        "POST".to_owned(),
                    ),
                ],
            };
            let browser = browser
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()));
            headers.extend(browser);
            Question {
                method: method.into(),
                host: host.into(),
                target,
                headers,
            }
        })
}
