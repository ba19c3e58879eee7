//! What the door reads of a check.

use super::*;
use crate::domain::{credential::Credential, path::PathFault};

fn request(http: &HttpRequest) -> Request<'_> {
    decode(http, Tolerance::default(), IdentityHeaders::default())
        .0
        .unwrap()
}

#[test]
fn headers_are_read_from_either_field() {
    let plain = check(&[("authorization", b"Bearer a.b.c"), ("x-request-id", b"r1")]);
    let mut mapped = check(&[]);
    mapped.header_map = Some(HeaderMap {
        headers: vec![
            raw("Authorization", b"Bearer a.b.c"),
            raw("x-request-id", b"r1"),
        ],
    });
    for http in [&plain, &mapped] {
        let (read, extra) = decode(http, Tolerance::default(), IdentityHeaders::default());
        let read = read.unwrap();
        assert!(matches!(read.credential, Credential::Bearer(token) if token.expose() == "a.b.c"));
        assert_eq!(
            (read.method.as_str(), read.host.name(), read.path.as_str()),
            ("POST", Some("gateway.example"), "/a")
        );
        assert_eq!(extra.request_id, "r1");
    }
    mapped.headers = vec![entry("authorization", b"Bearer forged")];
    assert!(
        matches!(request(&mapped).credential, Credential::Bearer(token) if token.expose() == "a.b.c")
    );
}

#[test]
fn two_credentials_are_malformed_in_either_field() {
    let malformed =
        |http: &HttpRequest| matches!(request(http).credential, Credential::Malformed(_));
    assert!(malformed(&check(&[(
        "authorization",
        b"Bearer a,Bearer b"
    )])));
    assert!(malformed(&check(&[
        ("authorization", b"Bearer a"),
        ("Authorization", b"Bearer b")
    ])));
    let mut mapped = check(&[]);
    mapped.header_map = Some(HeaderMap {
        headers: vec![
            raw("authorization", b"Bearer a"),
            raw("authorization", b"Bearer b"),
        ],
    });
    assert!(malformed(&mapped));
}

#[test]
fn bytes_that_are_not_utf8_get_a_denial_and_not_an_error() {
    let mut http = check(&[("authorization", b"Bearer \xff"), ("x-\u{e9}", b"\xff")]);
    assert!(matches!(
        request(&http).credential,
        Credential::Malformed(_)
    ));
    http.path = Bytes::from_static(b"/\xff");
    let fault = decode(&http, Tolerance::default(), IdentityHeaders::default())
        .0
        .unwrap_err();
    assert_eq!(fault, RequestFault::Path(PathFault::Character));
    // attributes { request { http { path: "/\xff" } } }
    let message = [0x0a, 0x08, 0x22, 0x06, 0x12, 0x04, 0x22, 0x02, b'/', 0xff];
    let check = CheckView::read(&message).unwrap();
    assert_eq!(check.http().unwrap().path, b"/\xff");
}

#[test]
fn a_body_is_used_only_if_it_is_json_and_complete() {
    let with = |headers: &[(&str, &[u8])], body: &'static str| {
        let mut http = check(headers);
        http.body = body.into();
        format!("{:?}", request(&http).body)
    };
    let json: (&str, &[u8]) = ("content-type", b"application/json; charset=utf-8");
    assert_eq!(with(&[json], "{}"), "Json(..)");
    assert_eq!(
        with(&[json, ("x-envoy-auth-partial-body", b"false")], "{}"),
        "Json(..)"
    );
    assert_eq!(
        with(&[json, ("x-envoy-auth-partial-body", b"true")], "{}"),
        "Partial"
    );
    assert_eq!(with(&[json], ""), "Absent");
    assert_eq!(with(&[], "{}"), "Absent");
}

#[test]
fn a_preflight_is_options_with_both_cors_headers() {
    let with = |method: &'static str, headers: &[(&str, &[u8])]| {
        let mut http = check(headers);
        http.method = method.into();
        request(&http).preflight.is_some()
    };
    let origin: (&str, &[u8]) = ("origin", b"https://app.example");
    let announced: (&str, &[u8]) = ("access-control-request-method", b"PUT");
    assert!(with("OPTIONS", &[origin, announced]));
    assert!(!with("OPTIONS", &[origin]));
    assert!(!with("OPTIONS", &[announced]));
    assert!(!with("GET", &[origin, announced]));
}

#[test]
fn a_single_value_header_is_refused_if_repeated() {
    for name in ["content-type", "origin", "access-control-request-method"] {
        let http = check(&[(name, b"a"), (name, b"b")]);
        assert_eq!(
            decode(&http, Tolerance::default(), IdentityHeaders::default())
                .0
                .unwrap_err(),
            RequestFault::DoubledHeader
        );
    }
}

#[test]
fn request_ids_cannot_forge_log_lines() {
    let http = check(&[("x-request-id", b"a\nb")]);
    assert_eq!(
        decode(&http, Tolerance::default(), IdentityHeaders::default())
            .1
            .request_id,
        ""
    );
}
