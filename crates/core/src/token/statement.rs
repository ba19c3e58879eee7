//! What a token says, without verifying it.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

use crate::credential::Compact;

/// The header and the claims of a token, not verified; for people who look for a mistake.
#[derive(Debug, Serialize)]
pub struct Statement {
    /// The header, if it is JSON.
    pub header: Option<serde_json::Value>,
    /// The claims, if they are JSON.
    pub claims: Option<serde_json::Value>,
}

impl Statement {
    /// Decodes what can be decoded, and verifies nothing.
    #[must_use]
    pub fn read(compact: Compact<'_>) -> Self {
        let mut parts = compact.expose().split('.');
        Self {
            header: parts.next().and_then(decode),
            claims: parts.next().and_then(decode),
        }
    }
}

fn decode<T: DeserializeOwned>(part: &str) -> Option<T> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}
