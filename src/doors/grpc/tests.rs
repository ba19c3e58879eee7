mod decisions;
mod properties;
mod reading;

use std::time::Duration;

use http_body_util::Full;
use prost::Message as _;

use super::*;
use crate::{
    domain::{
        account::{Identity, Roles, Username},
        cookie::CookieEdit,
        decision::{By, Issued},
        identity_headers::{IdentityNames, Likeness},
        keyring::Keyring,
        request::TokenForm,
        revocation::Generation,
        token::{Secret, Signer, TokenTerms, UnixTime},
    },
    doors::wire::envoy::{
        config::core::v3::{HeaderMap, HeaderValue},
        service::auth::v3::{
            CheckResponse, OkHttpResponse,
            attribute_context::{HttpRequest, http_request::HeadersEntry},
            check_response::HttpResponse,
        },
    },
};

fn entry(key: &str, value: &[u8]) -> HeadersEntry {
    HeadersEntry {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value),
    }
}

fn raw(key: &str, value: &[u8]) -> HeaderValue {
    HeaderValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::new(),
        raw_value: Bytes::copy_from_slice(value),
    }
}

fn check(headers: &[(&str, &[u8])]) -> HttpRequest {
    HttpRequest {
        method: "POST".into(),
        path: "/a?b".into(),
        host: "gateway.example:80".into(),
        headers: headers
            .iter()
            .map(|(key, value)| entry(key, value))
            .collect(),
        ..HttpRequest::default()
    }
}

fn decode<'a>(
    http: &'a HttpRequest,
    tolerance: Tolerance,
    identity: IdentityHeaders,
) -> (Result<Request<'a>, RequestFault>, Extra<'a>) {
    super::decode(&HttpView::from(http), tolerance, identity)
}

fn identity() -> Identity {
    Identity {
        subject: "7".into(),
        username: Username::parse("jos\u{e9}").unwrap(),
        roles: Roles::parse_list("editor").unwrap(),
    }
}

fn allow(caller: Caller, authorization: Forwarding) -> Decision {
    Decision::Allow(Admission {
        caller,
        authorization,
        cookies: CookieEdit::Keep,
        renewal: None,
        set_cookie: None,
        assertion: None,
    })
}

fn realm() -> Realm {
    Realm::parse("doorward").unwrap()
}

/// The answer, decoded by prost.
fn encode(decision: &Decision, extra: &Extra<'_>, realm: &Realm) -> CheckResponse {
    CheckResponse::decode(super::encode(decision, extra, realm, b"").message()).unwrap()
}

fn ok_response(response: CheckResponse) -> OkHttpResponse {
    assert_eq!(response.status.unwrap().code, 0);
    match response.http_response.unwrap() {
        HttpResponse::OkResponse(ok) => ok,
        HttpResponse::DeniedResponse(_) => panic!("denied"),
    }
}

fn identity_headers(custom: bool) -> IdentityHeaders {
    let names = ["remote_user", "xroles", "x-is-admin"].map(str::to_owned);
    match custom {
        true => IdentityHeaders::keep(IdentityNames::parse(&names).unwrap()),
        false => IdentityHeaders::default(),
    }
}

#[test]
fn identity_headers_are_overwritten_or_removed_but_never_both() {
    for identity_headers in [false, true].map(identity_headers) {
        let names = identity_headers.names();
        let upper = names[0].to_ascii_uppercase();
        let mut http = check(&[(&*upper, b"root"), (names[0], b"root"), (":path", b"/a")]);
        let (request, extra) = decode(&http, Tolerance::default(), identity_headers);
        assert!(request.is_ok());
        let known = allow(
            Caller::Known(Arc::new(Principal::new(identity()))),
            Forwarding::Keep,
        );
        let ok = ok_response(encode(&known, &extra, &realm()));
        let set: Vec<_> = ok
            .headers
            .iter()
            .map(|option| {
                assert_eq!(option.append, Some(false));
                assert_eq!(option.append_action, 2);
                let header = option.header.as_ref().unwrap();
                (
                    str::from_utf8(&header.key).unwrap(),
                    str::from_utf8(&header.value).unwrap(),
                )
            })
            .collect();
        let values = ["jos%C3%A9", "editor", "false"];
        assert_eq!(set, names.into_iter().zip(values).collect::<Vec<_>>());
        assert!(ok.headers_to_remove.is_empty());

        let anonymous = allow(Caller::Anonymous, Forwarding::Strip);
        let ok = ok_response(encode(&anonymous, &extra, &realm()));
        assert!(ok.headers.is_empty());
        let [user, roles, admin] = names;
        assert_eq!(ok.headers_to_remove, [user, roles, admin, "authorization"]);

        // A filter that sends some headers only may hide aliases, so the common ones are removed.
        http.headers.pop();
        let (_, extra) = decode(&http, Tolerance::default(), identity_headers);
        let ok = ok_response(encode(&known, &extra, &realm()));
        assert_eq!(ok.headers_to_remove, identity_headers.common_aliases());
        for name in &ok.headers_to_remove {
            assert_eq!(identity_headers.likeness(name), Likeness::Alias);
        }
    }
}

#[test]
fn an_alias_of_an_identity_header_is_refused_in_either_field() {
    for (custom, alias) in [
        (false, "x~auth~user"),
        (false, "X_Auth-Roles"),
        (false, "x-auth'admin"),
        (true, "REMOTE-USER"),
        (true, "x-is|admin"),
    ] {
        let plain = check(&[("authorization", b"Bearer a.b.c"), (alias, b"root")]);
        let mut mapped = check(&[]);
        mapped.header_map = Some(HeaderMap {
            headers: vec![raw(alias, b"root")],
        });
        for http in [&plain, &mapped] {
            let judged = |custom| {
                decode(http, Tolerance::default(), identity_headers(custom))
                    .0
                    .err()
            };
            assert_eq!(judged(custom), Some(RequestFault::AliasedHeader), "{alias}");
            assert_eq!(judged(!custom), None, "{alias}");
        }
    }
}

fn issued(reply: LoginReply, form: TokenForm) -> Decision {
    let terms = TokenTerms {
        issuer: "doorward".into(),
        audience: "doorward".into(),
        lifetime: Duration::from_secs(3600),
        leeway: Duration::ZERO,
    };
    let secret = Secret::parse(b"f3b1c2d4e5a60718293a4b5c6d7e8f90").unwrap();
    let keys = Keyring::of_secret(&secret, terms.lasts());
    let token = Signer::new(Arc::new(keys), terms)
        .issue(&identity(), Generation(0), None, UnixTime(1_800_000_000))
        .unwrap();
    Decision::Issue(Issued {
        identity: identity(),
        token,
        form,
        reply,
        refresh: None,
        by: By::Login,
        entry: None,
    })
}

#[test]
fn a_login_is_answered_directly_or_through_the_service() {
    let response = encode(
        &issued(LoginReply::Direct, TokenForm::Json),
        &Extra::default(),
        &realm(),
    );
    assert_ne!(response.status.as_ref().unwrap().code, 0);
    let Some(HttpResponse::DeniedResponse(denied)) = response.http_response else {
        panic!()
    };
    assert_eq!(denied.status.unwrap().code, 200);
    let body: serde_json::Value = serde_json::from_slice(&denied.body).unwrap();
    assert_eq!(
        (&body["token_type"], &body["expires_in"]),
        (&"Bearer".into(), &3600.into())
    );
    let bearer = format!("Bearer {}", body["access_token"].as_str().unwrap());
    assert!(
        denied
            .headers
            .iter()
            .any(|option| option.header.as_ref().unwrap().value == bearer)
    );

    let ok = ok_response(encode(
        &issued(LoginReply::Through, TokenForm::Plain),
        &Extra::default(),
        &realm(),
    ));
    assert!(
        ok.headers_to_remove
            .contains(&Bytes::from_static(b"authorization"))
    );
    let added: Vec<_> = ok
        .response_headers_to_add
        .iter()
        .map(|o| o.header.as_ref().unwrap().key.clone())
        .collect();
    assert_eq!(added, ["authorization", "cache-control"]);
}

/// hyper moves the memory of every call several times.
#[test]
fn a_call_needs_little_memory() {
    fn size<A, B, C, D, F: Future>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }
    let size = size(super::Door::call::<Full<Bytes>>);
    assert!(size < 4096, "{size} bytes");
}
