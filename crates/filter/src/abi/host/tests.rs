//! The hooks in the orders that Envoy has, and in others.

mod configurations;
mod requests;

use serde_json::{Value, json};

use super::*;
use crate::fuzzing::content;

/// A configuration with the content of the fuzz target, and these members.
fn configured(members: Value) -> FakeConfig {
    FakeConfig::filter(with(members).as_bytes()).unwrap()
}

fn with(members: Value) -> String {
    let mut text = json!({ "content": content(), "metadata": "doorward" });
    let Value::Object(members) = members else {
        panic!("not an object");
    };
    text.as_object_mut().unwrap().extend(members);
    text.to_string()
}

fn usual() -> FakeConfig {
    configured(json!({ "actions": { "cluster": "doorward", "max_body": 64 } }))
}

const LINE: [(&[u8], &[u8]); 2] = [(b":method", b"GET"), (b":authority", b"shop.example")];

/// The headers of a `GET`, and more.
fn get<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a [u8], &'a [u8])> {
    let more = more
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let path = (&b":path"[..], path.as_bytes());
    LINE.into_iter().chain([path]).chain(more).collect()
}

fn value<'a>(headers: &'a [Owned], name: &str) -> Option<&'a str> {
    let mut found = headers.iter().filter(|(own, _)| own == name.as_bytes());
    let value = found
        .next()
        .map(|(_, value)| str::from_utf8(value).unwrap());
    assert!(found.next().is_none(), "two headers {name}");
    value
}

/// What the other tests rely on: `make sanitize` demands that AddressSanitizer refuses this one. The header is read after its
/// memory has moved.
#[cfg(refused)]
#[test]
fn a_use_after_the_end_is_found() {
    let config = usual();
    let request = config.request(&[], None);
    let header = request.record.lend(b"value");
    request.record.moves();
    // SAFETY: none; that is what the test is for.
    let bytes = unsafe { header.bytes() };
    assert_ne!(bytes.first(), Some(&std::hint::black_box(b'v')));
}
