//! Parses stored hashes; only the text determines the scheme.

use super::{
    PasswordHash, Scheme,
    argon2::Argon2Hash,
    bcrypt::Bcrypt,
    crypt::{Md5Crypt, Phpass, ShaCrypt},
    drupal::Drupal,
    ldap::LdapSha,
    pbkdf2::Pbkdf2,
    plaintext::Plaintext,
    salted_sha::SaltedSha,
    scrypt::Scrypt,
    stored::Stored,
    yescrypt::Yescrypt,
};

/// No text of a known format is longer, and no password is.
const MAX_TEXT: usize = 1024;

pub(super) fn parse(text: &str, plaintext_allowed: bool) -> Option<Box<dyn Stored + '_>> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let tagged = text.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    match tagged {
        Some((tag, rest)) if rest.starts_with('$') => {
            let known = TAGS.iter().any(|known| tag.eq_ignore_ascii_case(known));
            known.then(|| modular(rest)).flatten()
        }
        Some((tag, rest)) => boxed(LdapSha::parse(tag, rest)),
        None if text.starts_with('$') => modular(text),
        None => named(text)
            .or_else(|| boxed(Pbkdf2::parse_aspnet(text)))
            .or_else(|| {
                let plaintext = plaintext_allowed.then(|| Plaintext::parse(text));
                boxed(plaintext.flatten())
            }),
    }
}

/// Recognises the scheme of a stored text, whether or not its cost is within the limits.
pub(super) fn scheme(stored: &PasswordHash, plaintext_allowed: bool) -> Scheme {
    parse(stored.expose(), plaintext_allowed).map_or(Scheme::Unknown, |stored| stored.scheme())
}

/// The tags of OpenLDAP, Dovecot and Spring Security before a hash that names its scheme itself.
const TAGS: &[&str] = &[
    "CRYPT",
    "ARGON2",
    "ARGON2I",
    "ARGON2ID",
    "BCRYPT",
    "BLF-CRYPT",
    "MD5-CRYPT",
    "SHA256-CRYPT",
    "SHA512-CRYPT",
];

/// `$id$..`: PHC and the modular crypt format.
fn modular(text: &str) -> Option<Box<dyn Stored + '_>> {
    let (id, _) = text.strip_prefix('$')?.split_once('$')?;
    match id {
        "argon2id" | "argon2i" | "argon2d" => boxed(Argon2Hash::parse(text)),
        "2a" | "2b" | "2y" => boxed(Bcrypt::parse(text)),
        "bcrypt-sha256" => boxed(Bcrypt::parse_passlib_sha256(text)),
        "wp" => boxed(Bcrypt::parse_wordpress(text)),
        "scrypt" => boxed(Scrypt::parse_phc(text)),
        "y" => boxed(Yescrypt::parse(text)),
        "pbkdf2" | "pbkdf2-sha1" | "pbkdf2-sha256" | "pbkdf2-sha512" => {
            boxed(Pbkdf2::parse_modular(text))
        }
        "5" | "6" => boxed(ShaCrypt::parse(text)),
        "1" | "apr1" => boxed(Md5Crypt::parse(text)),
        "P" | "H" => boxed(Phpass::parse(text)),
        "S" => boxed(Drupal::parse(text)),
        _ => None,
    }
}

/// `name$..` of Django and of older Werkzeugs, and `name:..` of Werkzeug.
fn named(text: &str) -> Option<Box<dyn Stored + '_>> {
    let end = text.find(['$', ':', '_'])?;
    let (name, rest) = (text.get(..end)?, text.get(end + 1..)?);
    match (name, text.as_bytes().get(end)?) {
        ("argon2", b'$') => boxed(Argon2Hash::parse(text.get(end..)?)),
        ("bcrypt", b'$') => boxed(Bcrypt::parse(rest)),
        ("bcrypt", b'_') => boxed(Bcrypt::parse_django_sha256(rest.strip_prefix("sha256$")?)),
        ("pbkdf2", b'_') => boxed(Pbkdf2::parse_django(rest)),
        ("pbkdf2", b':') => boxed(Pbkdf2::parse_werkzeug(rest)),
        ("scrypt", b'$') => boxed(Scrypt::parse_django(rest)),
        ("sha1" | "sha224" | "sha256" | "sha384" | "sha512", b'$') => {
            boxed(SaltedSha::parse(name, rest))
        }
        ("scrypt", b':') => boxed(Scrypt::parse_werkzeug(rest)),
        _ => None,
    }
}

fn boxed<'a>(stored: Option<impl Stored + 'a>) -> Option<Box<dyn Stored + 'a>> {
    stored.map(|stored| Box::new(stored) as Box<dyn Stored>)
}
