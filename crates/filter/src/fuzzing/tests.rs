use std::{fs, path::Path};

use proptest::{collection, prelude::*, sample::select};

use super::*;

#[test]
fn every_seed_is_taken() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/filter");
    let seeds: Vec<_> = fs::read_dir(seeds).unwrap().collect();
    assert!(seeds.len() >= 14);
    for seed in seeds {
        take(&fs::read(seed.unwrap().path()).unwrap());
    }
}

/// Names and values that mean something to the judge.
fn known() -> impl Strategy<Value = (String, String)> {
    const NAMES: &[&str] = &[
        ":method",
        ":authority",
        ":path",
        "host",
        "authorization",
        "cookie",
        "x-auth-user",
        "x_auth_roles",
        "x.auth.admin",
        "x-forwarded-for",
        "x-original-url",
        "origin",
        "access-control-request-method",
        "sec-fetch-mode",
        "upgrade",
        "content-type",
    ];
    const VALUES: &[&str] = &[
        "GET",
        "get",
        "OPTIONS",
        "POST",
        "shop.example",
        "/public/a",
        "/public/../files/a",
        "/public%2f..%2ffiles",
        "/login",
        "/files/a;b",
        "*",
        "",
        "Bearer e30.e30.AA",
        "Basic YTpi",
        "dwk_0123456789abcdef_",
        "__Host-doorward=x; a=b",
        "websocket",
        "application/grpc",
    ];
    (
        select(NAMES),
        prop_oneof![select(VALUES).prop_map(str::to_owned), ".{0,30}"],
    )
        .prop_map(|(name, value)| (name.to_owned(), value))
}

proptest! {
    #[test]
    fn any_headers_are_judged(
        (method, path) in (select(&["GET", "POST", "OPTIONS", "x"][..]), "/(public|files|login|logout)?[/.%;a-z0-9]{0,12}"),
        more in collection::vec(known(), 0..12),
    ) {
        let line = [(":method", method), (":path", &path), (":authority", "shop.example")];
        let line = line.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let more = more.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let headers: Vec<_> = line.into_iter().chain(more).collect();
        request(&headers);
    }

    #[test]
    fn any_answer_is_read(body in collection::vec(any::<u8>(), 0..200), flag in 0_u8..3) {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        answer(&[&[flag][..], &length, &body].concat());
        answer(&body);
    }

    #[test]
    fn any_configuration_is_read(text in "[{}\\[\\]\"a-z_:,0-9 ]{0,80}") {
        configuration(text.as_bytes());
    }
}
