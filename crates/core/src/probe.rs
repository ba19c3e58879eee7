//! Questions of `doorward probe`, and the answers to them: both are signed with a key that is used for nothing else.
//!
//! A question is a header of a request through the gateway. Doorward denies every request that carries a valid one, and the
//! denial carries the signed verdict. So a question never lets a request pass, and without the key nobody can ask one.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{hex, secret::Secret, time::UnixTime};

/// The header of a question.
pub const HEADER: &str = "x-doorward-probe";

/// The scheme of the challenge that carries an answer: of all headers of a denial, gateways forward `WWW-Authenticate`.
pub const SCHEME: &str = "Doorward-Probe";

/// How far the clocks of the two sides may differ, in seconds. A question that is repeated within this time gets another
/// denial, and nothing else.
const FRESH: u64 = 300;

const VERSION: &str = "1";

/// The longest header that is read.
const LONGEST: usize = 256;

/// The key of questions and answers.
pub struct ProbeKey(hmac::Key);

/// What makes a question unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub [u8; 16]);

/// What Doorward would have decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// `allow`, `deny`, or `act` for an endpoint, which is not run.
    pub decision: String,
    /// The stable reason; the name of the endpoint for `act`.
    pub reason: String,
    /// The rule that decided, if one did.
    pub rule: Option<String>,
}

impl ProbeKey {
    /// Derives the key from a secret.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self(secret.derived("doorward probe"))
    }

    /// A question, as the value of [`HEADER`].
    #[must_use]
    pub fn question(&self, nonce: Nonce, now: UnixTime) -> String {
        let text = format!("{VERSION}.{}.{}", now.0, hex::encode(&nonce.0));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.sign("question", &text));
        format!("{text}.{signature}")
    }

    /// The nonce of a question that this key signed at most five minutes before or after `now`.
    #[must_use]
    pub fn read(&self, header: &[u8], now: UnixTime) -> Option<Nonce> {
        let header = header.get(..LONGEST).is_none().then_some(header)?;
        let (text, signature) = str::from_utf8(header).ok()?.rsplit_once('.')?;
        self.verify("question", text, signature)?;
        let mut parts = text.split('.');
        let (version, time, nonce) = (parts.next()?, parts.next()?, parts.next()?);
        let asked: u64 = time.parse().ok()?;
        let is_fresh = asked.abs_diff(now.0) <= FRESH;
        (version == VERSION && is_fresh && parts.next().is_none()).then_some(())?;
        Some(Nonce(hex::decode(nonce)?.try_into().ok()?))
    }

    /// The signed answer to a question.
    #[must_use]
    pub fn answer(&self, nonce: Nonce, answered: &Answered) -> String {
        let Answered {
            decision,
            reason,
            rule,
        } = answered;
        let nonce = hex::encode(&nonce.0);
        let content = json!({
            "nonce": nonce, "decision": decision, "reason": reason, "rule": rule,
        });
        let text = BASE64_URL_SAFE_NO_PAD.encode(content.to_string());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.sign("answer", &text));
        format!("{text}.{signature}")
    }

    /// Reads the value of `WWW-Authenticate`: the answer to this question, if it is one.
    #[must_use]
    pub fn read_challenge(&self, challenge: &str, nonce: Nonce) -> Option<Answered> {
        let value = challenge.strip_prefix(SCHEME)?.trim();
        let value = value.strip_prefix("answer=\"")?.strip_suffix('"')?;
        let (text, signature) = value.split_once('.')?;
        self.verify("answer", text, signature)?;
        let content = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let content: Value = serde_json::from_slice(&content).ok()?;
        let own = |name: &str| content.get(name)?.as_str().map(str::to_owned);
        (own("nonce")? == hex::encode(&nonce.0)).then_some(())?;
        Some(Answered {
            decision: own("decision")?,
            reason: own("reason")?,
            rule: own("rule"),
        })
    }

    fn sign(&self, purpose: &str, text: &str) -> Vec<u8> {
        hmac::sign(&self.0, format!("{purpose}\n{text}").as_bytes())
            .as_ref()
            .to_vec()
    }

    /// Compares in constant time.
    fn verify(&self, purpose: &str, text: &str, signature: &str) -> Option<()> {
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.0, format!("{purpose}\n{text}").as_bytes(), &signature).ok()
    }
}

impl fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbeKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);
    const NONCE: Nonce = Nonce([7; 16]);

    fn key(secret: &[u8]) -> ProbeKey {
        ProbeKey::new(&Secret::parse(secret).unwrap())
    }

    fn own() -> ProbeKey {
        key(b"f3b1c2d4e5a60718293a4b5c6d7e8f90")
    }

    fn answered() -> Answered {
        Answered {
            decision: "deny".into(),
            reason: "missing-token".into(),
            rule: Some("GET /admin/*".into()),
        }
    }

    #[test]
    fn only_a_fresh_question_of_the_same_key_is_read() {
        let question = own().question(NONCE, NOW);
        assert_eq!(own().read(question.as_bytes(), NOW), Some(NONCE));
        for (seconds, is_fresh) in [(299, true), (300, true), (301, false)] {
            let later = UnixTime(NOW.0 + seconds);
            let earlier = UnixTime(NOW.0 - seconds);
            for at in [later, earlier] {
                let read = own().read(question.as_bytes(), at);
                assert_eq!(read.is_some(), is_fresh, "{seconds}");
            }
        }
        let another = key(b"03b1c2d4e5a60718293a4b5c6d7e8f91");
        assert_eq!(another.read(question.as_bytes(), NOW), None);
        assert_eq!(own().read(b"", NOW), None);
        assert_eq!(own().read(&[b'1'; 1000], NOW), None);
        assert_eq!(own().read(&[0xff; 30], NOW), None);
    }

    #[test]
    fn no_changed_byte_is_accepted() {
        let question = own().question(NONCE, NOW);
        let challenge = format!("{SCHEME} answer=\"{}\"", own().answer(NONCE, &answered()));
        for (at, _) in question.char_indices() {
            for other in ["0", "A", "."] {
                let mut changed = question.clone();
                changed.replace_range(at..=at, other);
                let read = own().read(changed.as_bytes(), NOW);
                assert!(changed == question || read.is_none(), "{changed}");
            }
        }
        let start = SCHEME.len();
        for (at, _) in challenge.char_indices().filter(|(at, _)| *at > start) {
            for other in ["0", "A", "."] {
                let mut changed = challenge.clone();
                changed.replace_range(at..=at, other);
                let read = own().read_challenge(&changed, NONCE);
                // Base64 without padding has bits that mean nothing; none of them changes what is read.
                assert!(read.is_none_or(|read| read == answered()), "{changed}");
            }
        }
    }

    #[test]
    fn an_answer_is_accepted_only_for_its_question() {
        let challenge = format!("{SCHEME} answer=\"{}\"", own().answer(NONCE, &answered()));
        let read = |key: &ProbeKey, nonce| key.read_challenge(&challenge, nonce);
        assert_eq!(read(&own(), NONCE), Some(answered()));
        assert_eq!(read(&own(), Nonce([8; 16])), None);
        let another = key(b"03b1c2d4e5a60718293a4b5c6d7e8f91");
        assert_eq!(read(&another, NONCE), None);
        // A question is no answer, although the same key signs both.
        let question = own().question(NONCE, NOW);
        let (text, signature) = question.rsplit_once('.').unwrap();
        assert!(own().verify("answer", text, signature).is_none());
        assert!(
            own()
                .read_challenge("Bearer realm=\"doorward\"", NONCE)
                .is_none()
        );
        let nobody = Answered {
            rule: None,
            ..answered()
        };
        let challenge = format!("{SCHEME} answer=\"{}\"", own().answer(NONCE, &nobody));
        assert_eq!(own().read_challenge(&challenge, NONCE), Some(nobody));
        assert!(!format!("{:?}", own()).contains("f3b1"));
    }
}
