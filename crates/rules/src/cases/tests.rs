use super::*;

fn faults(text: &str) -> Vec<String> {
    let faults = Cases::parse("cases.toml", text).unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn cases_are_read_in_every_form() {
    let read = Cases::parse(
        "cases.toml",
        r#"
[users]
ada = ["admin"]

[[case]]
request = "GET /a?b c"
expect = "pass"

[[case]]
name = "named"
request = "POST /login"
host = "a.example"
as = ["x", "y"]
expect = "login"
rule = "POST /login"

[[case]]
request = "GET /x"
as = "user:ada"
expect = 403

[[case]]
request = "GET /x"
as = "role:x"
expect = "401 missing-token"

[[case]]
request = "GET /x"
as = "signed-in"
expect = "deny"
"#,
    )
    .unwrap();
    let roles = |names: &[&str]| Roles::parse(names.iter().copied()).unwrap();
    assert_eq!(read.users["ada"], roles(&["admin"]));
    let [first, named, user, role, signed_in] = &*read.cases else {
        panic!("{read:?}");
    };
    assert_eq!(
        (&*first.method, &*first.target, &*first.name, &*first.place),
        ("GET", "/a?b c", "GET /a?b c, anonymous", "cases.toml:5")
    );
    assert_eq!(
        (&first.who, &first.expected),
        (&Who::Anonymous, &Expected::Pass)
    );
    assert_eq!((&*named.name, &*named.host), ("named", "a.example"));
    assert_eq!(named.who, Who::SignedIn(roles(&["x", "y"])));
    assert_eq!(named.expected, Expected::Endpoint(Endpoint::Login));
    assert_eq!(named.rule.as_deref(), Some("POST /login"));
    assert_eq!(user.who, Who::User("ada".into()));
    assert_eq!(user.expected, Expected::Denied(403, None));
    assert_eq!(role.who, Who::SignedIn(roles(&["x"])));
    let missing = Expected::Denied(401, Some(Reason::MissingToken));
    assert_eq!(role.expected, missing);
    assert_eq!(missing.to_string(), "401 missing-token");
    assert_eq!(signed_in.who, Who::SignedIn(roles(&[])));
    assert_eq!(signed_in.expected, Expected::Deny);
}

#[test]
fn keys_are_read_and_must_be_defined() {
    let read = Cases::parse(
        "cases.toml",
        r#"
[[case]]
request = "GET /x"
as = "key:ci"
expect = "pass"

[[case]]
request = "GET /x"
as = "basic-key:all"
expect = "deny"

[keys]
ci = { roles = ["editor"], paths = ["/repo/*"] }
all = {}
"#,
    )
    .unwrap();
    let ci = TestedKey {
        roles: Roles::parse(["editor"]).unwrap(),
        limits: KeyLimits::new(None, ["/repo/*"]).unwrap(),
    };
    assert_eq!(read.keys["ci"], ci);
    assert_eq!(read.keys["all"], TestedKey::default());
    assert_eq!(read.cases[0].who, Who::Key("ci".into()));
    assert_eq!(read.cases[0].name, "GET /x, key ci");
    assert_eq!(read.cases[1].who, Who::KeyAsPassword("all".into()));

    let found = faults(
        r#"
[keys]
one = 1
two = { role = ["x"] }
three = { roles = "x" }
four = { paths = ["x"] }

[[case]]
request = "GET /x"
as = "key:five"
expect = "pass"
"#,
    );
    for wanted in [
        "cases.toml:3: keys.one: is not a key",
        "cases.toml:4: keys.two: is not a key",
        "cases.toml:5: keys.three: is not a key",
        "cases.toml:6: keys.four: path \"x\" cannot be matched",
        "cases.toml:8: the file has no key \"five\" in [keys]",
    ] {
        let said = found.iter().any(|fault| fault.starts_with(wanted));
        assert!(said, "{wanted}\n{found:#?}");
    }
}

#[test]
fn every_fault_is_said_with_its_place() {
    let found = faults(
        r#"
[users]
bob = "editor"
eve = ["a b"]

[[case]]
requests = "GET /x"
expect = "maybe"

[[case]]
request = "/x"
as = "root"
expect = "200"

[[case]]
request = ["GET /x"]
expect = "403 because"
"#,
    );
    for wanted in [
        "cases.toml:3: users.bob: is not a list of roles",
        "cases.toml:4: users.eve: \"a b\" is not a role",
        "cases.toml:7: case.requests: is no member of a case",
        "cases.toml:6: \"request\" is missing",
        "cases.toml:8: case.expect: \"maybe\" is not a decision",
        "cases.toml:11: case.request: \"/x\" is not a method, one blank and a path",
        "cases.toml:12: case.as: \"root\" is not a caller",
        "cases.toml:13: case.expect: \"200\" is not a decision",
        "cases.toml:16: case.request: is not a string",
        "cases.toml:17: case.expect: \"because\" is not a reason",
    ] {
        let said = found.iter().any(|fault| fault.starts_with(wanted));
        assert!(said, "{wanted}\n{found:#?}");
    }
    assert_eq!(
        faults("")[0],
        "cases.toml: has no [[case]], so it tests nothing"
    );
    assert!(faults("[[case")[0].starts_with("cases.toml:1: not TOML"));
    assert!(faults("case = 1")[0].ends_with("write [[case]]"));
    assert!(faults("users = 1")[0].contains("write [users]"));
    assert!(faults("[[route]]\npath = \"/\"")[0].contains("none of [users], [keys] and [[case]]"));
}
