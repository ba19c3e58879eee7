//! The reader compared with prost: both read the same request, or both refuse the bytes.

use proptest::{prelude::*, strategy::Union};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};

use super::*;
use crate::doors::wire::envoy::{
    config::core::v3::{Address as Place, HeaderMap, HeaderValue, SocketAddress},
    service::auth::v3::{
        AttributeContext, attribute_context,
        attribute_context::{Peer, http_request::HeadersEntry},
    },
};

/// Whether both accept the message; panics if they disagree.
fn is_read(message: &[u8]) -> bool {
    match (CheckRequest::decode(message), CheckView::read(message)) {
        (Ok(prost), Ok(view)) => {
            assert!(CheckView::from(&prost) == view, "{message:x?}");
            true
        }
        (Err(_), Err(_)) => false,
        (Ok(_), Err(_)) => panic!("prost reads {message:x?}"),
        (Err(fault), Ok(_)) => panic!("prost refuses {message:x?}: {fault}"),
    }
}

/// A message of the contract: its fields that are read, each with the message in it.
struct Shape(&'static [(u32, Option<&'static Shape>)]);

const CHECK: Shape = Shape(&[(1, Some(&ATTRIBUTES))]);
const ATTRIBUTES: Shape = Shape(&[(1, Some(&PEER)), (4, Some(&REQUEST))]);
const PEER: Shape = Shape(&[(1, Some(&Shape(&[(1, Some(&SOCKET))])))]);
const SOCKET: Shape = Shape(&[(2, None)]);
const REQUEST: Shape = Shape(&[(2, Some(&HTTP))]);
const HTTP: Shape = Shape(&[
    (1, None),
    (2, None),
    (3, Some(&HEADER)),
    (4, None),
    (5, None),
    (11, None),
    (12, None),
    (13, Some(&Shape(&[(1, Some(&HEADER))]))),
]);
const HEADER: Shape = Shape(&[(1, None), (2, None), (3, None)]);

fn delimited(number: u32, content: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut field);
    encode_varint(content.len() as u64, &mut field);
    field.extend(content);
    field
}

fn group(number: u32, content: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    encode_key(number, WireType::StartGroup, &mut field);
    field.extend(content);
    encode_key(number, WireType::EndGroup, &mut field);
    field
}

/// A field that the reader ignores, or a known field with another wire type.
fn other_field() -> impl Strategy<Value = Vec<u8>> {
    let number = || prop_oneof![4 => 1..16_u32, 1 => any::<u32>().prop_map(|any| any >> 3 | 1)];
    let number_field = (
        number(),
        0..8_u64,
        prop::collection::vec(any::<u8>(), 0..12),
    );
    let leaf = number_field.prop_map(|(number, kind, rest)| {
        let mut field = Vec::new();
        encode_varint(u64::from(number) << 3 | kind, &mut field);
        field.extend(rest);
        field
    });
    let varint = (number(), any::<u64>()).prop_map(|(number, value)| {
        let mut field = Vec::new();
        encode_key(number, WireType::Varint, &mut field);
        encode_varint(value, &mut field);
        field
    });
    prop_oneof![1 => leaf, 4 => varint].prop_recursive(3, 8, 2, move |inner| {
        let content = prop::collection::vec(inner, 0..3).prop_map(|fields| fields.concat());
        (number(), content, any::<bool>()).prop_map(|(number, content, is_group)| match is_group {
            true => group(number, &content),
            false => delimited(number, &content),
        })
    })
}

fn any_message(shape: &Shape) -> BoxedStrategy<Vec<u8>> {
    let text = || prop::collection::vec(any::<u8>(), 0..4).boxed();
    let fields = shape.0.iter().map(|(number, inner)| {
        let content = inner.map_or_else(text, any_message);
        let number = *number;
        (
            4,
            content.prop_map(move |it| delimited(number, &it)).boxed(),
        )
    });
    let field = Union::new_weighted(fields.chain([(1, other_field().boxed())]).collect());
    let fields = prop::collection::vec(field, 0..5);
    fields.prop_map(|fields| fields.concat()).boxed()
}

/// A change to some bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Cut(prop::sample::Index),
}

impl Change {
    fn make(&self, message: &mut Vec<u8>) {
        if message.is_empty() {
            return;
        }
        let place = |index: &prop::sample::Index| index.index(message.len());
        match self {
            Self::Set(index, byte) => {
                let place = place(index);
                message[place] = *byte;
            }
            Self::Insert(index, byte) => message.insert(place(index), *byte),
            Self::Remove(index) => {
                message.remove(place(index));
            }
            Self::Cut(index) => message.truncate(place(index)),
        }
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    // Bytes that occur as keys and lengths, and the ends of long numbers.
    let byte = || prop_oneof![0..=0x7f_u8, any::<u8>(), Just(0x80), Just(0xff)];
    prop_oneof![
        4 => (index(), byte()).prop_map(|(index, byte)| Change::Set(index, byte)),
        1 => (index(), byte()).prop_map(|(index, byte)| Change::Insert(index, byte)),
        1 => index().prop_map(Change::Remove),
        1 => index().prop_map(Change::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_message_is_read_as_prost_reads_it(message in any_message(&CHECK)) {
        is_read(&message);
    }

    #[test]
    fn a_changed_message_is_read_as_prost_reads_it(
        mut message in prop_oneof![any_message(&CHECK), Just(whole().encode_to_vec())],
        changes in prop::collection::vec(any_change(), 1..4),
    ) {
        changes.iter().for_each(|change| change.make(&mut message));
        is_read(&message);
    }

    #[test]
    fn any_bytes_are_read_as_prost_reads_them(message: Vec<u8>) {
        is_read(&message);
    }
}

fn header(key: &'static str, value: &'static str, raw: &'static str) -> HeaderValue {
    HeaderValue {
        key: key.into(),
        value: value.into(),
        raw_value: raw.into(),
    }
}

/// A message with every field that is read, each with another value.
fn whole() -> CheckRequest {
    let entry = |key: &'static str, value: &'static str| HeadersEntry {
        key: key.into(),
        value: value.into(),
    };
    let socket = SocketAddress {
        address: "192.0.2.7".into(),
    };
    let http = HttpRequest {
        id: "id".into(),
        method: "GET".into(),
        headers: vec![entry("a", "1"), entry("b", "2")],
        path: "/path".into(),
        host: "host".into(),
        body: "body".into(),
        raw_body: "raw body".into(),
        header_map: Some(HeaderMap {
            headers: vec![
                header("c", "3", ""),
                header("d", "", "4"),
                header("e", "5", "6"),
            ],
        }),
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer {
                address: Some(Place {
                    address: Some(Address::SocketAddress(socket)),
                }),
            }),
            request: Some(attribute_context::Request { http: Some(http) }),
        }),
    }
}

#[test]
fn every_field_is_read() {
    let message = whole().encode_to_vec();
    let check = CheckView::read(&message).unwrap();
    assert_eq!(check.source, b"192.0.2.7");
    let http = check.http().unwrap();
    let texts = [
        http.id,
        http.method,
        http.path,
        http.host,
        http.body,
        http.raw_body,
    ];
    let expected = ["id", "GET", "/path", "host", "body", "raw body"];
    assert_eq!(texts, expected.map(str::as_bytes));
    let pairs = |headers: &[Header<'_>]| {
        let pair = |(name, value): &Header<'_>| [*name, *value].concat();
        headers.iter().map(pair).collect::<Vec<_>>()
    };
    assert_eq!(pairs(&http.headers), [b"a1", b"b2"]);
    assert_eq!(pairs(http.headers()), [b"c3", b"d4", b"e6"]);
    assert_eq!(http.body(), b"raw body");
    // The path is a slice of the message, not a copy.
    assert!(message.as_ptr_range().contains(&http.path.as_ptr()));
}

#[test]
fn the_last_value_counts_and_messages_are_merged() {
    let other = |http: HttpRequest| {
        let request = attribute_context::Request { http: Some(http) };
        let attributes = AttributeContext {
            source: None,
            request: Some(request),
        };
        CheckRequest {
            attributes: Some(attributes),
        }
    };
    let second = other(HttpRequest {
        path: "/other".into(),
        header_map: Some(HeaderMap {
            headers: vec![header("f", "7", "")],
        }),
        ..HttpRequest::default()
    });
    let message = [whole().encode_to_vec(), second.encode_to_vec()].concat();
    assert!(is_read(&message));
    let check = CheckView::read(&message).unwrap();
    let http = check.http().unwrap();
    assert_eq!((http.method, http.path), (&b"GET"[..], &b"/other"[..]));
    assert_eq!(http.headers().len(), 4);
    // An empty value also replaces the earlier one.
    let path = [0x0a, 0x06, 0x22, 0x04, 0x12, 0x02, 0x22, 0x00];
    let message = [&message[..], &path].concat();
    assert!(is_read(&message));
    assert_eq!(CheckView::read(&message).unwrap().http().unwrap().path, b"");
}

#[test]
fn messages_that_prost_refuses_are_refused() {
    let within = |field: &[u8]| delimited(1, &delimited(4, &delimited(2, field)));
    for (what, field) in [
        ("a path that is a number", vec![0x20, 0x01]),
        ("a header that is a number", vec![0x18, 0x01]),
        (
            "a number that does not fit",
            [&[0x48][..], &[0xff; 9], &[0x02]].concat(),
        ),
        (
            "a number without an end",
            [&[0x48][..], &[0xff; 10]].concat(),
        ),
        ("the type 6", vec![0x4e, 0x00]),
        ("the field 0", vec![0x02, 0x00]),
        (
            "a key that does not fit",
            vec![0xfa, 0xff, 0xff, 0xff, 0x1f, 0x00],
        ),
        ("a text beyond the end", vec![0x22, 0x02, b'/']),
        ("a group without an end", vec![0x4b, 0x08, 0x01]),
        ("a group with another end", vec![0x4b, 0x54]),
        ("the end of no group", vec![0x4c]),
        ("four bytes that are two", vec![0x4d, 0, 0]),
    ] {
        assert!(!is_read(&within(&field)), "{what}");
        // It is also refused if more bytes follow.
        let message = [within(&field), vec![0x50; 16]].concat();
        assert!(!is_read(&message), "{what}");
    }
    assert!(is_read(&within(&[0x4b, 0x08, 0x01, 0x4c])), "a whole group");
}

#[test]
fn the_limit_on_nested_groups_is_that_of_prost() {
    for depth in 0..4 {
        let mut outcomes = Vec::new();
        for groups in 90..105 {
            let mut message = (0..groups).fold(Vec::new(), |inner, _| group(99, &inner));
            for number in [1, 4, 2, 3].into_iter().take(depth).rev() {
                message = delimited(number, &message);
            }
            outcomes.push(is_read(&message));
        }
        assert!(outcomes[0] && !outcomes[14], "{depth}: {outcomes:?}");
    }
}
