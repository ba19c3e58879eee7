//! The SHA schemes of LDAP directories (RFC 2307 and what grew around it).

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512},
};

use super::{
    Scheme,
    stored::{Memory, Stored},
    text::padded,
};

pub(super) struct LdapSha {
    algorithm: &'static Algorithm,
    digest: Vec<u8>,
    salt: Vec<u8>,
}

impl LdapSha {
    pub(super) fn parse(scheme: &str, text: &str) -> Option<Self> {
        let (algorithm, salted) = match scheme.to_ascii_uppercase().as_str() {
            "SHA" => (&SHA1_FOR_LEGACY_USE_ONLY, false),
            "SSHA" => (&SHA1_FOR_LEGACY_USE_ONLY, true),
            "SHA256" => (&SHA256, false),
            "SSHA256" => (&SHA256, true),
            "SHA512" => (&SHA512, false),
            "SSHA512" => (&SHA512, true),
            _ => return None,
        };
        let mut digest = padded(text)?;
        let whole = digest.len() >= algorithm.output_len();
        let salt = whole.then(|| digest.split_off(algorithm.output_len()))?;
        (salt.is_empty() != salted).then_some(Self {
            algorithm,
            digest,
            salt,
        })
    }
}

impl Stored for LdapSha {
    fn scheme(&self) -> Scheme {
        Scheme::LdapSha
    }

    fn is_slow(&self) -> bool {
        false
    }

    fn matches(&self, password: &[u8], _: &Memory) -> bool {
        let mut context = Context::new(self.algorithm);
        context.update(password);
        context.update(&self.salt);
        verify_slices_are_equal(context.finish().as_ref(), &self.digest).is_ok()
    }
}
