//! Refresh tokens (RFC 6749, 1.5): opaque, stored only as hashes, and replaced at every use (RFC 9700, 4.14.2).

use std::fmt;

use aws_lc_rs::{digest, hmac, rand};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::hex;

/// A refresh token: one part stays the same for the whole session, the other changes at every use. `Debug` does not
/// show it.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken(Zeroizing<[u8; FAMILY + SECRET]>);

const FAMILY: usize = 16;
const SECRET: usize = 32;

/// Lets scanners for leaked secrets find these tokens.
const PREFIX: &str = "dwr_";

/// The system has no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

impl RefreshToken {
    /// Creates the first token of a session.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; FAMILY + SECRET]);
        rand::fill(&mut *bytes).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// Parses a token that a client sent; `None` if it is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(PREFIX)?;
        let mut bytes = Zeroizing::new([0; FAMILY + SECRET]);
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes);
        (length == Ok(FAMILY + SECRET)).then_some(Self(bytes))
    }

    /// The token as the client receives it.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "{PREFIX}{}",
            BASE64_URL_SAFE_NO_PAD.encode(*self.0)
        ))
    }

    /// The session id, which becomes the claim `sid`. It reveals nothing about the token.
    #[must_use]
    pub fn session_id(&self) -> String {
        let name = digest::digest(&digest::SHA256, self.family());
        hex::encode(name.as_ref().get(..FAMILY).unwrap_or_default())
    }

    /// The hash of the token, which is stored.
    #[must_use]
    pub fn hash(&self) -> String {
        hex::encode(digest::digest(&digest::SHA256, &*self.0).as_ref())
    }

    /// Creates the next token of the session.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`].
    pub fn successor(&self) -> Result<Self, NoRandomness> {
        let mut next = self.clone();
        rand::fill(next.secret_mut()).map_err(|_| NoRandomness)?;
        Ok(next)
    }

    /// Encrypts the successor so that only the holder of this token can read it. Each token seals one successor, so
    /// the pad is used once.
    #[must_use]
    pub fn seal(&self, successor: &Self) -> String {
        hex::encode(&*self.padded(successor.secret()))
    }

    /// Decrypts a sealed successor; `None` if it is malformed.
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

/// Why a refresh token is refused; only for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshFault {
    /// Not a refresh token of Doorward.
    #[error("it is not a refresh token of Doorward")]
    Malformed,
    /// The session does not exist, has expired, or is revoked.
    #[error("its session has ended")]
    Unknown,
    /// The token was used before, so somebody else may have it: the session is revoked.
    #[error("it was used before")]
    Reused,
    /// The account is removed, disabled or another one, or all of its sessions are revoked.
    #[error("its account is disabled, removed or changed")]
    Account,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_parses_back_and_keeps_its_session_id() {
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
    fn only_the_predecessor_decrypts_its_successor() {
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
