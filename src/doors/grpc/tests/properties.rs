//! What holds for every decision, and prost as the oracle of what the door writes.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::{
    decisions::{any_decision, any_denial},
    decode, encode, identity_headers, realm,
};
use crate::{
    domain::{
        cookie::CookieEdit,
        decision::{Admission, Answer, Caller, Decision, Forwarding, LoginReply},
        header_edits::{Gateway, HeaderEdits},
        identity_headers::IdentityHeaders,
        path::Tolerance,
        principal::Principal,
    },
    doors::{
        grpc::{self, CheckView, Extra, code},
        wire::{
            envoy::{
                config::core::v3::{
                    HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
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
    },
};

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
            cookies: CookieEdit::Keep,
            renewal: None,
            set_cookie: None,
            assertion: None,
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
        let answer = grpc::encode(&decision, &extra, &realm(), &metadata);
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

    #[test]
    fn the_runbook_lists_the_status_of_every_denial(denial in any_denial()) {
        let (reason, status) = (denial.reason().name(), denial.answer(&realm()).status.to_string());
        let rows = include_str!("../../../../docs/operations.md").lines();
        let mut rows = rows.filter(|row| row.starts_with("| `") && row.contains(&format!("`{reason}`")));
        let row = rows.next().unwrap_or_default();
        let statuses = row.split(" | ").nth(1).unwrap_or_default();
        prop_assert!(statuses.split(", ").any(|own| own == status), "{reason}: {status} is not in {row:?}");
    }
}
