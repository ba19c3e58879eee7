use proptest::prelude::*;

use super::*;
use crate::body::MAX_BODY;

fn one(value: &str) -> Credential<'_> {
    Credential::parse([value.as_bytes()])
}

fn basic(pair: &[u8]) -> Result<Login, LoginFault> {
    let encoded = BASE64_STANDARD.encode(pair);
    Login::from_basic(Basic(&encoded))
}

#[test]
fn schemes_ignore_case_and_extra_spaces() {
    for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c"] {
        assert_eq!(one(value), Credential::Bearer(Compact("a.b.c")), "{value}");
    }
    for value in ["Basic YTpi", "basic YTpi", "bAsIc  YTpi"] {
        assert_eq!(one(value), Credential::Basic(Basic("YTpi")), "{value}");
    }
    for value in ["Digest x=y", "Negotiate", "Bearerx a"] {
        assert_eq!(one(value), Credential::Foreign, "{value}");
    }
}

#[test]
fn anything_but_one_credential_is_malformed() {
    use CredentialFault::{Several, Syntax, Token, TooLong};
    assert_eq!(
        Credential::parse([&b"Bearer a"[..], b"Bearer b"]),
        Credential::Malformed(Several)
    );
    assert_eq!(Credential::parse([]), Credential::Absent);
    let long = format!("Bearer {}", "a".repeat(MAX_CREDENTIAL));
    for (value, fault) in [
        ("", Syntax),
        (" Bearer a", Syntax),
        ("Bearer\ta", Syntax),
        ("Bearer é", Syntax),
        ("Bearer", Token),
        ("Bearer ", Token),
        ("Bearer a,Bearer b", Several),
        ("Bearer a, Basic b", Several),
        ("bEARER a,", Several),
        ("Basic YTpi, Bearer a", Several),
        ("BASIC YTpi,bearer a", Several),
        ("Bearer a b", Token),
        ("Bearer a=b", Token),
        ("Bearer \"a\"", Token),
        (&*long, TooLong),
        ("a,b c", Syntax),
    ] {
        assert_eq!(one(value), Credential::Malformed(fault), "{value}");
    }
}

#[test]
fn the_first_colon_separates_name_and_password() {
    let login = basic(b"ada:a:b:c").unwrap();
    assert_eq!(login.username.as_str(), "ada");
    assert_eq!(login.password.expose(), "a:b:c");
    assert_eq!(
        basic("jos\u{e9}:p\u{e4}ss".as_bytes())
            .unwrap()
            .password
            .expose(),
        "päss"
    );
}

#[test]
fn invalid_basic_credentials_are_refused() {
    use LoginFault::{Base64, NoColon, Password, TooLong, Username, Utf8};
    for (pair, fault) in [
        (&b"ada"[..], NoColon),
        (b"", NoColon),
        (b":secret", Username),
        (b"ada:", Password),
        (b"ada:\x00", Password),
        (b"ada:a\nb", Password),
        (b"a\x7fda:secret", Username),
        (b"\xff:secret", Utf8),
    ] {
        assert_eq!(basic(pair).unwrap_err(), fault, "{pair:?}");
    }
    let long = [&b"ada:"[..], &[b'x'; MAX_BASIC]].concat();
    assert_eq!(basic(&long).unwrap_err(), TooLong);
    assert!(basic(long.get(..MAX_BASIC).unwrap()).is_ok());
    for encoded in [
        "YTpi!",
        "YTpiYg",
        "YTpiYg=",
        "YTpiYh==",
        "YTpi\u{20}",
        "YTpi,YTpi",
        "_-==",
        "",
    ] {
        let fault = Login::from_basic(Basic(encoded)).unwrap_err();
        assert!(matches!(fault, Base64 | NoColon), "{encoded}");
    }
}

#[test]
fn a_fault_of_a_json_login_names_the_member() {
    use BodyFault::{Impossible, Missing, NotAnObject, NotText, TooLong};
    let login = Login::from_body(Body::Json(
        br#"{"username":"ada","password":"pw","remember":true}"#,
    ))
    .unwrap();
    assert_eq!(
        (login.username.as_str(), login.password.expose()),
        ("ada", "pw")
    );
    for (body, fault) in [
        ("", NotAnObject),
        ("[]", NotAnObject),
        ("\"x\"", NotAnObject),
        ("{\"username\":\"a\"", NotAnObject),
        (
            "{\"username\":\"a\",\"username\":\"b\",\"password\":\"c\"}",
            NotAnObject,
        ),
        ("{}", Missing("username")),
        ("{\"username\":\"a\"}", Missing("password")),
        (
            "{\"username\":null,\"password\":\"b\"}",
            Missing("username"),
        ),
        ("{\"username\":1,\"password\":\"b\"}", NotText("username")),
        (
            "{\"username\":\"a\",\"password\":[\"b\"]}",
            NotText("password"),
        ),
        (
            "{\"username\":\"\",\"password\":\"b\"}",
            Impossible("username"),
        ),
        (
            "{\"username\":\"a\",\"password\":\"\"}",
            Impossible("password"),
        ),
        (
            &*format!("{{\"username\":\"{}\"}}", "a".repeat(MAX_BODY)),
            TooLong,
        ),
    ] {
        assert_eq!(
            Login::from_body(Body::Json(body.as_bytes())).unwrap_err(),
            fault,
            "{body}"
        );
    }
}

#[test]
fn a_fault_of_a_form_login_names_the_field() {
    use BodyFault::{Doubled, Impossible, Missing, TooLong};
    let login = Login::from_body(Body::Form(b"username=ada+l&password=a%26b%3Dc&next=/")).unwrap();
    assert_eq!(
        (login.username.as_str(), login.password.expose()),
        ("ada l", "a&b=c")
    );
    for (body, fault) in [
        ("", Missing("username")),
        ("username=a", Missing("password")),
        ("username=a&username=b&password=c", Doubled("username")),
        ("username=&password=c", Impossible("username")),
        ("username=a&password=%00", Impossible("password")),
        (&*"a".repeat(MAX_BODY + 1), TooLong),
    ] {
        assert_eq!(
            Login::from_body(Body::Form(body.as_bytes())).unwrap_err(),
            fault,
            "{body}"
        );
    }
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!(
        "{:?} {:?} {:?}",
        one("Bearer topsecret"),
        one("Basic dG9wc2VjcmV0"),
        basic(b"ada:topsecret").unwrap()
    );
    assert!(
        !shown.contains("topsecret") && !shown.contains("dG9w"),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn parsing_never_panics(value: Vec<u8>) {
        match Credential::parse([&*value]) {
            Credential::Basic(basic) => { let _ = Login::from_basic(basic); }
            Credential::Bearer(compact) => prop_assert!(!compact.expose().contains([',', ' '])),
            Credential::Absent
            | Credential::Cookie(_)
            | Credential::Key(_)
            | Credential::Foreign
            | Credential::Malformed(_) => {}
        }
        if let Credential::Key(key) = Credential::parse_key([&*value]) {
            prop_assert_eq!(key.expose().as_bytes(), &*value);
        }
        let _ = Login::from_body(Body::Json(&value));
        let _ = Login::from_body(Body::Form(&value));
    }

    #[test]
    fn every_valid_name_and_password_parses_back(username in "[^:\\p{Cc}]{1,60}", password in "[^\\p{Cc}]{1,60}") {
        let login = basic(format!("{username}:{password}").as_bytes()).unwrap();
        prop_assert_eq!(login.username.as_str(), username);
        prop_assert_eq!(login.password.expose(), password);
    }
}

#[test]
fn a_token_in_a_cookie_has_one_form() {
    let fault = |fault| Credential::Malformed(CredentialFault::Cookie(fault));
    for (value, expected) in [
        ("a=1", Credential::Absent),
        (
            "__Host-doorward=a.b.c",
            Credential::Cookie(Compact::parse("a.b.c").unwrap()),
        ),
        ("__Host-doorward=\"a.b.c\"", fault(CookieFault::Syntax)),
        ("__Host-doorward=", fault(CookieFault::Syntax)),
        ("__Host-doorward=a,b", fault(CookieFault::Syntax)),
        (
            "__Host-doorward=a; __Host-doorward=a",
            fault(CookieFault::Several),
        ),
    ] {
        let read = Credential::of_cookie(Cookies::One(value.as_bytes()), Transport::Https);
        assert_eq!(read, expected, "{value}");
    }
}
