//! The fields of a `CheckRequest` that the door uses, as views into the received bytes.
//!
//! prost reads the same request with the types of `doors/wire`, or both refuse it.

use super::protobuf::{Field, Fields, Malformed};
use crate::doors::wire::envoy::{
    config::core::v3::address::Address,
    service::auth::v3::{CheckRequest, attribute_context::HttpRequest},
};

/// A `CheckRequest`.
#[derive(Default, PartialEq, Eq)]
pub struct CheckView<'a> {
    /// `attributes.source.address.socket_address.address`, or nothing.
    pub(super) source: &'a [u8],
    pub(super) http: Option<HttpView<'a>>,
}

/// An `AttributeContext.HttpRequest`.
#[derive(Default, PartialEq, Eq)]
pub struct HttpView<'a> {
    pub(super) id: &'a [u8],
    pub(super) method: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) host: &'a [u8],
    pub(super) body: &'a [u8],
    pub(super) raw_body: &'a [u8],
    /// `headers`, in their order: names and values.
    pub(super) headers: Vec<Header<'a>>,
    /// `header_map`, with the raw value of each header if it has one.
    pub(super) raw_headers: Vec<Header<'a>>,
}

/// The name and the value of a header.
pub(super) type Header<'a> = (&'a [u8], &'a [u8]);

/// More headers than most requests have, so that they need one allocation.
const MOST: usize = 32;

/// The numbers of fields in `proto/`.
mod number {
    pub(super) const ATTRIBUTES: u32 = 1;
    pub(super) const SOURCE: u32 = 1;
    pub(super) const ADDRESS: u32 = 1;
    pub(super) const SOCKET_ADDRESS: u32 = 1;
    pub(super) const SOCKET_ADDRESS_ADDRESS: u32 = 2;
    pub(super) const REQUEST: u32 = 4;
    pub(super) const HTTP: u32 = 2;
    pub(super) const ID: u32 = 1;
    pub(super) const METHOD: u32 = 2;
    pub(super) const HEADERS: u32 = 3;
    pub(super) const PATH: u32 = 4;
    pub(super) const HOST: u32 = 5;
    pub(super) const BODY: u32 = 11;
    pub(super) const RAW_BODY: u32 = 12;
    pub(super) const HEADER_MAP: u32 = 13;
    pub(super) const HEADER_MAP_HEADERS: u32 = 1;
    pub(super) const KEY: u32 = 1;
    pub(super) const VALUE: u32 = 2;
    pub(super) const RAW_VALUE: u32 = 3;
}

impl<'a> CheckView<'a> {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// If prost refuses it.
    pub fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut check = Self::default();
        let fields = Fields::of(message);
        within(fields, number::ATTRIBUTES, |fields| {
            check.attributes(fields)
        })?;
        Ok(check)
    }

    /// The request that is checked.
    #[must_use]
    pub fn http(&self) -> Option<&HttpView<'a>> {
        self.http.as_ref()
    }

    /// Fields of a message that occurs twice are merged.
    fn attributes(&mut self, attributes: Fields<'a>) -> Result<(), Malformed> {
        for field in attributes {
            let field = field?;
            match field.number {
                number::SOURCE => self.source(field.message()?)?,
                number::REQUEST => within(field.message()?, number::HTTP, |http| {
                    self.http.get_or_insert_default().merge(http)
                })?,
                _ => {}
            }
        }
        Ok(())
    }

    fn source(&mut self, peer: Fields<'a>) -> Result<(), Malformed> {
        within(peer, number::ADDRESS, |address| {
            within(address, number::SOCKET_ADDRESS, |socket| {
                for field in socket {
                    let field = field?;
                    if field.number == number::SOCKET_ADDRESS_ADDRESS {
                        self.source = field.bytes()?;
                    }
                }
                Ok(())
            })
        })
    }
}

/// Reads the messages in the fields of this number.
fn within<'a>(
    fields: Fields<'a>,
    number: u32,
    mut read: impl FnMut(Fields<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    for field in fields {
        let field = field?;
        if field.number == number {
            read(field.message()?)?;
        }
    }
    Ok(())
}

impl<'a> HttpView<'a> {
    /// The headers that count. With `encode_raw_headers`, Envoy leaves `headers` empty; if a caller fills both, the raw
    /// ones count.
    pub(super) fn headers(&self) -> &[Header<'a>] {
        match &*self.raw_headers {
            [] => &self.headers,
            raw => raw,
        }
    }

    /// The body that counts, likewise.
    pub(super) fn body(&self) -> &'a [u8] {
        match self.raw_body {
            [] => self.body,
            raw => raw,
        }
    }

    fn merge(&mut self, http: Fields<'a>) -> Result<(), Malformed> {
        for field in http {
            let field = field?;
            let text = match field.number {
                number::HEADERS => {
                    add(&mut self.headers, entry(field)?);
                    continue;
                }
                number::HEADER_MAP => {
                    within(field.message()?, number::HEADER_MAP_HEADERS, |fields| {
                        add(&mut self.raw_headers, value(fields)?);
                        Ok(())
                    })?;
                    continue;
                }
                number::ID => &mut self.id,
                number::METHOD => &mut self.method,
                number::PATH => &mut self.path,
                number::HOST => &mut self.host,
                number::BODY => &mut self.body,
                number::RAW_BODY => &mut self.raw_body,
                _ => continue,
            };
            *text = field.bytes()?;
        }
        Ok(())
    }
}

/// The same view of what prost has read, for tests and fuzz targets that compare both.
impl<'a> From<&'a CheckRequest> for CheckView<'a> {
    fn from(check: &'a CheckRequest) -> Self {
        let attributes = check.attributes.as_ref();
        let source = attributes.and_then(|all| all.source.as_ref()?.address.as_ref());
        let http = attributes.and_then(|all| all.request.as_ref()?.http.as_ref());
        Self {
            source: match source.and_then(|address| address.address.as_ref()) {
                Some(Address::SocketAddress(socket)) => &socket.address,
                None => b"",
            },
            http: http.map(HttpView::from),
        }
    }
}

impl<'a> From<&'a HttpRequest> for HttpView<'a> {
    fn from(http: &'a HttpRequest) -> Self {
        let HttpRequest {
            id,
            method,
            headers,
            path,
            host,
            body,
            raw_body,
            header_map,
        } = http;
        let raw = header_map.iter().flat_map(|map| &map.headers);
        Self {
            id,
            method,
            path,
            host,
            body,
            raw_body,
            headers: (headers.iter())
                .map(|header| (&*header.key, &*header.value))
                .collect(),
            raw_headers: raw
                .map(|header| match header.raw_value.is_empty() {
                    true => (&*header.key, &*header.value),
                    false => (&*header.key, &*header.raw_value),
                })
                .collect(),
        }
    }
}

fn add<'a>(headers: &mut Vec<Header<'a>>, header: Header<'a>) {
    if headers.is_empty() {
        headers.reserve(MOST);
    }
    headers.push(header);
}

/// An entry of `map<string, string>`.
fn entry(field: Field<'_>) -> Result<Header<'_>, Malformed> {
    let (mut key, mut value): Header<'_> = Default::default();
    for field in field.message()? {
        let field = field?;
        match field.number {
            number::KEY => key = field.bytes()?,
            number::VALUE => value = field.bytes()?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// A `HeaderValue`.
fn value(fields: Fields<'_>) -> Result<Header<'_>, Malformed> {
    let (mut key, mut value, mut raw): (&[u8], &[u8], &[u8]) = Default::default();
    for field in fields {
        let field = field?;
        match field.number {
            number::KEY => key = field.bytes()?,
            number::VALUE => value = field.bytes()?,
            number::RAW_VALUE => raw = field.bytes()?,
            _ => {}
        }
    }
    Ok((key, if raw.is_empty() { value } else { raw }))
}

#[cfg(test)]
mod tests;
