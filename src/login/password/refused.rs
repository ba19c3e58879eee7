//! The names of formats that Doorward recognises and does not verify.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::text::is_crypt64;

/// Names what a text seems to be. `users hashes` shows it, so that people know why these users cannot log in.
pub(super) fn name(text: &str) -> Option<&'static str> {
    match text {
        "" => return Some("empty"),
        "*" => return Some("locked"),
        _ => {}
    }
    by_tag(text)
        .or_else(|| by_prefix(text))
        .or_else(|| by_shape(text))
}

/// `{TAG}` of LDAP directories, Dovecot and Spring Security.
fn by_tag(text: &str) -> Option<&'static str> {
    let (tag, rest) = text.strip_prefix('{')?.split_once('}')?;
    let known = match tag.to_ascii_lowercase().as_str() {
        "md5" | "plain-md5" | "ldap-md5" => "unsalted-md5",
        "smd5" => "salted-md5",
        "sha-1" | "sha-256" | "sha256" => "spring-digest",
        "nt" | "ntlm" => "nt-hash",
        "noop" | "plain" | "cleartext" => "plaintext-tagged",
        "crypt" if is_des(rest) => "des-crypt",
        _ => return None,
    };
    Some(known)
}

fn by_prefix(text: &str) -> Option<&'static str> {
    let found = PREFIXES.iter().find(|(prefix, _)| text.starts_with(prefix));
    found.map(|(_, name)| *name)
}

/// The first that fits counts.
const PREFIXES: &[(&str, &str)] = &[
    ("$2x$", "bcrypt-2x"),
    ("$2$", "bcrypt-2"),
    ("$3$", "nt-hash"),
    ("$7$", "scrypt-7"),
    ("$gy$", "gost-yescrypt"),
    ("$md5$", "sun-md5"),
    ("$md5,", "sun-md5"),
    ("$sha1$", "sha1-crypt"),
    ("$A$", "mysql-caching-sha2"),
    ("U$", "drupal-md5"),
    ("unsalted_md5$", "unsalted-md5"),
    ("unsalted_sha1$", "unsalted-sha1"),
    ("md5$$", "unsalted-md5"),
    ("sha1$$", "unsalted-sha1"),
    ("sha256$$", "unsalted-sha256"),
    ("sha512$$", "unsalted-sha512"),
    ("md5$", "salted-md5"),
    ("crypt$", "des-crypt"),
    ("plain$", "plaintext-tagged"),
    ("!", "locked"),
];

fn by_shape(text: &str) -> Option<&'static str> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(rest) = text.strip_prefix('*') {
        return (rest.len() == 40 && is_hex(rest)).then_some("mysql-native");
    }
    match text.len() {
        32 if is_hex(text) => Some("unsalted-md5"),
        40 if is_hex(text) => Some("unsalted-sha1"),
        56 if is_hex(text) => Some("unsalted-sha224"),
        64 if is_hex(text) => Some("unsalted-sha256"),
        96 if is_hex(text) => Some("unsalted-sha384"),
        128 if is_hex(text) => Some("unsalted-sha512"),
        ASPNET_V2 => {
            let bytes = BASE64_STANDARD.decode(text).ok()?;
            (bytes.first() == Some(&0)).then_some("aspnet-identity-v2")
        }
        _ => None,
    }
}

/// 49 bytes in Base64: a zero, a salt of 16 bytes, an output of 32.
const ASPNET_V2: usize = 68;

fn is_des(text: &str) -> bool {
    text.len() == 13 && is_crypt64(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_refused_have_names() {
        let hex = |length: usize| "0123456789abcdef".repeat(8)[..length].to_owned();
        for (text, expected) in [
            ("", "empty"),
            ("!", "locked"),
            ("!!", "locked"),
            ("*", "locked"),
            ("{MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==", "unsalted-md5"),
            ("{SMD5}abc", "salted-md5"),
            ("{noop}secret", "plaintext-tagged"),
            ("{CRYPT}ab1dkRBbx7jTo", "des-crypt"),
            ("{SHA-256}{salt}abc", "spring-digest"),
            ("$2x$04$x", "bcrypt-2x"),
            ("$gy$j9T$salt$hash", "gost-yescrypt"),
            ("$3$$8846f7eaee8fb117ad06bdd830b7586c", "nt-hash"),
            ("U$S$D12345678", "drupal-md5"),
            ("md5$salt$hash", "salted-md5"),
            ("md5$$hash", "unsalted-md5"),
            ("sha1$$hash", "unsalted-sha1"),
            ("*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4", "mysql-native"),
            (&hex(32), "unsalted-md5"),
            (&hex(40), "unsalted-sha1"),
            (&hex(64), "unsalted-sha256"),
            (&hex(128), "unsalted-sha512"),
            (
                "ANXrDknc7fGPpigibZXXZFMX4aoqz44JveK6jQuwY3eH/UyPhvr5xTPeGYEckLxz9A==",
                "aspnet-identity-v2",
            ),
        ] {
            assert_eq!(name(text), Some(expected), "{text}");
        }
        for text in ["secret", "{SSHA}x", "$argon2id$", "0123", "{", "{}", "ä"] {
            assert_eq!(name(text), None, "{text}");
        }
    }
}
