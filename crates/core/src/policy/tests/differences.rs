//! Differences of two policies: written cases, and properties against samples.

use proptest::{prelude::*, test_runner::RngSeed};

use super::*;
use crate::account::Roles;

fn side(policy: &Policy, precedence: Precedence) -> Side<'_> {
    Side { policy, precedence }
}

fn shown(old: &Policy, new: &Policy, precedence: Precedence) -> Vec<String> {
    let new = side(new, Precedence::HostFirst);
    let changes = diff(side(old, precedence), new, Tolerance::default());
    let shown = changes.iter().map(|change| {
        let paths: Vec<_> = change.paths.iter().map(ToString::to_string).collect();
        format!(
            "{} | {} | {} | {} | {} -> {} | {} {}{}",
            paths.join(", "),
            change.methods,
            change.hosts,
            change.callers,
            change.was,
            change.is,
            change.example.method,
            change.example.host,
            change.example.path,
        )
    });
    shown.collect()
}

#[test]
fn equal_rules_do_not_differ() {
    let rules = [
        ("/*", "", "", "signed-in"),
        ("/admin/*", "", "*.example.com", "role:admin"),
        ("/Login", "", "", "login"),
    ];
    let (old, new) = (policy(&rules), policy(&rules));
    assert_eq!(shown(&old, &new, Precedence::HostFirst), [""; 0]);
}

#[test]
fn a_change_is_one_line_for_each_kind_of_callers() {
    let old = policy(&[
        ("/*", "", "", "signed-in"),
        ("/admin/*", "", "", "role:admin"),
        ("/a/b/c", "", "", "public"),
    ]);
    let new = policy(&[
        ("/*", "", "", "public"),
        ("/admin/*", "", "", "role:ops"),
        ("/a/b/c", "", "", "public"),
    ]);
    assert_eq!(
        shown(&old, &new, Precedence::HostFirst),
        [
            "/admin/* | any method | any host | users with ops and without admin | 403 missing-role -> pass | GET /admin/any",
            "/* | any method | any host | without a valid token | 401 missing-token -> pass | GET /any",
            "other spellings of /a/b/c | any method | any host | anybody | 400 two-readings -> pass | GET /A/b/c",
            "/admin/* | any method | any host | users with admin and without ops | pass -> 403 missing-role | GET /admin/any",
        ]
    );
}

#[test]
fn a_new_rule_also_changes_other_spellings_of_its_path() {
    let old = policy(&[("/*", "", "", "public")]);
    let new = policy(&[("/*", "", "", "public"), ("/admin", "POST", "", "nobody")]);
    assert_eq!(
        shown(&old, &new, Precedence::HostFirst),
        [
            "/admin | POST | any host | anybody | pass -> 403 no-rule | POST /admin",
            "other spellings of /admin | POST | any host | anybody | pass -> 400 two-readings | POST /Admin",
        ]
    );
}

#[test]
fn a_first_rule_with_a_host_refuses_requests_without_one() {
    let old = policy(&[("/*", "", "", "public")]);
    let new = policy(&[("/*", "", "", "public"), ("/x", "", "a.example", "nobody")]);
    assert_eq!(
        shown(&old, &new, Precedence::HostFirst),
        [
            "/x | any method | a.example | anybody | pass -> 403 no-rule | GET a.example/x",
            "other spellings of /x | any method | a.example | anybody | pass -> 400 two-readings | GET a.example/X",
            "/* | any method | no host | anybody | pass -> 400 no-host | GET /any",
        ]
    );
}

#[test]
fn other_hosts_are_found_beside_a_whole_domain() {
    let old = policy(&[("/*", "", "*.example", "public")]);
    let new = policy(&[("/*", "", "*.example", "public"), ("/*", "", "", "nobody")]);
    assert_eq!(shown(&old, &new, Precedence::HostFirst), [""; 0]);
    let new = policy(&[("/*", "", "*.example", "public"), ("/*", "", "", "public")]);
    assert_eq!(
        shown(&old, &new, Precedence::HostFirst),
        ["/* | any method | any host but *.example | anybody | 403 no-rule -> pass | GET any/any"]
    );
}

#[test]
fn a_path_with_an_escaped_question_mark_does_not_hide_another_path() {
    let old = policy(&[
        ("/a%3f", "", "", "public"),
        ("/a%3f/a", "GET", "", "public"),
    ]);
    let new = policy(&[("/a%3f/a", "GET", "", "public")]);
    let (old, new) = (
        side(&old, Precedence::HostFirst),
        side(&new, Precedence::HostFirst),
    );
    let tolerance = Tolerance::default();
    let read_as_a = Path::parse(b"/A", tolerance).unwrap();
    let changes = diff(old, new, tolerance);
    let is_shown = changes.iter().any(|change| {
        let mut paths = change.paths.iter();
        let rulings = [change.was, change.is].map(|ruling| ruling.to_string());
        rulings == ["400 two-readings", "403 no-rule"]
            && paths.any(|paths| paths.include(&read_as_a))
    });
    assert!(is_shown, "{changes:#?}");
}

/// What an upgrade changes for a file that was written when the path came before the host.
#[test]
fn the_order_of_hosts_and_paths_is_a_difference() {
    let rules = policy(&[
        ("/*", "", "api.example", "signed-in"),
        ("/admin/*", "", "", "role:admin"),
        ("/*", "", "", "public"),
    ]);
    assert_eq!(
        shown(&rules, &rules, Precedence::PathFirst),
        [
            "/admin/* | any method | api.example | users without admin | 403 missing-role -> pass | GET api.example/admin/any",
            "other spellings of /admin/* | any method | api.example | any user | 400 two-readings -> pass | GET api.example/Admin/any",
            "other spellings of /admin/* | any method | api.example | without a valid token | 400 two-readings -> 401 missing-token | GET api.example/Admin/any",
        ]
    );
    assert_eq!(shown(&rules, &rules, Precedence::HostFirst), [""; 0]);
}

#[test]
fn every_rule_has_an_example() {
    let policy = policy(&[
        ("/*", "", "", "signed-in"),
        ("/admin/*", "GET HEAD", "*.example.com", "role:admin"),
        ("/admin/*", "", "a.example.com", "role:admin"),
        ("/Login", "", "", "login"),
        ("/caf%C3%A9", "PURGE", "", "public"),
    ]);
    let examples = examples(&policy, Tolerance::default());
    for (number, rule) in policy.rules().iter().enumerate() {
        let example = examples
            .iter()
            .find(|(by, _)| *by == DecidedBy::Rule(number));
        let (_, example) = example.unwrap_or_else(|| panic!("{rule}"));
        let path = Path::parse(example.path.as_bytes(), Tolerance::default()).unwrap();
        let method = Method::parse(example.method.as_bytes()).unwrap();
        let host = Host::parse(example.host.as_bytes()).unwrap();
        assert_eq!(policy.access(method, host, &path), Access::Rule(rule));
    }
}

type Written = (String, String, String, String);

/// Rules that tie with earlier ones, or spell a method otherwise, are left out.
fn apart(rules: &[Written]) -> Policy {
    let mut apart: Vec<Rule> = Vec::new();
    for (path, methods, hosts, allow) in rules {
        let list = |text: &str| {
            text.split_whitespace()
                .map(String::from)
                .collect::<Vec<_>>()
        };
        let demand = Demand::parse(allow).unwrap();
        let Ok(rule) = Rule::new(path, &list(methods), &list(hosts), demand) else {
            continue;
        };
        apart.push(rule);
        if Policy::new(apart.clone()).is_err() {
            apart.pop();
        }
    }
    Policy::new(apart).unwrap()
}

/// Few names in several spellings, so that rules overlap.
fn a_rule() -> impl Strategy<Value = Written> {
    let one_of = |words: &'static [&'static str]| prop::sample::select(words);
    (
        "(/|(/(a|b|A|%61|a\\.b|a%3f|\\.a)){1,2})?(/\\*)?",
        one_of(&["", "", "GET", "POST", "GET POST", "HEAD", "PURGE", "Odd"]),
        one_of(&[
            "",
            "",
            "x.example",
            "*.example",
            "*.x.example",
            "y.x.example a.example",
        ]),
        one_of(&[
            "public",
            "signed-in",
            "nobody",
            "login",
            "logout",
            "role:a",
            "role:b",
            "role:c",
        ]),
    )
        .prop_map(|(path, methods, hosts, allow)| {
            (path, methods.into(), hosts.into(), allow.into())
        })
}

/// Old rules, and new ones that share most of them, as after an edit.
fn a_pair() -> impl Strategy<Value = (Vec<Written>, Vec<Written>)> {
    let rules = |most| prop::collection::vec(a_rule(), 0..=most);
    (rules(2), rules(2), rules(2), any::<bool>()).prop_map(|(both, old, new, other_case)| {
        let with = |own: &[Written]| [own, &both].concat();
        let mut new = with(&new);
        for (_, methods, _, _) in &mut new {
            if other_case {
                *methods = methods.replace("Odd", "ODD");
            }
        }
        (with(&old), new)
    })
}

type Question = (&'static str, &'static str, String, Vec<&'static str>, bool);

fn a_question() -> impl Strategy<Value = Question> {
    (
        prop::sample::select(vec![
            "GET",
            "HEAD",
            "POST",
            "PUT",
            "DELETE",
            "PURGE",
            "Odd",
            "odd",
            "ODD",
            "unheard-of",
        ]),
        prop::sample::select(vec![
            "",
            "x.example",
            "X.EXAMPLE:8443",
            "y.x.example",
            "z.y.x.example",
            "a.example",
            "example",
            "other",
            "[::1]",
            "any.other",
        ]),
        "(/(a|b|A|%61|a\\.b|b\\.a|\\.a|a\\.b\\.a|a\\.|\\.|a%3f|c|%C2%AD|a%C2%AD|a;x|a%2fb)?){1,4}",
        prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..=2),
        any::<bool>(),
    )
}

fn a_tolerance() -> impl Strategy<Value = Tolerance> {
    any::<[bool; 6]>().prop_map(
        |[slash, semicolon, double, percent, extension, trailing_dot]| Tolerance {
            encoded_slash: slash,
            encoded_percent: percent,
            semicolon,
            double_slash: double,
            also: Also {
                extension,
                trailing_dot,
            },
        },
    )
}

fn decided_by(side: Side<'_>, access: Access<'_>) -> DecidedBy {
    let number = |rule| side.policy.number_of(rule).unwrap();
    match access {
        Access::Rule(rule) => DecidedBy::Rule(number(rule)),
        Access::EndpointMethod(rule) => DecidedBy::EndpointMethod(number(rule)),
        Access::NoRule => DecidedBy::NoRule,
        Access::TwoReadings(rule) => DecidedBy::TwoReadings(number(rule)),
        Access::NoHost => DecidedBy::NoHost,
        Access::MethodCase => DecidedBy::MethodCase,
    }
}

proptest! {
    // The same pairs in each run, so that a failure follows from a change of this code and not from chance.
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), ..ProptestConfig::with_cases(1000) })]

    /// A sampled request is in exactly the change that says what becomes of it, or in none if nothing changes; and what is
    /// said about a change is true for its example.
    #[test]
    fn differences_are_those_of_samples(
        (old, new) in a_pair(),
        questions in prop::collection::vec(a_question(), 30),
        tolerance in a_tolerance(),
        was_path_first: bool,
    ) {
        let (old, new) = (apart(&old), apart(&new));
        let precedence = if was_path_first { Precedence::PathFirst } else { Precedence::HostFirst };
        let (old, new) = (side(&old, precedence), side(&new, Precedence::HostFirst));
        let changes = diff(old, new, tolerance);
        for change in &changes {
            let example = &change.example;
            let method = Method::parse(example.method.as_bytes()).unwrap();
            let host = Host::parse(example.host.as_bytes()).unwrap();
            let path = Path::parse(example.path.as_bytes(), tolerance).unwrap();
            let roles = example.roles.as_ref().map(|roles| Roles::collect(roles.clone()).unwrap());
            prop_assert!(change.methods.include(method) && change.hosts.include(host), "{change:?}");
            prop_assert!(change.paths.iter().any(|paths| paths.include(&path)), "{change:?}");
            prop_assert!(change.callers.include(roles.as_ref()), "{change:?}");
            let (before, after) = (old.access(method, host, &path), new.access(method, host, &path));
            prop_assert_eq!(change.before, decided_by(old, before));
            prop_assert_eq!(change.after, decided_by(new, after));
            prop_assert_eq!(change.was, before.ruling(roles.as_ref()));
            prop_assert_eq!(change.is, after.ruling(roles.as_ref()));
            prop_assert!(change.was != change.is);
        }
        for (method, host, path, roles, has_token) in &questions {
            let method = Method::parse(method.as_bytes());
            let path = Path::parse(path.as_bytes(), tolerance);
            let (Ok(method), Ok(path)) = (method, path) else { continue; };
            let host = Host::parse(host.as_bytes()).unwrap();
            let roles = has_token.then(|| Roles::parse(roles.iter().copied()).unwrap());
            let (before, after) = (old.access(method, host, &path), new.access(method, host, &path));
            let (was, is) = (before.ruling(roles.as_ref()), after.ruling(roles.as_ref()));
            let found: Vec<_> = changes.iter().filter(|change| {
                change.before == decided_by(old, before)
                    && change.after == decided_by(new, after)
                    && change.methods.include(method)
                    && change.hosts.include(host)
                    && change.paths.iter().any(|paths| paths.include(&path))
                    && change.callers.include(roles.as_ref())
            }).map(|change| (change.was, change.is)).collect();
            if was == is {
                prop_assert_eq!(found, vec![], "{:?} {:?} {:?}", method, host, path);
            } else {
                prop_assert!(!found.is_empty(), "{:?} {:?} {:?} {:?}: {} -> {}\nold {:#?}\nnew {:#?}\n{:#?}",
                    method, host, path, roles, was, is, old.policy.rules(), new.policy.rules(), changes);
                prop_assert!(found.iter().all(|own| *own == (was, is)), "{:?}", found);
            }
        }
    }
}
