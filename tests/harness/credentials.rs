//! What a client shows: a password, or a token that must not pass.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// An `Authorization` value with a user name and a password.
pub fn basic(username: &str, password: &str) -> String {
    let pair = format!("{username}:{password}");
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

/// A token with a changed signature. Text without a dot is no JWT; for it, a malformed token.
pub fn tampered(bearer: &str) -> String {
    let (rest, signature) = bearer.rsplit_once('.').unwrap_or(("Bearer a.b", "cc"));
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{rest}.{first}{}", signature.get(1..).unwrap_or_default())
}
