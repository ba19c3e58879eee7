use proptest::prelude::*;

use super::*;

const STRICT: Tolerance = Tolerance {
    encoded_slash: false,
    encoded_percent: false,
    semicolon: false,
    double_slash: false,
    also: Also {
        extension: false,
        trailing_dot: false,
    },
};
const RELAXED: Tolerance = Tolerance {
    encoded_slash: true,
    encoded_percent: true,
    semicolon: true,
    double_slash: true,
    also: Also {
        extension: false,
        trailing_dot: false,
    },
};

fn fault(target: &str) -> PathFault {
    Path::parse(target.as_bytes(), STRICT).expect_err(target)
}

fn loose(target: &str, tolerance: Tolerance) -> String {
    Path::parse(target.as_bytes(), tolerance)
        .unwrap_or_else(|fault| panic!("{target}: {fault}"))
        .loose()
        .to_owned()
}

#[test]
fn each_ambiguous_path_is_refused_with_its_fault() {
    for (target, expected) in [
        ("", PathFault::NotAbsolute),
        ("*", PathFault::NotAbsolute),
        ("admin", PathFault::NotAbsolute),
        ("http://a/b", PathFault::NotAbsolute),
        ("?x=/y", PathFault::NotAbsolute),
        ("/a b", PathFault::Character),
        ("/a\tb", PathFault::Character),
        ("/a\u{7f}", PathFault::Character),
        ("/café", PathFault::Character),
        ("/a%", PathFault::BrokenEscape),
        ("/a%4", PathFault::BrokenEscape),
        ("/a%zz", PathFault::BrokenEscape),
        ("/a%+1", PathFault::BrokenEscape),
        ("/a%c0%af", PathFault::BrokenEscape),
        ("/a%00", PathFault::EncodedControl),
        ("/a%0d%0a", PathFault::EncodedControl),
        ("/a%7F", PathFault::EncodedControl),
        ("/admin%2f..", PathFault::EncodedSlash),
        ("/admin%2F", PathFault::EncodedSlash),
        ("/a%252e", PathFault::EncodedPercent),
        ("/a\\b", PathFault::Backslash),
        ("/a%5cb", PathFault::Backslash),
        ("/admin;x", PathFault::Semicolon),
        ("/admin%3bx", PathFault::Semicolon),
        ("/..;/admin", PathFault::Semicolon),
        ("/a#b", PathFault::Fragment),
        ("//admin", PathFault::EmptySegment),
        ("/a//b", PathFault::EmptySegment),
        ("/x/../admin", PathFault::DotSegment),
        ("/x/%2e%2e/admin", PathFault::DotSegment),
        ("/x/.%2E/admin", PathFault::DotSegment),
        ("/./admin", PathFault::DotSegment),
        ("/admin/.", PathFault::DotSegment),
        ("/admin/..", PathFault::DotSegment),
        ("/open%3f/../admin", PathFault::DotSegment),
        ("/open%23x/%2e%2e/admin", PathFault::DotSegment),
        ("/..%3f", PathFault::DotSegment),
        ("/x/..%20/admin", PathFault::DotSegment),
        ("/x/.%C2%A0", PathFault::DotSegment),
        ("/x/%E2%80%A5/admin", PathFault::DotSegment),
        ("/x/%EF%BC%8E%EF%BC%8E/admin", PathFault::DotSegment),
        ("/x%EF%BC%BCadmin", PathFault::Backslash),
        ("/admin%EF%BC%9Bx", PathFault::Semicolon),
        ("/admin%CD%BEx", PathFault::Semicolon),
        ("/%EF%BC%8Fx/admin", PathFault::EmptySegment),
        ("/x/%EF%BC%8Fadmin", PathFault::EmptySegment),
        ("/x/%EF%BC%852e%EF%BC%852e/admin", PathFault::DotSegment),
        ("/x%EF%BC%8500", PathFault::EncodedControl),
    ] {
        assert_eq!(fault(target), expected, "{target}");
    }
}

#[test]
fn paths_that_are_never_tolerated_are_always_refused() {
    for target in [
        "/x/../y",
        "/x/%2e%2e/y",
        "/x/%252e%252e/y",
        "/x/..;a=b/y",
        "/a;%3fx=.q/..;/b",
        "/x%2f..%2fy",
        "/a\\b",
        "/a%5cb",
        "/a%255cb",
        "/a#b",
        "/a%00",
        "/a%2500",
        "/a%zz",
        "/caf\u{e9}",
        "//",
        "//x/admin",
        "///x/admin",
        "/%2fx/admin",
        "/%2Fx",
        "/%252fx/admin",
        "/;/x/admin",
        "/;a=b/x/admin",
        "/%3b/x/admin",
        "/%EF%BC%8Fx/admin",
        "/\\x/admin",
        "/%5cx/admin",
        "/%09/x/admin",
    ] {
        assert!(Path::parse(target.as_bytes(), RELAXED).is_err(), "{target}");
    }
}

#[test]
fn the_query_is_not_part_of_the_path() {
    let path = Path::parse(b"/a/b?x=//../%2f;#\xff", STRICT).unwrap();
    assert_eq!(path.as_str(), "/a/b");
    assert_eq!(path.loose(), "/a/b");
}

#[test]
fn the_loose_reading_is_the_most_generous_one() {
    for (target, expected) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/", "/a"),
        ("/Admin/Users", "/admin/users"),
        ("/%61dmin", "/admin"),
        ("/a%20b", "/a b"),
        ("/caf%C3%A9", "/cafe\u{301}"),
        ("/CAF%C3%89", "/cafe\u{301}"),
        ("/adm%C4%B0n/users", "/admin/users"),
        ("/adm%C4%B1n", "/admin"),
        ("/%E2%84%AAeys", "/keys"),
        ("/u%C5%BFers", "/users"),
        ("/%EF%BC%A1dmin", "/admin"),
        ("/adm%C2%ADin", "/admin"),
        ("/admin%EF%BC%9Fx", "/admin"),
        ("/admin%EF%BC%8Fusers", "/admin/users"),
        ("/%EF%BC%8561dmin", "/admin"),
        ("/a.", "/a."),
        ("/a%20", "/a "),
        ("/a.json", "/a.json"),
        ("/admin%3fx", "/admin"),
        ("/admin%23x", "/admin"),
        ("/admin/%3fx/y", "/admin"),
        ("/%3f", "/"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a.b/...", "/a.b/..."),
    ] {
        assert_eq!(loose(target, STRICT), expected, "{target}");
    }
    for (target, expected) in [
        ("/a//admin", "/a/admin"),
        ("/a%2fb", "/a/b"),
        ("/a%252fb", "/a/b"),
        ("/admin;x=1/y;z", "/admin/y"),
        ("/;x", "/"),
        ("/a//", "/a"),
    ] {
        assert_eq!(loose(target, RELAXED), expected, "{target}");
    }
}

#[test]
fn trailing_dots_and_spaces_are_removed_if_configured() {
    let windows = Tolerance {
        also: Also {
            trailing_dot: true,
            extension: false,
        },
        ..STRICT
    };
    for (target, expected) in [
        ("/admin.", "/admin"),
        ("/admin...", "/admin"),
        ("/admin%20", "/admin"),
        ("/admin%20.%20", "/admin"),
        ("/admin.%C2%A0", "/admin"),
        ("/admin./users", "/admin/users"),
        ("/Admin%2E/users.", "/admin/users"),
        ("/admin/...", "/admin"),
        ("/a.b/.well-known/c.json", "/a.b/.well-known/c.json"),
        ("/.", ""),
    ] {
        let read = Path::parse(target.as_bytes(), windows);
        let read = read.map(|path| path.loose().to_owned());
        assert_eq!(read.unwrap_or_default(), expected, "{target}");
    }
}

#[test]
fn only_the_last_segment_can_have_an_extension() {
    let rails = Tolerance {
        also: Also {
            extension: true,
            trailing_dot: false,
        },
        ..STRICT
    };
    let has = |target: &str, tolerance| {
        let path = Path::parse(target.as_bytes(), tolerance).unwrap();
        path.has_extension()
    };
    for target in [
        "/a.json",
        "/a%2Ejson",
        "/a.json/",
        "/.json",
        "/a.tar.gz",
        "/a%EF%BC%8Ejson",
    ] {
        assert!(has(target, rails), "{target}");
        assert!(!has(target, STRICT), "{target}");
    }
    for target in ["/", "/a", "/a.b/c", "/a?x.json"] {
        assert!(!has(target, rails), "{target}");
    }
}

#[test]
fn a_plain_path_is_borrowed() {
    for target in ["/", "/profile", "/api/v1/things-and_more/42.json"] {
        let path = Path::parse(target.as_bytes(), STRICT).unwrap();
        assert!(matches!(path.loose, Cow::Borrowed(_)), "{target}");
    }
}

proptest! {
    #[test]
    fn parsing_never_panics_and_both_readings_are_absolute(target: Vec<u8>, relaxed: bool) {
        let tolerance = if relaxed { RELAXED } else { STRICT };
        if let Ok(path) = Path::parse(&target, tolerance) {
            prop_assert!(path.as_str().starts_with('/'));
            prop_assert!(path.loose().starts_with('/'));
        }
    }

    #[test]
    fn parsing_a_parsed_path_changes_nothing(target in "(/([a-zA-Z0-9%.;_/-]|%3f|%23|%2e){0,6}){1,4}", relaxed: bool) {
        let tolerance = if relaxed { RELAXED } else { STRICT };
        if let Ok(path) = Path::parse(target.as_bytes(), tolerance) {
            let again = Path::parse(path.as_str().as_bytes(), tolerance).unwrap();
            prop_assert_eq!(&again, &path);
            let loose = path.loose().to_owned();
            if loose.is_ascii() && !loose.contains(['%', ' ']) {
                let again = Path::parse(loose.as_bytes(), tolerance).unwrap();
                prop_assert_eq!(again.loose(), &*loose);
            }
        }
    }

    #[test]
    fn the_loose_reading_has_nothing_that_the_strict_one_refuses(target in "(/([a-z%0-9A-F.;/\\\\]|%3f|%23|\\.\\.|%2e){0,8}){1,4}") {
        if let Ok(path) = Path::parse(target.as_bytes(), STRICT) {
            let decoded = path.as_str().to_lowercase().replace("%2e", ".");
            prop_assert!(!decoded.split('/').any(|part| part == "." || part == ".."));
            for part in path.loose().split('/').skip(1) {
                prop_assert!(part != "." && part != "..");
            }
            prop_assert!(!path.loose().contains("//"));
            prop_assert!(!path.loose().contains(['\\', ';']));
        }
    }
}
