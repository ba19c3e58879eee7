mod decisions;
mod reading;

use std::time::Duration;

use proptest::prelude::*;
use prost::Message as _;

use self::decisions::{any_decision, any_denial};
use super::*;
use crate::{
    domain::{
        account::{Identity, Roles, Username},
        decision::{By, Issued},
        identity_headers::{IdentityNames, Likeness},
        keyring::Keyring,
        request::TokenForm,
        revocation::Generation,
        token::{Secret, Signer, TokenTerms, UnixTime},
    },
    doors::wire::{
        envoy::{
            config::core::v3::{
                HeaderMap, HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
            },
            service::auth::v3::{
                CheckResponse, DeniedHttpResponse, OkHttpResponse,
                attribute_context::{HttpRequest, http_request::HeadersEntry},
                check_response::HttpResponse,
            },
            r#type::v3::HttpStatus,
        },
        google::rpc::Status,
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
    })
}

fn realm() -> Realm {
    Realm::parse("doorward").unwrap()
}

/// The answer, decoded by prost.
fn encode(decision: &Decision, extra: &Extra<'_>, realm: &Realm) -> CheckResponse {
    CheckResponse::decode(super::encode(decision, extra, realm, b"").message()).unwrap()
}

/// The answer as a prost message.
fn value(decision: &Decision, extra: &Extra<'_>, metadata: &[u8]) -> CheckResponse {
    let denied = |answer: Answer| {
        let denied = DeniedHttpResponse {
            status: Some(HttpStatus {
                code: answer.status.into(),
            }),
            headers: overwrite(answer.headers),
            body: answer.body.into_owned().into(),
        };
        (
            code(answer.status).get(),
            HttpResponse::DeniedResponse(denied),
        )
    };
    let ok = |caller: Caller, authorization, added| {
        let admission = Admission {
            caller,
            authorization,
        };
        let edits = HeaderEdits::of(&admission, extra.identity, extra.gateway);
        let ok = OkHttpResponse {
            headers: overwrite(edits.set()),
            headers_to_remove: edits.remove().map(Bytes::from).collect(),
            response_headers_to_add: overwrite(added),
        };
        (0, HttpResponse::OkResponse(ok))
    };
    let (code, http) = match decision {
        Decision::Allow(admission) => ok(
            admission.caller.clone(),
            admission.authorization,
            Vec::new(),
        ),
        Decision::Deny(denial) => denied(denial.answer(&realm())),
        Decision::Done(done) => denied(done.answer()),
        Decision::Issue(issued) => match issued.reply {
            LoginReply::Direct => denied(issued.answer()),
            LoginReply::Through => {
                let principal = Principal::new(issued.identity.clone());
                let caller = Caller::Known(Arc::new(principal));
                ok(caller, Forwarding::Strip, issued.token_headers())
            }
        },
    };
    CheckResponse {
        status: Some(Status {
            code,
            message: Bytes::new(),
        }),
        http_response: Some(http),
        dynamic_metadata: Bytes::copy_from_slice(metadata),
    }
}

fn overwrite<V: Into<String>>(
    headers: impl IntoIterator<Item = (&'static str, V)>,
) -> Vec<HeaderValueOption> {
    let option = |(name, value): (&'static str, V)| HeaderValueOption {
        header: Some(HeaderValue {
            key: name.into(),
            value: value.into().into(),
            raw_value: Bytes::new(),
        }),
        append: Some(false),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    };
    headers.into_iter().map(option).collect()
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

proptest! {
    /// Envoy lets a request pass on code 0, which is also the code of a default `CheckResponse`.
    #[test]
    fn the_status_code_and_the_response_always_agree(decision in any_decision()) {
        let response = encode(&decision, &Extra::default(), &realm());
        let bytes = response.encode_to_vec();
        prop_assert!(!bytes.is_empty(), "CheckResponse::default() allows");
        let response = CheckResponse::decode(&*bytes).unwrap();
        let code = response.status.unwrap().code;
        let passes = match &decision {
            Decision::Allow(_) => true,
            Decision::Deny(_) | Decision::Done(_) => false,
            Decision::Issue(issued) => issued.reply == LoginReply::Through,
        };
        prop_assert_eq!(code == 0, passes);
        let options = match response.http_response.unwrap() {
            HttpResponse::OkResponse(ok) => {
                prop_assert!(passes);
                for option in &ok.headers {
                    let key = &option.header.as_ref().unwrap().key;
                    prop_assert!(!ok.headers_to_remove.contains(key));
                }
                [ok.headers, ok.response_headers_to_add].concat()
            }
            HttpResponse::DeniedResponse(denied) => {
                prop_assert!(!passes);
                let status = denied.status.unwrap().code;
                prop_assert!((200..600).contains(&status));
                let has = |name: &str| denied.headers.iter().any(|o| o.header.as_ref().unwrap().key == name);
                prop_assert_eq!(status == 405, has("allow"));
                prop_assert_eq!(matches!(status, 429 | 503), has("retry-after"));
                prop_assert!(status != 401 || has("www-authenticate"));
                prop_assert!(has("cache-control") && has("content-type") && !denied.body.is_empty());
                denied.headers
            }
        };
        for option in options {
            prop_assert_eq!(option.append, Some(false));
            prop_assert_eq!(option.append_action, 2);
            let header = option.header.unwrap();
            prop_assert!(header.key.iter().all(|b| b.is_ascii_lowercase() || *b == b'-'));
            prop_assert!(!header.value.is_empty());
            prop_assert!(header.value.iter().all(|b| matches!(b, b' '..=b'~')));
        }
    }

    /// prost writes the same bytes from the same answer.
    #[test]
    fn an_answer_is_written_as_prost_writes_it(
        decision in any_decision(),
        custom: bool,
        shows_all: bool,
        metadata in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let extra = Extra {
            identity: identity_headers(custom),
            gateway: if shows_all { Gateway::ShowsAll } else { Gateway::ShowsSome },
            ..Extra::default()
        };
        let answer = super::encode(&decision, &extra, &realm(), &metadata);
        prop_assert_eq!(answer.message(), value(&decision, &extra, &metadata).encode_to_vec());
        let length = u32::try_from(answer.message().len()).unwrap().to_be_bytes();
        let frame = answer.into_frame();
        prop_assert_eq!(&frame[..5], [&[0], &length[..]].concat());
    }

    #[test]
    fn decoding_never_panics(bytes: Vec<u8>, method: Vec<u8>, path: Vec<u8>, host: Vec<u8>, name: Vec<u8>, value: Vec<u8>) {
        let _ = CheckView::read(&bytes);
        let http = HttpRequest {
            method: method.into(),
            path: path.into(),
            host: host.into(),
            headers: vec![HeadersEntry { key: name.into(), value: value.into() }],
            ..HttpRequest::default()
        };
        let _ = decode(&http, Tolerance::default(), IdentityHeaders::default());
    }
}

proptest! {
    #[test]
    fn the_runbook_lists_the_status_of_every_denial(denial in any_denial()) {
        let (reason, status) = (denial.reason().name(), denial.answer(&realm()).status.to_string());
        let rows = include_str!("../../../docs/operations.md").lines();
        let mut rows = rows.filter(|row| row.starts_with("| `") && row.contains(&format!("`{reason}`")));
        let row = rows.next().unwrap_or_default();
        let statuses = row.split(" | ").nth(1).unwrap_or_default();
        prop_assert!(statuses.split(", ").any(|own| own == status), "{reason}: {status} is not in {row:?}");
    }
}
