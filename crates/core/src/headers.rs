//! Collects the headers of a client that a decision needs, in one pass. Knows only names, not their consequences.

use crate::{
    body::Body,
    cookie::Cookies,
    credential::{Credential, CredentialFault},
    identity_headers::{IdentityHeaders, KEY_NAME, LONGEST_NAME, Likeness},
    path::Tolerance,
    request::{
        Answerable, Method, Request, RequestFault, RequestLine, TokenForm,
        browser::{Browser, Once},
        is_form, is_json,
    },
    trust::Forwarded,
};

/// The headers that Doorward reads.
#[derive(Debug, Default)]
pub struct Headers<'a> {
    authorization: [Option<&'a [u8]>; 2],
    key: [Option<&'a [u8]>; 2],
    accept: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    announced: Option<&'a [u8]>,
    cookies: Cookies<'a>,
    fetch_site: Once<'a>,
    fetch_mode: Once<'a>,
    referer: Option<&'a [u8]>,
    upgrades: bool,
    partial: Option<&'a [u8]>,
    request_id: Option<&'a [u8]>,
    probe: Option<&'a [u8]>,
    external_address: Option<&'a [u8]>,
    forwarded_for: Option<&'a [u8]>,
    /// The values before the last one; a single value needs no allocation.
    forwarded_for_before: Vec<&'a [u8]>,
    doubled: bool,
    /// Whether the gateway sent the request line as pseudo-headers, as Envoy does if it sends all headers.
    pub pseudo: bool,
    aliased: bool,
}

/// The names of the client's headers that [`Headers::see`] keeps a value of. Doorward needs no others.
pub const READ: [&[u8]; 15] = [
    b"accept",
    b"access-control-request-method",
    b"authorization",
    b"content-type",
    b"cookie",
    b"origin",
    b"referer",
    b"sec-fetch-mode",
    b"sec-fetch-site",
    b"sec-websocket-version",
    b"upgrade",
    b"x-doorward-probe",
    b"x-envoy-external-address",
    b"x-forwarded-for",
    b"x-request-id",
];

impl<'a> Headers<'a> {
    /// Reads one header. Names may have any case.
    pub fn see(&mut self, identity: IdentityHeaders, name: &[u8], value: &'a [u8]) {
        let mut lower = [0; LONGEST_NAME];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return;
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let (slot, alone) = match &*lower {
            b"authorization" => {
                let [first, second] = &mut self.authorization;
                (if first.is_none() { first } else { second }, false)
            }
            own if identity
                .key_header()
                .is_some_and(|name| name.as_bytes() == own) =>
            {
                let [first, second] = &mut self.key;
                (if first.is_none() { first } else { second }, false)
            }
            b"accept" => (&mut self.accept, false),
            b"referer" => (&mut self.referer, false),
            b"cookie" => {
                self.cookies = self.cookies.and(value);
                return;
            }
            b"sec-fetch-site" => {
                self.fetch_site = self.fetch_site.and(value);
                return;
            }
            b"sec-fetch-mode" => {
                self.fetch_mode = self.fetch_mode.and(value);
                return;
            }
            // Gateways that ask over HTTP leave out `upgrade`, but not the other headers of a WebSocket.
            b"upgrade" | b"sec-websocket-key" | b"sec-websocket-version" => {
                self.upgrades = true;
                return;
            }
            b"x-request-id" => (&mut self.request_id, false),
            b"x-doorward-probe" => (&mut self.probe, false),
            b"x-forwarded-for" => {
                let before = self.forwarded_for.replace(value);
                self.forwarded_for_before.extend(before);
                return;
            }
            b"x-envoy-external-address" => (&mut self.external_address, true),
            b"content-type" => (&mut self.content_type, true),
            b"origin" => (&mut self.origin, true),
            b"access-control-request-method" => (&mut self.announced, true),
            b"x-envoy-auth-partial-body" => (&mut self.partial, true),
            b":path" => {
                self.pseudo = true;
                return;
            }
            other => {
                // Some gateways cannot remove a header, and only Doorward may name a key.
                self.aliased |= match identity.likeness(other) {
                    Likeness::Alias => true,
                    Likeness::Same => other == KEY_NAME.as_bytes(),
                    Likeness::Different => false,
                };
                return;
            }
        };
        let before = slot.replace(value);
        self.doubled |= alone && before.is_some();
    }

    /// The client's credential.
    #[must_use]
    pub fn credential(&self) -> Credential<'a> {
        let [authorization, key] =
            [&self.authorization, &self.key].map(|values| values.iter().flatten().copied());
        match (self.authorization, self.key) {
            (_, [None, _]) => Credential::parse(authorization),
            ([None, _], _) => Credential::parse_key(key),
            // A service could read the one that was not judged.
            (_, _) => Credential::Malformed(CredentialFault::Several),
        }
    }

    /// The cookies.
    #[must_use]
    pub fn cookies(&self) -> Cookies<'a> {
        self.cookies
    }

    /// `x-request-id`, or the header used instead of it, if it is safe in a log: visible ASCII; otherwise empty.
    #[must_use]
    pub fn request_id(&self, otherwise: &'a [u8]) -> &'a str {
        let shown = |id: &'a [u8]| {
            let id = id.get(..128).unwrap_or(id);
            let is_visible = id.iter().all(|byte| matches!(byte, b'!'..=b'~'));
            let id = is_visible.then(|| str::from_utf8(id).ok()).flatten();
            id.filter(|id| !id.is_empty())
        };
        let id = self.request_id.and_then(shown);
        id.or_else(|| shown(otherwise)).unwrap_or_default()
    }

    /// A question of `doorward probe`, or what looks like one.
    #[must_use]
    pub fn probe(&self) -> Option<&'a [u8]> {
        self.probe
    }

    /// The origin of the request, besides the peer.
    #[must_use]
    pub fn forwarded(&self) -> Forwarded<'a> {
        Forwarded {
            peer: None,
            external_address: self.external_address,
            forwarded_for: self.forwarded_for,
            forwarded_for_before: self.forwarded_for_before.clone(),
        }
    }

    /// Whether a body has a format that Doorward reads.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        self.content_type
            .is_some_and(|of| is_json(of) || is_form(of))
    }

    /// The format of a body, by its content type only.
    #[must_use]
    pub fn body(&self, body: &'a [u8]) -> Body<'a> {
        match (self.content_type, self.partial) {
            (None, _) => Body::Absent,
            (Some(_), _) if !self.reads_body() => Body::Absent,
            (Some(_), Some(b"true")) => Body::Partial,
            (Some(_), _) if body.is_empty() => Body::Absent,
            (Some(of), _) if is_json(of) => Body::Json(body),
            (Some(_), _) => Body::Form(body),
        }
    }

    /// The whole request.
    ///
    /// # Errors
    ///
    /// What is malformed, ambiguous, duplicated or an alias.
    pub fn request(
        &self,
        line: RequestLine<'a>,
        tolerance: Tolerance,
        body: &'a [u8],
        answerable: Answerable,
    ) -> Result<Request<'a>, RequestFault> {
        let (method, host, path) = line.parse(tolerance)?;
        if self.doubled {
            return Err(RequestFault::DoubledHeader);
        }
        // No honest client sends an alias.
        if self.aliased {
            return Err(RequestFault::AliasedHeader);
        }
        let preflight = match (method.as_str(), self.origin, self.announced) {
            ("OPTIONS", Some(_), Some(announced)) => match Method::parse(announced) {
                Ok(announced) => Some(announced),
                Err(RequestFault::MethodCase) => return Err(RequestFault::MethodCase),
                // Not a preflight of a browser.
                Err(_) => None,
            },
            _ => None,
        };
        Ok(Request {
            method,
            host,
            path,
            credential: self.credential(),
            preflight,
            body: self.body(body),
            all: asks_for_all(line.target),
            form: self.accept.map_or(TokenForm::Plain, TokenForm::accepted),
            answerable,
            browser: Browser {
                cookies: self.cookies,
                fetch_site: self.fetch_site,
                fetch_mode: self.fetch_mode,
                origin: self.origin,
                accept: self.accept,
                referer: self.referer,
                upgrades: self.upgrades,
                authority: line.host,
                target: line.target,
            },
        })
    }
}

/// Whether a query has the member `all`, with any value or none.
fn asks_for_all(target: &[u8]) -> bool {
    let query = target
        .splitn(2, |byte| *byte == b'?')
        .nth(1)
        .unwrap_or_default();
    query
        .split(|byte| *byte == b'&')
        .any(|member| member == b"all" || member.starts_with(b"all="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity_headers::{AssertionHeader, KeyHeader};

    #[test]
    fn the_value_of_every_relevant_header_is_kept() {
        for name in READ {
            let mut headers = Headers::default();
            headers.see(IdentityHeaders::default(), name, b"value");
            let shown = format!("{headers:?}");
            let before = format!("{:?}", Headers::default());
            assert_ne!(shown, before, "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn only_the_content_type_decides_whether_a_body_is_read() {
        for (content_type, reads) in [
            ("application/json", true),
            ("application/x-www-form-urlencoded", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("", false),
        ] {
            let mut headers = Headers::default();
            assert!(!headers.reads_body());
            let value = content_type.as_bytes();
            headers.see(IdentityHeaders::default(), b"content-type", value);
            assert_eq!(headers.reads_body(), reads, "{content_type}");
            let is_absent = matches!(headers.body(b"{}"), Body::Absent);
            assert_eq!(is_absent, !reads, "{content_type}");
        }
    }

    fn credential(shown: &[(&str, &str)], identity: IdentityHeaders) -> String {
        let mut headers = Headers::default();
        for (name, value) in shown {
            headers.see(identity, name.as_bytes(), value.as_bytes());
        }
        format!("{:?}", headers.credential())
    }

    #[test]
    fn two_credentials_in_one_request_are_malformed() {
        let usual = IdentityHeaders::default();
        let none = usual.with_keys(None);
        let named = usual.with_keys(Some(KeyHeader::parse("X-API-Key").unwrap()));
        let (bearer, key) = (("authorization", "Bearer a"), ("X-Api-Key", "dwk_1"));
        let (token, shown) = ("Bearer(Compact(..))", "Key(Compact(..))");
        let (several, malformed) = ("Malformed(Several)", "Malformed(Key)");
        for (headers, expected) in [
            (&[][..], "Absent"),
            (&[bearer], token),
            (&[key], shown),
            (&[key, key], several),
            (&[bearer, key], several),
            (&[key, bearer], several),
            (&[("x-api-key", "")], malformed),
            (&[("x-api-key", "a b")], malformed),
            (&[("x-api-key", "a, b")], malformed),
            (&[("x_api_key", "dwk_1")], "Absent"),
        ] {
            assert_eq!(credential(headers, named), expected, "{headers:?}");
        }
        for identity in [usual, none] {
            assert_eq!(credential(&[bearer, key], identity), token);
            assert_eq!(credential(&[key], identity), "Absent");
        }
    }

    #[test]
    fn only_other_spellings_of_the_assertion_are_refused() {
        let usual = IdentityHeaders::default();
        let own = AssertionHeader::parse("x-auth-assertion").unwrap();
        for (name, is_alias) in [("X-Auth-Assertion", false), ("x_auth.assertion", true)] {
            for (identity, refused) in [(usual, false), (usual.with_assertion(&own), is_alias)] {
                let mut headers = Headers::default();
                headers.see(identity, name.as_bytes(), b"1");
                assert_eq!(headers.aliased, refused, "{name}");
            }
        }
    }

    #[test]
    fn a_header_that_a_service_reads_as_the_name_of_a_key_is_an_alias() {
        let usual = IdentityHeaders::default();
        for (name, with_keys) in [
            ("x-auth-key", true),
            ("X-Auth-Key", true),
            ("x_auth.key", true),
            ("x-auth-keys", false),
            ("x-auth-user", false),
            ("x_auth_user", true),
        ] {
            for (identity, refused) in [
                (usual, name == "x_auth_user"),
                (usual.with_keys(None), with_keys),
            ] {
                let mut headers = Headers::default();
                headers.see(identity, name.as_bytes(), b"1");
                assert_eq!(headers.aliased, refused, "{name}");
            }
        }
    }
}
