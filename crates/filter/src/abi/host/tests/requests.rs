//! Requests of one configuration.

use std::sync::Arc;

use doorward_core::{
    account::{Identity, Roles, Username},
    key::Key,
    keyring::Keyring,
    revocation::Generation,
    token::{Signer, TokenTerms},
};
use proptest::{collection, prelude::*, sample::select};

use super::*;
use crate::{
    clock::now,
    fuzzing::{
        self,
        hooks::{denying, passing},
        key,
    },
};

const CONTINUE: Option<u32> = Some(0);
const STOP: Option<u32> = Some(1);

fn login() -> Vec<(&'static [u8], &'static [u8])> {
    vec![
        (b":method", b"POST"),
        (b":authority", b"shop.example"),
        (b":path", b"/login"),
        (b"content-type", b"application/json"),
        (b"x-unread", b"1"),
    ]
}

fn bearer() -> String {
    let key = Key::read("fuzz.jwk", key().as_bytes()).unwrap();
    let terms = TokenTerms {
        issuer: "doorward".into(),
        audience: "doorward".into(),
        lifetime: std::time::Duration::from_secs(3600),
        leeway: std::time::Duration::from_secs(30),
    };
    let keys = Keyring::new(vec![key], terms.lasts()).unwrap();
    let identity = Identity {
        subject: "7".into(),
        username: Username::parse("ada").unwrap(),
        roles: Roles::parse(["reader", "writer"]).unwrap(),
    };
    let signer = Signer::new(Arc::new(keys), terms);
    let token = signer.issue(&identity, Generation(0), None, now()).unwrap();
    format!("Bearer {}", token.expose())
}

#[test]
fn identity_headers_are_those_of_the_token() {
    let (config, bearer) = (usual(), bearer());
    let forged = [
        ("x-auth-user", "root"),
        ("x-auth-roles", "admin"),
        ("authorization", &*bearer),
        ("x-auth-user", "again"),
    ];
    // More headers than fit into the array of the usual size, too.
    for many in [0, 44, 45, 200] {
        let names: Vec<_> = (0..many).map(|number| format!("x-{number}")).collect();
        let more = names.iter().map(|name| (&**name, "1"));
        let headers: Vec<_> = forged.into_iter().chain(more).collect();
        let request = config.request(&get("/files/a", &headers), None);
        assert_eq!(request.headers(true), CONTINUE, "{:?}", request.outcome());
        assert_eq!(request.response_headers(), CONTINUE);
        let forwarded = request.forwarded();
        assert_eq!(value(&forwarded, "x-auth-user"), Some("ada"));
        assert_eq!(value(&forwarded, "x-auth-roles"), Some("reader,writer"));
        let own = forwarded
            .iter()
            .filter(|(name, _)| name.starts_with(b"x-") && name[2].is_ascii_digit());
        assert_eq!(own.count(), many);
        let metadata = request.outcome().metadata;
        assert!(metadata.contains(&("sub".into(), "7".into())));
        assert!(metadata.contains(&("roles".into(), "writer".into())));
    }
}

#[test]
fn an_answer_may_end_the_request() {
    let config = usual();
    for (path, hides, status) in [
        ("/files/a", false, 401),
        ("/public/a", true, 400),
        ("x", false, 400),
    ] {
        for ends in [false, true] {
            let request = config.request(&get(path, &[("content-type", "application/grpc")]), None);
            request.behave(|habits| (habits.ends_in_answer, habits.hides_all) = (ends, hides));
            assert_eq!(request.headers(true), STOP);
            let answer = request.outcome().answer.unwrap();
            assert_eq!(answer.status, status, "{path}");
            // Headers that cannot be read do not say that the client wants gRPC.
            assert_eq!(
                value(&answer.headers, "grpc-status").is_some(),
                !hides,
                "{path}"
            );
            assert!(answer.details.starts_with("doorward_"), "{answer:?}");
            assert_eq!(request.headers(true), None);
        }
    }
}

#[test]
fn doorward_answers_a_login_with_its_whole_body() {
    let config = usual();
    for ends in [false, true] {
        for trailers in [false, true] {
            let request = config.request(&login(), Some("[2001:db8::7]:4711"));
            request.behave(|habits| habits.ends_in_answer = ends);
            assert_eq!(request.headers(false), STOP);
            assert_eq!(request.body(&[b"{\"a\"", b":"], false), STOP);
            assert_eq!(request.outcome().sent.len(), 0);
            match trailers {
                false => assert_eq!(request.body(&[b"1}", b""], true), STOP),
                true => {
                    assert_eq!(request.body(&[b"1}"], false), STOP);
                    assert_eq!(request.trailers(), STOP);
                }
            }
            let [sent] = &*request.outcome().sent else {
                panic!("not one callout");
            };
            assert_eq!(sent.cluster, b"doorward");
            assert_eq!(value(&sent.headers, ":authority"), Some("doorward"));
            let has = |text: &[u8]| sent.body.windows(text.len()).any(|part| part == text);
            assert!(has(b"{\"a\":1}") && has(b"application/json") && has(b"2001:db8::7"));
            assert!(!has(b"x-unread"));
            // What arrives while Doorward is asked stays for the service.
            assert_eq!(request.body(&[b"x"], false), Some(2));
            request.reply(b"200", &denying());
            let answer = request.outcome().answer.unwrap();
            assert_eq!((answer.status, &*answer.body), (401, &b"no"[..]));
            assert_eq!(value(&answer.headers, "www-authenticate"), Some("Bearer"));
            request.reply(b"200", &passing());
            assert_eq!(request.outcome().resumed, 0);
        }
    }
}

#[test]
fn doorward_lets_a_request_pass() {
    let config = usual();
    for ends in [false, true] {
        let request = config.request(&login(), None);
        request.behave(|habits| habits.ends_in_resume = ends);
        assert_eq!(request.headers(true), STOP);
        request.reply(b"200", &passing());
        request.reply(b"200", &passing());
        request.response_headers();
        let outcome = request.outcome();
        assert_eq!((outcome.resumed, outcome.answer), (1, None));
        assert_eq!(value(&request.forwarded(), "x-auth-user"), Some("ada"));
        assert_eq!(value(&outcome.response, "set-cookie"), Some("a=b"));
    }
}

#[test]
fn a_request_without_doorwards_answer_gets_503_once() {
    let config = usual();
    let without = configured(json!({}));
    type Done = fn(&FakeRequest<'_>);
    let ways: [(&str, &FakeConfig, Done); 8] = [
        ("no cluster", &without, |_| {}),
        ("refused", &config, |_| {}),
        ("failed in the call", &config, |_| {}),
        ("failed", &config, |request| request.fails()),
        ("a status", &config, |request| {
            request.reply(b"404", &passing())
        }),
        ("no status", &config, |request| {
            request.reply(b"\xff", &passing())
        }),
        ("no body", &config, |request| request.reply(b"200", b"")),
        ("no frame", &config, |request| {
            request.reply(b"200", &passing()[1..])
        }),
    ];
    for (way, config, done) in ways {
        for ends in [false, true] {
            let request = config.request(&login(), None);
            request.behave(|habits| {
                habits.ends_in_answer = ends;
                habits.refuses_calls = way == "refused";
                habits.fails_in_call = way == "failed in the call";
            });
            assert_eq!(request.headers(true), STOP);
            done(&request);
            let answer = request.outcome().answer.expect(way);
            assert_eq!(
                (answer.status, &*answer.details),
                (503, "doorward_unanswered"),
                "{way}"
            );
            request.fails();
            assert_eq!(request.outcome().resumed, 0, "{way}");
        }
    }
}

#[test]
fn a_body_beyond_the_limit_gets_413() {
    let config = usual();
    for (chunks, status) in [
        (&[&[b'x'; 64][..]][..], None),
        (&[&[b'x'; 64], b"y"], Some(413)),
    ] {
        for ends in [false, true] {
            let request = config.request(&login(), None);
            request.behave(|habits| habits.ends_in_answer = ends);
            assert_eq!(request.headers(false), STOP);
            request.body(chunks, true);
            let outcome = request.outcome();
            assert_eq!(outcome.answer.map(|answer| answer.status), status);
            assert_eq!(outcome.sent.len(), usize::from(status.is_none()));
        }
    }
}

#[test]
fn hooks_in_a_wrong_order_do_nothing() {
    let config = usual();
    drop(config.request(&[], None));
    let request = config.request(&login(), None);
    request.reply(b"200", &passing());
    request.fails();
    assert_eq!(request.body(&[b"x"], true), CONTINUE);
    assert_eq!(request.trailers(), CONTINUE);
    assert_eq!(request.response_headers(), CONTINUE);
    let outcome = request.outcome();
    assert!(outcome.answer.is_none() && outcome.resumed == 0 && outcome.sent.is_empty());
    // An answer to a callout that was not sent does not let a body pass to the service.
    let request = config.request(&login(), None);
    assert_eq!(request.headers(false), STOP);
    request.reply(b"200", &passing());
    assert_eq!(request.body(&[b"x"], true), STOP);
    assert_eq!(
        (request.outcome().sent.len(), request.outcome().resumed),
        (1, 0)
    );
    // Headers that arrive again are judged again, and an answer to the first call does not follow.
    let request = config.request(&login(), None);
    assert_eq!(request.headers(true), STOP);
    request.behave(|habits| habits.hides_all = true);
    assert_eq!(request.headers(true), STOP);
    assert_eq!(request.outcome().answer.unwrap().status, 400);
    request.reply(b"200", &denying());
    assert_eq!(request.outcome().answer.unwrap().status, 400);
    // While it collects a body, and while it waits, the client goes away.
    for is_last in [false, true] {
        let request = config.request(&login(), None);
        assert_eq!(request.headers(is_last), STOP);
        request.reply(b"200", b"");
        request.end();
        assert_eq!(request.headers(true), None);
    }
}

#[test]
fn in_shadow_nothing_changes() {
    let config = configured(json!({ "shadow": true, "actions": { "cluster": "doorward" } }));
    let refused = get("/files/a", &[("x-auth-user", "root")]);
    for headers in [
        refused,
        login(),
        get("/public/a", &[("x-auth-user", "root")]),
    ] {
        let request = config.request(&headers, None);
        assert_eq!(request.headers(true), CONTINUE);
        let outcome = request.outcome();
        assert!(outcome.answer.is_none() && outcome.sent.is_empty());
        let owned: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        assert_eq!(request.forwarded(), owned);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 256 }))]

    #[test]
    fn any_order_of_hooks_holds(
        path in select(&["/login", "/logout", "/public/a", "/files/a", "//", ""][..]),
        steps in collection::vec(select(&[
            "headers", "headers last", "headers last", "body a b", "last a", "trailers", "response", "pass", "deny", "status", "reply a",
            "lost", "end", "ends", "inline", "refuse", "fail", "hide",
            "body xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ][..]), 0..12),
    ) {
        let steps = steps.join("\n");
        fuzzing::hooks(format!(":method POST\n:authority a\n:path {path}\nx-auth-user root\n\n{steps}").as_bytes());
    }
}
