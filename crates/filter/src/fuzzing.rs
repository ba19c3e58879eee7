//! What reads untrusted input, for the fuzz target: the headers of a request, Doorward's answer to a call, a configuration,
//! and the hooks in any order. Each function panics if what must hold for every input does not.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a fuzz target panics; no release has this module"
)]

pub(crate) mod hooks;

use std::sync::OnceLock;

use doorward_core::{
    decision::Decision,
    header_edits::{Gateway, HeaderEdits},
    headers::READ,
    key::{Algorithm, Key, KeyId},
    time::UnixTime,
};
use doorward_rules::feed::{InForce, Known};
use serde_json::{Value, json};

pub use self::hooks::hooks;
use crate::{
    abi::{Header, Headers},
    check::{self, Verdict},
    reading::{self, Next, Wants},
    settings::Settings,
};

/// The private key, as a file. No input can contain a token that it has signed.
pub(crate) fn key() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(|| {
        let id = KeyId::parse("fuzz").unwrap();
        let text = Key::generate(&id, Algorithm::Es256, UnixTime(0)).unwrap();
        text.to_string()
    })
}

/// `/public/*` is public, `/files/*` is for signed-in users, and there are two endpoints.
pub(crate) fn content() -> &'static Value {
    static CONTENT: OnceLock<Value> = OnceLock::new();
    CONTENT.get_or_init(|| {
        let key = Key::read("fuzz.jwk", key().as_bytes()).unwrap();
        json!({
            "keys": [{
                "kid": "fuzz",
                "alg": "ES256",
                "not_before": 0,
                "signs": true,
                "public": serde_json::to_value(key.public().unwrap()).unwrap(),
            }],
            "rules": [
                { "path": "/public/*", "allow": "public" },
                { "path": "/login", "allow": "login" },
                { "path": "/logout", "allow": "logout" },
                { "path": "/files/*", "allow": "signed-in" },
            ],
        })
    })
}

fn in_force() -> &'static InForce {
    static IN_FORCE: OnceLock<InForce> = OnceLock::new();
    IN_FORCE.get_or_init(|| {
        let configuration = json!({ "content": content() });
        let settings = Settings::read(configuration.to_string().as_bytes()).unwrap();
        Known::without_feed(settings.content(None).unwrap(), Vec::new()).unwrap()
    })
}

/// Takes an input of the fuzz target: a kind in the first line, and what is read after it. The headers of a request have a
/// line each: a name in lower case, as Envoy has them, a blank, and a value. For hooks, an empty line and the steps of
/// [`hooks()`] follow.
///
/// # Panics
///
/// As the function of its kind.
pub fn take(input: &[u8]) {
    if let Some(body) = input.strip_prefix(b"answer\n") {
        answer(body);
    } else if let Some(text) = input.strip_prefix(b"configuration\n") {
        configuration(text);
    } else if let Some(text) = input.strip_prefix(b"request\n") {
        let headers: Vec<_> = text
            .split(|byte| *byte == b'\n')
            .filter_map(header)
            .collect();
        request(&headers);
    } else if let Some(script) = input.strip_prefix(b"hooks\n") {
        hooks(script);
    }
}

fn header(line: &[u8]) -> Option<Header<'_>> {
    let at = line.iter().position(|byte| *byte == b' ')?;
    let (name, value) = (line.get(..at)?, line.get(at + 1..)?);
    (!name.iter().any(u8::is_ascii_uppercase)).then_some((name, value))
}

/// The identity headers, as they are by default.
const IDENTITY: [&[u8]; 3] = [b"x-auth-user", b"x-auth-roles", b"x-auth-admin"];

/// Judges a request by its headers, as Envoy passes them: names in lower case, pseudo-headers among them.
///
/// # Panics
///
/// If it passes without a public rule, if an identity header of the client reaches the service, or if Doorward is asked with
/// a header that it does not read.
pub fn request(headers: &[Header<'_>]) {
    let in_force = in_force();
    Headers::of(headers, |shown| {
        let wants = Wants {
            rule: true,
            assertion: true,
        };
        let judgement = reading::judge(Some(in_force), shown, wants);
        match judgement.next {
            Next::Pass {
                decision,
                identity,
                remove,
            } => {
                assert_eq!(judgement.rule.as_deref(), Some("/public/*"));
                assert!(decision.identity().is_none(), "nobody has a token");
                let Decision::Allow(admission) = &decision else {
                    panic!("a request passes without being allowed");
                };
                let edits = HeaderEdits::of(admission, identity, Gateway::ShowsAll);
                for (name, _) in headers {
                    let is_removed = remove.iter().any(|own| own.as_bytes() == *name);
                    let is_replaced = edits.set().any(|(own, _)| own.as_bytes() == *name);
                    assert!(is_removed || !edits.remove().any(|own| own.as_bytes() == *name));
                    assert!(is_removed || is_replaced || !IDENTITY.contains(name));
                }
            }
            Next::Refuse(decision, answer) => {
                assert!(matches!(decision, Decision::Deny(_)));
                assert!((300..600).contains(&answer.status), "{}", answer.status);
            }
            Next::Ask(pending) => {
                let names = pending.question.headers.iter().map(|(name, _)| &**name);
                assert!(names.clone().all(|name| READ.contains(&name)));
            }
        }
    });
}

/// Reads Doorward's answer to a call.
///
/// # Panics
///
/// If the answer has a status that Envoy cannot send, or names that are not in lower case.
pub fn answer(body: &[u8]) {
    let Ok(answer) = check::read(body) else {
        return;
    };
    let headers = match answer.verdict {
        Verdict::Pass { set, respond, .. } => [set, respond].concat(),
        Verdict::Answer {
            status, headers, ..
        } => {
            assert!((200..600).contains(&status));
            headers
        }
    };
    for (name, _) in headers {
        assert_eq!(name, name.to_ascii_lowercase());
    }
}

/// Reads a configuration.
///
/// # Panics
///
/// If a fault has more than one line, or quotes too much.
pub fn configuration(text: &[u8]) {
    let read = Settings::read(text).and_then(|settings| {
        settings.instead(None)?;
        let content = settings.content(None)?;
        Ok(Known::without_feed(content, Vec::new())?)
    });
    if let Err(fault) = read {
        let fault = fault.to_string();
        assert!(fault.len() < 4000 && !fault.contains('\n'), "{fault}");
    }
}

#[cfg(test)]
mod tests;
