//! Bytes -> `CheckRequest` -> judge -> `CheckResponse`, without async code and without a user table.

#![no_main]

use std::{collections::BTreeSet, sync::LazyLock};

use doorward::{
    domain::{
        decision::{Caller, Decision, Denial, Forwarding, Realm},
        identity_headers::{IdentityHeaders, Likeness},
        judge::{Action, Judge, Step},
        path::{Also, Tolerance},
    },
    doors::{
        grpc::{CheckView, HttpView, decode, encode},
        wire::envoy::service::auth::v3::{
            CheckRequest, CheckResponse, OkHttpResponse, attribute_context::HttpRequest,
            check_response::HttpResponse,
        },
    },
};
use doorward_fuzz::{ADMIN, NOW, PLAIN};
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode;
use prost::Message as _;

static JUDGE: LazyLock<Judge> = LazyLock::new(doorward_fuzz::judge);
static REALM: LazyLock<Realm> = LazyLock::new(|| Realm::parse("doorward").unwrap());

const RELAXED: Tolerance = Tolerance {
    encoded_slash: true,
    encoded_percent: true,
    semicolon: true,
    double_slash: true,
    also: Also {
        extension: true,
        trailing_dot: true,
    },
};

fuzz_target!(|bytes: &[u8]| {
    let (check, view) = (CheckRequest::decode(bytes), CheckView::read(bytes));
    let Ok(check) = check else {
        assert!(view.is_err(), "prost refuses it");
        return;
    };
    let view = view.unwrap_or_else(|_| panic!("prost reads it"));
    assert!(
        view == CheckView::from(&check),
        "prost reads another request"
    );
    let http = check.attributes.and_then(|all| all.request?.http);
    let Some(http) = http else {
        return;
    };
    for tolerance in [Tolerance::default(), RELAXED] {
        judge(&http, tolerance);
    }
});

fn judge(http: &HttpRequest, tolerance: Tolerance) {
    let view = HttpView::from(http);
    let (request, extra) = decode(&view, tolerance, IdentityHeaders::default());
    let decision = match request.map(|request| JUDGE.judge(&request, NOW).step) {
        Err(fault) => Decision::Deny(Denial::Malformed(fault)),
        Ok(Step::Act(Action::Login(attempt))) => {
            assert!(!attempt.login.username.as_str().is_empty());
            assert!(!attempt.login.password.expose().is_empty());
            return;
        }
        Ok(Step::Act(Action::Logout(logout))) => {
            let is_admin = logout.presented.identity.roles.admin();
            assert!(shows(http, if is_admin { ADMIN } else { PLAIN }));
            return;
        }
        Ok(Step::Act(Action::ChangePassword(change))) => {
            let is_admin = change.identity.roles.admin();
            assert!(shows(http, if is_admin { ADMIN } else { PLAIN }));
            return;
        }
        Ok(Step::Act(Action::Keys(request))) => {
            let is_admin = request.identity.roles.admin();
            assert!(shows(http, if is_admin { ADMIN } else { PLAIN }));
            return;
        }
        Ok(Step::Act(
            Action::Refresh(..) | Action::Register(_) | Action::SignIn(..) | Action::Visit(..),
        )) => return,
        Ok(Step::Defer) => panic!("there are no keys"),
        Ok(Step::Done(decision)) => decision,
    };
    let answer = encode(&decision, &extra, &REALM, b"");
    let response = CheckResponse::decode(answer.message()).unwrap();
    assert_eq!(
        response.encode_to_vec(),
        answer.message(),
        "prost writes another answer"
    );
    let code = response.status.unwrap().code;
    match (&decision, response.http_response.unwrap()) {
        (Decision::Allow(admission), HttpResponse::OkResponse(ok)) => {
            assert_eq!(code, 0);
            may_pass(http, &admission.caller);
            nothing_spoofed(http, &admission.caller, admission.authorization, &ok);
        }
        (Decision::Deny(_), HttpResponse::DeniedResponse(denied)) => {
            assert_ne!(code, 0, "Envoy would let it pass");
            let status = denied.status.unwrap().code;
            assert!(status == 303 || (400..600).contains(&status));
        }
        (Decision::Allow(_) | Decision::Deny(_) | Decision::Issue(_) | Decision::Done(_), _) => {
            panic!("code {code} and an answer that does not fit it")
        }
    }
}

/// Whether the request has exactly one credential, and it is this token.
fn shows(http: &HttpRequest, token: &str) -> bool {
    credential(http).is_some_and(|value| {
        let value = std::str::from_utf8(&value).unwrap_or_default();
        let (scheme, rest) = value.split_once(' ').unwrap_or_default();
        scheme.eq_ignore_ascii_case("bearer") && rest.trim_start_matches(' ') == token
    })
}

/// Asserts that a caller who passes has shown what every reading of the path demands.
fn may_pass(http: &HttpRequest, caller: &Caller) {
    let under = |path: &str, prefix: &str| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let is_admin = match caller {
        Caller::Known(principal) => {
            let is_admin = principal.identity().roles.admin();
            assert!(shows(http, if is_admin { ADMIN } else { PLAIN }));
            is_admin
        }
        Caller::Anonymous => {
            for path in readings(&http.path) {
                assert!(under(&path, "/public"), "a service reads {path:?}");
            }
            false
        }
    };
    for path in readings(&http.path) {
        assert!(
            is_admin || !under(&path, "/admin"),
            "a service reads {path:?}"
        );
    }
}

/// The only `Authorization` value, in the header field that Envoy filled.
fn credential(http: &HttpRequest) -> Option<Vec<u8>> {
    let mut values = headers(http)
        .into_iter()
        .filter(|(name, _)| name == b"authorization")
        .map(|(_, value)| value);
    values.next().filter(|_| values.next().is_none())
}

fn headers(http: &HttpRequest) -> Vec<(Vec<u8>, Vec<u8>)> {
    let raw = http.header_map.as_ref().map(|map| &*map.headers);
    let pair = |name: &[u8], value: &[u8]| (name.to_ascii_lowercase(), value.to_vec());
    match raw.unwrap_or_default() {
        [] => http
            .headers
            .iter()
            .map(|header| pair(&header.key, &header.value))
            .collect(),
        raw => raw
            .iter()
            .map(|header| match header.raw_value.is_empty() {
                true => pair(&header.key, &header.value),
                false => pair(&header.key, &header.raw_value),
            })
            .collect(),
    }
}

/// All paths that services are known to read from a target: they decode any number of times, remove or keep what then
/// looks like a query, remove parameters, merge slashes and resolve dot segments.
fn readings(target: &[u8]) -> BTreeSet<String> {
    let raw = target.split(|byte| *byte == b'?').next().unwrap();
    let mut readings = BTreeSet::new();
    let mut text = raw.to_vec();
    loop {
        let whole = String::from_utf8_lossy(&text);
        let cut = whole.split(['?', '#']).next().unwrap();
        for text in [&*whole, cut] {
            for text in [text, &text.replace('\\', "/")] {
                readings.insert(resolved(text));
            }
        }
        let decoded: Vec<u8> = percent_decode(&text).collect();
        if decoded == text {
            return readings;
        }
        text = decoded;
    }
}

fn resolved(text: &str) -> String {
    let mut segments = Vec::new();
    for segment in text.split('/') {
        match segment.split(';').next().unwrap() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other.to_ascii_lowercase()),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Asserts that every header that a service could read as an identity comes from Doorward.
fn nothing_spoofed(
    http: &HttpRequest,
    caller: &Caller,
    authorization: Forwarding,
    ok: &OkHttpResponse,
) {
    let removed = |name: &[u8]| ok.headers_to_remove.iter().any(|removed| removed == name);
    let set: Vec<_> = ok
        .headers
        .iter()
        .map(|option| &*option.header.as_ref().unwrap().key)
        .collect();
    assert!(set.iter().all(|name| !removed(name)), "set and removed");
    let identity = IdentityHeaders::default();
    match caller {
        Caller::Known(_) => assert_eq!(set, identity.names().map(str::as_bytes)),
        Caller::Anonymous => assert!(set.is_empty()),
    }
    for option in &ok.headers {
        assert_eq!(option.append, Some(false));
        let value = &option.header.as_ref().unwrap().value;
        assert!(!value.is_empty() && value.iter().all(|byte| matches!(byte, b'!'..=b'~')));
    }
    for (name, _) in headers(http) {
        match identity.likeness(&name) {
            Likeness::Different => {}
            Likeness::Same => assert!(
                removed(&name) || set.contains(&&*name),
                "{name:?} came through"
            ),
            Likeness::Alias => panic!("{name:?} came through"),
        }
    }
    let shows_bearer = credential(http).is_some_and(|value| {
        value
            .get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
    });
    let shows_any = headers(http)
        .iter()
        .any(|(name, _)| name == b"authorization");
    if shows_any && !shows_bearer {
        assert_eq!(authorization, Forwarding::Strip, "a password goes on");
    }
    assert_eq!(
        authorization == Forwarding::Strip,
        removed(b"authorization")
    );
}
