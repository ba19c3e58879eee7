//! Signatures of compact tokens (RFC 7515, 7.1, with the practices of RFC 8725). Does not know what a payload means.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::{
    key::{Algorithm, Key, KeyId},
    keyring::Keyring,
    time::UnixTime,
    token_fault::TokenFault,
};

/// The parts of a compact token, still encoded.
pub(super) struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    signed: &'a str,
}

/// The header. Only these members are allowed: others let the sender choose the key or the reading (`jwk`, `jku`,
/// `x5u`, `x5c`, `crit`, `b64`, `zip`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header<'a> {
    #[serde(borrow)]
    pub(super) alg: Cow<'a, str>,
    #[serde(default, deserialize_with = "given")]
    pub(super) typ: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) kid: Option<Cow<'a, str>>,
}

/// The longest signature, in bytes.
const LONGEST: usize = 1024;

impl<'a> Parts<'a> {
    pub(super) fn split(compact: &'a str) -> Result<Self, TokenFault> {
        let (signed, signature) = compact.rsplit_once('.').ok_or(TokenFault::Parts)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenFault::Parts)?;
        let whole = !payload.contains('.')
            && !header.is_empty()
            && !payload.is_empty()
            && !signature.is_empty();
        whole
            .then_some(Self {
                header,
                payload,
                signature,
                signed,
            })
            .ok_or(TokenFault::Parts)
    }

    /// The payload, if the key that the header names has signed it. `accepts` checks a header that is not exactly the
    /// header of one of the keys.
    pub(super) fn genuine(
        &self,
        keys: &Keyring,
        now: UnixTime,
        accepts: impl FnOnce(&Header<'_>) -> Result<(), TokenFault>,
    ) -> Result<Vec<u8>, TokenFault> {
        let signature = self.signature()?;
        let verifies = |key: &Key| key.verifies(self.signed.as_bytes(), &signature);
        let is_genuine = if let Some(key) = keys.by_header(self.header, now) {
            verifies(key)
        } else {
            let bytes = decode(self.header)?;
            let header = Header::parse(&bytes)?;
            let algorithm = Algorithm::parse(&header.alg).ok_or(TokenFault::Algorithm)?;
            accepts(&header)?;
            match &header.kid {
                Some(kid) => {
                    let id = KeyId::parse(kid).ok_or(TokenFault::KeyId)?;
                    let key = keys.find(id.as_str(), now).ok_or(TokenFault::UnknownKey)?;
                    if key.algorithm() != algorithm {
                        return Err(TokenFault::Algorithm);
                    }
                    verifies(key)
                }
                // Tokens from before keys had names. Secrets are few, and cheap to try.
                None if algorithm == Algorithm::Hs256 => {
                    let mut secrets = (keys.keys().iter())
                        .filter(|key| key.algorithm() == algorithm)
                        .filter_map(|key| keys.find(key.id().as_str(), now))
                        .peekable();
                    if secrets.peek().is_none() {
                        return Err(TokenFault::Algorithm);
                    }
                    secrets.any(verifies)
                }
                None => return Err(TokenFault::Algorithm),
            }
        };
        match is_genuine {
            true => self.payload(),
            false => Err(TokenFault::Signature),
        }
    }

    /// The payload, if this key has signed it.
    pub(super) fn signed_with(&self, key: &Key) -> Result<Vec<u8>, TokenFault> {
        match key.verifies(self.signed.as_bytes(), &self.signature()?) {
            true => self.payload(),
            false => Err(TokenFault::Signature),
        }
    }

    /// The decoded header, not parsed.
    pub(super) fn header(&self) -> Result<Vec<u8>, TokenFault> {
        decode(self.header)
    }

    /// The decoded payload, not verified.
    pub(super) fn payload(&self) -> Result<Vec<u8>, TokenFault> {
        BASE64_URL_SAFE_NO_PAD
            .decode(self.payload)
            .map_err(|_| TokenFault::Claims)
    }

    fn signature(&self) -> Result<Vec<u8>, TokenFault> {
        let signature = BASE64_URL_SAFE_NO_PAD.decode(self.signature);
        let signature = signature.map_err(|_| TokenFault::Signature)?;
        match signature.len() <= LONGEST {
            true => Ok(signature),
            false => Err(TokenFault::Signature),
        }
    }
}

impl<'a> Header<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, TokenFault> {
        object(bytes).ok_or(TokenFault::Header)
    }
}

/// Parses one JSON object. The check is needed because serde also accepts a list of the values for a struct.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    let is_object = json.trim_ascii_start().starts_with(b"{");
    is_object.then(|| serde_json::from_slice(json).ok())?
}

/// Deserializes an optional member that must not be `null` if it is present.
pub(super) fn given<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

fn decode(part: &str) -> Result<Vec<u8>, TokenFault> {
    BASE64_URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenFault::Header)
}

/// Verifies a compact token with one key, and returns its payload.
///
/// # Errors
///
/// Why the token is refused.
pub fn verify(compact: &str, key: &Key) -> Result<Vec<u8>, TokenFault> {
    let parts = Parts::split(compact)?;
    let bytes = decode(parts.header)?;
    let header = Header::parse(&bytes)?;
    if Algorithm::parse(&header.alg) != Some(key.algorithm()) {
        return Err(TokenFault::Algorithm);
    }
    // A key without a name accepts any `kid`.
    if let Some(kid) = &header.kid {
        let id = KeyId::parse(kid).ok_or(TokenFault::KeyId)?;
        if *key.id() != id && key.id().as_str() != "-" {
            return Err(TokenFault::UnknownKey);
        }
    }
    parts.signed_with(key)
}

/// Signs a payload; `None` if the key cannot sign.
pub(super) fn sign(payload: &[u8], key: &Key) -> Option<String> {
    sign_with(key.header(), payload, key)
}

/// The same, with another `typ` than that of access tokens.
pub(super) fn sign_as(typ: &str, payload: &[u8], key: &Key) -> Option<String> {
    let header = json!({"typ": typ, "alg": key.algorithm().name(), "kid": key.id().as_str()});
    let header = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
    sign_with(&header, payload, key)
}

fn sign_with(header: &str, payload: &[u8], key: &Key) -> Option<String> {
    let mut compact = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(payload));
    let signature = key.sign(compact.as_bytes())?;
    compact.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut compact);
    Some(compact)
}

#[cfg(test)]
mod tests;
