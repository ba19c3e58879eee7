//! Request methods (RFC 9110, 9), and which of them services confuse.

use std::fmt;

use super::RequestFault;

/// A request method: a token of RFC 9110, 5.6.2, that does not differ from a registered method only by case.
///
/// Methods are case-sensitive, and many services convert them to upper case before they choose a handler.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Method<'a>(&'a str);

impl<'a> Method<'a> {
    /// Reads a method of at most 32 bytes.
    ///
    /// # Errors
    ///
    /// [`RequestFault::Method`], or [`RequestFault::MethodCase`] if it differs from a registered method only by case.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RequestFault> {
        if bytes.is_empty() || bytes.len() > 32 || !bytes.iter().all(|byte| is_tchar(*byte)) {
            return Err(RequestFault::Method);
        }
        // Registered methods have no lower-case letter.
        if bytes.iter().any(u8::is_ascii_lowercase)
            && REGISTERED
                .iter()
                .any(|known| known.as_bytes().eq_ignore_ascii_case(bytes))
        {
            return Err(RequestFault::MethodCase);
        }
        let method = str::from_utf8(bytes).map_err(|_| RequestFault::Method)?;
        Ok(Self(method))
    }

    /// The method as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// Whether it is `HEAD`, which services answer with the handler of `GET` (RFC 9110, 9.3.2).
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.0 == "HEAD"
    }

    /// Whether it is in IANA's registry of HTTP methods.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        REGISTERED.contains(&self.0)
    }
}

impl fmt::Debug for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The HTTP Method Registry of IANA, without `*`, which has no case.
const REGISTERED: [&str; 40] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn methods_are_tokens() {
        for good in ["GET", "POST", "M-SEARCH", "purge", "X!#$%&'*+.^_`|~1"] {
            assert_eq!(Method::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        for bad in ["", "GE T", "GET\r\n", "GÉT", "GET/", &"A".repeat(33)] {
            let fault = Method::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(fault, RequestFault::Method, "{bad:?}");
        }
    }

    #[test]
    fn the_registry_is_in_upper_case() {
        assert!(REGISTERED.is_sorted());
        for known in REGISTERED {
            assert_eq!(known, known.to_ascii_uppercase());
            assert!(Method::parse(known.as_bytes()).unwrap().is_registered());
        }
    }

    proptest! {
        /// A service that converts the method to upper case runs what was judged.
        #[test]
        fn a_registered_method_in_another_case_is_refused(
            known in prop::sample::select(&REGISTERED[..]),
            lower: [bool; 32],
        ) {
            let sent: String = known
                .chars()
                .zip(lower)
                .map(|(letter, lower)| if lower { letter.to_ascii_lowercase() } else { letter })
                .collect();
            let read = Method::parse(sent.as_bytes());
            if sent == known {
                prop_assert!(read.is_ok());
            } else {
                prop_assert_eq!(read.unwrap_err(), RequestFault::MethodCase);
            }
        }
    }
}
