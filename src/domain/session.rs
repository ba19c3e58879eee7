//! Refresh tokens (RFC 6749, 1.5): opaque, stored as hashes alone, and replaced at every use (RFC 9700, 4.14.2).

use std::fmt;

use aws_lc_rs::{digest, hmac, rand};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::hex;

/// What a client shows for a new token: a part that stays for the whole session, and one that changes at every use;
/// never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken(Zeroizing<[u8; FAMILY + SECRET]>);

const FAMILY: usize = 16;
const SECRET: usize = 32;

/// So that a scanner for leaked secrets can find them.
const PREFIX: &str = "dwr_";

/// The system has no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

impl RefreshToken {
    /// The first of a session.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; FAMILY + SECRET]);
        rand::fill(&mut *bytes).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// Reads what a client shows, or nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(PREFIX)?;
        let mut bytes = Zeroizing::new([0; FAMILY + SECRET]);
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes);
        (length == Ok(FAMILY + SECRET)).then_some(Self(bytes))
    }

    /// The token as the client gets it.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "{PREFIX}{}",
            BASE64_URL_SAFE_NO_PAD.encode(*self.0)
        ))
    }

    /// The session's name: the claim `sid`, which says nothing about the token.
    #[must_use]
    pub fn session_id(&self) -> String {
        let name = digest::digest(&digest::SHA256, self.family());
        hex::encode(name.as_ref().get(..FAMILY).unwrap_or_default())
    }

    /// What is stored of the token.
    #[must_use]
    pub fn hash(&self) -> String {
        hex::encode(digest::digest(&digest::SHA256, &*self.0).as_ref())
    }

    /// The next of the session.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`].
    pub fn successor(&self) -> Result<Self, NoRandomness> {
        let mut next = self.clone();
        rand::fill(next.secret_mut()).map_err(|_| NoRandomness)?;
        Ok(next)
    }

    /// The successor as only who holds this token can read it: each token seals one successor, so the pad is used once.
    #[must_use]
    pub fn seal(&self, successor: &Self) -> String {
        hex::encode(&*self.padded(successor.secret()))
    }

    /// Reads a sealed successor, or nothing.
    #[must_use]
    pub fn unseal(&self, sealed: &str) -> Option<Self> {
        let sealed = hex::decode(sealed).filter(|sealed| sealed.len() == SECRET)?;
        let mut next = self.clone();
        next.secret_mut().copy_from_slice(&*self.padded(&sealed));
        Some(next)
    }

    fn padded(&self, bytes: &[u8]) -> Zeroizing<[u8; SECRET]> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.0);
        let pad = hmac::sign(&key, b"doorward successor");
        let mut sum = Zeroizing::new([0; SECRET]);
        for ((sum, byte), pad) in sum.iter_mut().zip(bytes).zip(pad.as_ref()) {
            *sum = byte ^ pad;
        }
        sum
    }

    fn family(&self) -> &[u8] {
        self.0.split_at(FAMILY).0
    }

    fn secret(&self) -> &[u8] {
        self.0.split_at(FAMILY).1
    }

    fn secret_mut(&mut self) -> &mut [u8] {
        self.0.split_at_mut(FAMILY).1
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken(..)")
    }
}

/// Why a refresh token is refused; for the log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshFault {
    /// Not of our form.
    #[error("it is not a refresh token of ours")]
    Malformed,
    /// No session of that name, or one that has expired or ended.
    #[error("there is no such session any more")]
    Unknown,
    /// It was used before, so somebody else may have it: the session has ended.
    #[error("it was used before")]
    Reused,
    /// The account is gone, disabled, another one, or all of its sessions were ended.
    #[error("the account may not go on")]
    Account,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_names_its_session() {
        let first = RefreshToken::generate().unwrap();
        let text = first.expose();
        assert!(RefreshToken::parse(&text).unwrap() == first);
        assert_eq!(text.len(), 68);
        let next = first.successor().unwrap();
        assert_eq!(next.session_id(), first.session_id());
        assert_ne!(next.hash(), first.hash());
        assert!(!format!("{first:?}").contains(&text[10..]));
        assert!(!text.contains(&first.session_id()));
        for bad in [
            "",
            "dwr_",
            &text[1..],
            &text[..67],
            &format!("{}A", &**text),
            "dwr_!!!",
        ] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn only_the_predecessor_unseals() {
        let first = RefreshToken::generate().unwrap();
        let next = first.successor().unwrap();
        let sealed = first.seal(&next);
        assert!(first.unseal(&sealed).unwrap() == next);
        let other = RefreshToken::generate().unwrap();
        assert!(other.unseal(&sealed).unwrap().hash() != next.hash());
        assert!(first.unseal("zz").is_none());
        assert!(first.unseal("").is_none());
    }
}
