//! One request in every dialect, and the answers in a form that all dialects share.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};
use proptest::prelude::*;
use prost::Message as _;

use super::doors::{DOORS, PROXY};
use crate::{
    doors::wire::envoy::service::auth::v3::{
        AttributeContext, CheckRequest, CheckResponse,
        attribute_context::{self, HttpRequest, http_request::HeadersEntry},
        check_response::HttpResponse,
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

pub(super) fn told(response: &Response<Full<Bytes>>) -> Told {
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
    pub(super) fn with(&self, own: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = own
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        own.chain(self.headers.iter().cloned()).collect()
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
        let response = CheckResponse::decode(response.message()).unwrap();
        match response.http_response.unwrap() {
            HttpResponse::OkResponse(ok) => Told {
                status: 200,
                challenge: None,
                identity: (!ok.headers.is_empty()).then(|| {
                    let set = ok.headers.iter().map(|own| own.header.as_ref().unwrap());
                    // The name of a key comes after them.
                    let identity = set.filter(|header| header.key != "x-auth-key");
                    identity.map(|header| text(&header.value)).collect()
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
    )
        .prop_map(|(method, host, target, shown)| {
            let one = |value: &str| vec![("authorization".to_owned(), value.to_owned())];
            let (plain, admin) = (&*DOORS.plain, &*DOORS.admin);
            let (key, admin_key) = (&DOORS.plain_key, &DOORS.admin_key);
            let basic = |password: &str| {
                let pair = BASE64_STANDARD.encode(format!("git:{password}"));
                one(&format!("Basic {pair}"))
            };
            let headers = match shown {
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
            Question {
                method: method.into(),
                host: host.into(),
                target,
                headers,
            }
        })
}
