//! The keys that an issuer publishes (RFC 7517, 5).

use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Issuer;
use crate::key::{Algorithm, Key};

pub(super) struct Published {
    /// As published: other issuers use key ids that Doorward's own keys cannot have.
    pub(super) kid: Box<str>,
    pub(super) key: Key,
}

/// Why a JWK Set is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentFault {
    /// Longer than the limit.
    #[error("has more than {} KiB", Issuer::LONGEST / 1024)]
    Long,
    /// Not a JWK Set.
    #[error("is not a JWK Set (RFC 7517, 5)")]
    Syntax,
    /// More keys than the limit.
    #[error("has more than {} keys", Issuer::MOST_KEYS)]
    Many,
    /// It contains no usable key.
    #[error(
        "has no key that can be used: public, for signatures, of a known kind and strength, with a kid"
    )]
    NoKey,
}

/// Key ids of other issuers are looked up in memory and shown in the log.
pub(super) fn is_possible(kid: &str) -> bool {
    (1..=256).contains(&kid.len()) && kid.bytes().all(|byte| byte.is_ascii_graphic())
}

pub(super) fn read(document: &[u8]) -> Result<Vec<Published>, DocumentFault> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Value>,
    }

    if document.len() > Issuer::LONGEST {
        return Err(DocumentFault::Long);
    }
    let document = serde_json::from_slice(document);
    let Document { keys } = document.map_err(|_| DocumentFault::Syntax)?;
    if keys.len() > Issuer::MOST_KEYS {
        return Err(DocumentFault::Many);
    }
    let usable: Vec<_> = keys.iter().filter_map(usable).collect();
    match usable.is_empty() {
        true => Err(DocumentFault::NoKey),
        false => Ok(usable),
    }
}

/// A usable key; a document may contain other keys.
fn usable(jwk: &Value) -> Option<Published> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let kid = text("kid").filter(|kid| is_possible(kid))?;
    let signs = match (jwk.get("use"), jwk.get("key_ops")) {
        (Some(purpose), _) => purpose == "sig",
        (None, Some(operations)) => {
            let mut operations = operations.as_array()?.iter();
            operations.any(|operation| operation == "verify")
        }
        (None, None) => true,
    };
    // A secret or private key that is published lets anybody sign.
    let is_public = text("kty") != Some("oct") && jwk.get("d").is_none() && jwk.get("k").is_none();
    if !signs || !is_public {
        return None;
    }
    let members = ["kty", "crv", "alg", "n", "e", "x", "y"];
    let mut public: Map<String, Value> = (members.iter())
        .filter_map(|name| Some(((*name).to_owned(), jwk.get(name)?.clone())))
        .collect();
    // Some issuers omit it and sign with the algorithm that all must support (OpenID Connect Core, 15.1).
    if text("kty") == Some("RSA") {
        let usual = || Algorithm::Rs256.name().into();
        public.entry("alg").or_insert_with(usual);
    }
    let public: Jwk = serde_json::from_value(Value::Object(public)).ok()?;
    let key = Key::from_published(public).ok()?;
    Some(Published {
        kid: kid.into(),
        key,
    })
}
