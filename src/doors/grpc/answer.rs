//! Writes a `CheckResponse` into one buffer, with the frame of gRPC around it. Contains no rule.
//!
//! Envoy reads `status.code` alone, and an unset status means "allow"; so every answer is made by [`respond`], from a type
//! in which a denial has a code that is not zero.

use std::{borrow::Cow, num::NonZeroI32};

use bytes::Bytes;

use super::protobuf::{field_length, number, number_length, open, text, text_length};
use crate::domain::{decision::Answer, header_edits::HeaderEdits};

/// The bytes before a message: whether it is compressed, and its length.
pub(super) const PREFIX: usize = 5;

/// A `CheckResponse` in its frame.
pub struct Encoded(Bytes);

impl Encoded {
    /// The message without the frame.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.0.get(PREFIX..).unwrap_or_default()
    }

    pub(super) fn into_frame(self) -> Bytes {
        self.0
    }
}

/// A header to be set.
pub(super) type Header<'a> = (&'static str, Cow<'a, str>);

/// The answer to Envoy: the code that decides, and the response that matches it.
pub(super) enum Verdict<'a> {
    /// The edits of the request, and headers for the response to it.
    Allow(HeaderEdits<'a>, &'a [Header<'a>]),
    /// Envoy sends the answer to the client unchanged, also one with status 200.
    Deny(NonZeroI32, Answer),
}

/// The fields that are written, of messages in this order. All numbers are below 16, so that a tag is one byte.
mod field {
    pub(super) const STATUS: u8 = 1;
    pub(super) const STATUS_CODE: u8 = 1;
    pub(super) const DENIED_RESPONSE: u8 = 2;
    pub(super) const OK_RESPONSE: u8 = 3;
    pub(super) const DYNAMIC_METADATA: u8 = 4;
    pub(super) const DENIED_STATUS: u8 = 1;
    pub(super) const DENIED_STATUS_CODE: u8 = 1;
    pub(super) const DENIED_HEADERS: u8 = 2;
    pub(super) const DENIED_BODY: u8 = 3;
    pub(super) const OK_HEADERS: u8 = 2;
    pub(super) const OK_HEADERS_TO_REMOVE: u8 = 5;
    pub(super) const OK_RESPONSE_HEADERS_TO_ADD: u8 = 6;
    pub(super) const OPTION_HEADER: u8 = 1;
    pub(super) const OPTION_APPEND: u8 = 2;
    pub(super) const OPTION_APPEND_ACTION: u8 = 3;
    pub(super) const HEADER_KEY: u8 = 1;
    pub(super) const HEADER_VALUE: u8 = 2;
}

/// `OVERWRITE_IF_EXISTS_OR_ADD`.
const OVERWRITE: i32 = 2;

/// The only place that makes an [`Encoded`]. No metadata means that none is sent.
pub(super) fn respond(verdict: &Verdict<'_>, metadata: &[u8]) -> Encoded {
    let (code, response, length) = match verdict {
        Verdict::Allow(edits, added) => (0, field::OK_RESPONSE, ok_length(edits, added)),
        Verdict::Deny(code, answer) => (code.get(), field::DENIED_RESPONSE, denied_length(answer)),
    };
    let status = number_length(code);
    let whole = field_length(status) + field_length(length) + text_length(metadata);
    let mut out = Vec::with_capacity(PREFIX + whole);
    out.push(0);
    out.extend(u32::try_from(whole).unwrap_or(u32::MAX).to_be_bytes());
    open(&mut out, field::STATUS, status);
    number(&mut out, field::STATUS_CODE, code);
    open(&mut out, response, length);
    match verdict {
        Verdict::Allow(edits, added) => ok(&mut out, edits, added),
        Verdict::Deny(_, answer) => denied(&mut out, answer),
    }
    text(&mut out, field::DYNAMIC_METADATA, metadata);
    Encoded(out.into())
}

fn ok_length(edits: &HeaderEdits<'_>, added: &[Header<'_>]) -> usize {
    let set = edits.set().map(|(name, value)| option_field(name, value));
    let remove = edits.remove().map(|name| field_length(name.len()));
    let added = added.iter().map(|(name, value)| match *name {
        COOKIE => field_length(field_length(header_length(name, value))),
        _ => option_field(name, value),
    });
    set.chain(remove).chain(added).sum()
}

fn ok(out: &mut Vec<u8>, edits: &HeaderEdits<'_>, added: &[Header<'_>]) {
    for (name, value) in edits.set() {
        option(out, field::OK_HEADERS, name, value);
    }
    for name in edits.remove() {
        text(out, field::OK_HEADERS_TO_REMOVE, name.as_bytes());
    }
    for (name, value) in added {
        match *name {
            COOKIE => added_option(out, field::OK_RESPONSE_HEADERS_TO_ADD, name, value),
            _ => option(out, field::OK_RESPONSE_HEADERS_TO_ADD, name, value),
        }
    }
}

fn denied_length(answer: &Answer) -> usize {
    let Answer {
        status,
        headers,
        body,
    } = answer;
    let headers = headers
        .iter()
        .map(|(name, value)| option_field(name, value));
    field_length(number_length(i32::from(*status)))
        + headers.sum::<usize>()
        + text_length(body.as_bytes())
}

fn denied(out: &mut Vec<u8>, answer: &Answer) {
    let Answer {
        status,
        headers,
        body,
    } = answer;
    let status = i32::from(*status);
    open(out, field::DENIED_STATUS, number_length(status));
    number(out, field::DENIED_STATUS_CODE, status);
    for (name, value) in headers {
        option(out, field::DENIED_HEADERS, name, value);
    }
    text(out, field::DENIED_BODY, body.as_bytes());
}

fn header_length(name: &str, value: &str) -> usize {
    text_length(name.as_bytes()) + text_length(value.as_bytes())
}

fn option_length(name: &str, value: &str) -> usize {
    field_length(header_length(name, value)) + field_length(0) + number_length(OVERWRITE)
}

fn option_field(name: &str, value: &str) -> usize {
    field_length(option_length(name, value))
}

/// A header that replaces all of its name. Envoy up to 1.36 obeys `append`, later versions `append_action` where `append`
/// is unset; with both, every version replaces what the client sent.
fn option(out: &mut Vec<u8>, tag: u8, name: &str, value: &str) {
    open(out, tag, option_length(name, value));
    open(out, field::OPTION_HEADER, header_length(name, value));
    text(out, field::HEADER_KEY, name.as_bytes());
    text(out, field::HEADER_VALUE, value.as_bytes());
    // A message of a bool that is false.
    open(out, field::OPTION_APPEND, 0);
    number(out, field::OPTION_APPEND_ACTION, OVERWRITE);
}

/// The only header of an answer that the service may have, too.
const COOKIE: &str = "set-cookie";

/// A header beside others of its name. With neither field, every version of Envoy adds it to the response.
fn added_option(out: &mut Vec<u8>, tag: u8, name: &str, value: &str) {
    open(out, tag, field_length(header_length(name, value)));
    open(out, field::OPTION_HEADER, header_length(name, value));
    text(out, field::HEADER_KEY, name.as_bytes());
    text(out, field::HEADER_VALUE, value.as_bytes());
}

/// A denial.
#[cfg(test)]
pub(super) fn any_answer() -> Encoded {
    let answer = Answer {
        status: 403,
        headers: vec![("cache-control", "no-store".into())],
        body: "Forbidden".into(),
    };
    respond(&Verdict::Deny(NonZeroI32::MAX, answer), b"")
}
