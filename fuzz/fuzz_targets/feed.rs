//! Queries of the feed, as Doorward reads them, and answers of the feed, as a follower reads them.

#![no_main]

use std::time::Duration;

use doorward_core::{key::Key, secret::Secret, time::UnixTime};
use doorward_fuzz::{NOW, SECRET};
use doorward_rules::feed::{Instead, Known, Options, Query};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Query::parse(text);
        take(text);
    }
    assert!(
        follower().take(bytes, NOW).is_err(),
        "the answer repeats no question"
    );
});

fn follower() -> Known {
    let secret = Secret::parse(SECRET).unwrap();
    Known::new(Options {
        stale_after: Duration::from_secs(30),
        secrets: vec![Key::from_secret(&secret, UnixTime(0))],
        instead: Instead::default(),
    })
}

/// Takes several answers, one per line; in each, `QUESTION` stands for the text that the answer must repeat.
fn take(text: &str) {
    let mut known = follower();
    for answer in text.lines().take(8) {
        let question = known.question();
        assert!(Query::parse(question.split_once('?').unwrap().1).is_ok());
        let nonce = question.split_once("ask=").unwrap().1;
        let nonce = nonce.split('&').next().unwrap();
        let answer = answer.replace("QUESTION", nonce);
        let before = image(&known);
        match known.take(answer.as_bytes(), NOW) {
            Ok(taken) => {
                assert!(known.in_force().is_some());
                assert!(!taken.complete || known.revoked().read_at().0 <= NOW.0);
            }
            Err(fault) => {
                assert_eq!(image(&known), before);
                let fault = fault.to_string();
                assert!(fault.len() < 2000 && !fault.contains('\n'), "{fault}");
            }
        }
    }
}

/// The state of a follower, to compare it before and after a refused answer.
fn image(known: &Known) -> (Option<String>, usize, u64, usize) {
    let revoked = known.revoked();
    (
        known.in_force().map(|own| own.digest.clone()),
        revoked.len(),
        revoked.read_at().0,
        revoked.inactive().len(),
    )
}
