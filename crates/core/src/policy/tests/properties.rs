//! Properties of arbitrary rules.

use proptest::prelude::*;

use super::{plain, *};

fn a_rule() -> impl Strategy<Value = (String, String, String, String)> {
    (
        "(/[ab]{1,2}){1,3}(/\\*)?",
        prop::sample::select(vec![
            "",
            "GET",
            "POST",
            "GET POST",
            "HEAD",
            "GET HEAD",
            "POST HEAD",
        ]),
        prop::sample::select(vec!["", "x.example", "*.example"]),
        prop::sample::select(vec!["public", "signed-in", "role:admin", "nobody", "login"]),
    )
        .prop_map(|(p, m, h, a)| (p, m.into(), h.into(), a.into()))
}

proptest! {
    /// An additional reading only refuses more; it changes no other decision.
    #[test]
    fn additional_readings_only_refuse_more(
        rules in prop::collection::vec(a_rule(), 0..6),
        path in "(/[abA]{1,2}(\\.|%20|\\.b)?){1,4}",
        extension: bool,
        trailing_dot: bool,
    ) {
        let rules = rules.iter().map(|r| rule(&r.0, &r.1, &r.2, &r.3)).collect();
        let Ok(policy) = Policy::new(rules) else { return Ok(()); };
        let access = |also| {
            let tolerance = Tolerance { also, ..Tolerance::default() };
            let path = Path::parse(path.as_bytes(), tolerance).unwrap();
            let get = Method::parse(b"GET").unwrap();
            policy.access(get, Host::parse(b"x.example").unwrap(), &path)
        };
        let (before, after) = (access(Also::default()), access(Also { extension, trailing_dot }));
        prop_assert!(before == after || matches!(after, Access::TwoReadings(_) | Access::NoRule));
    }

    #[test]
    fn a_new_rule_changes_only_what_it_matches(
        rules in prop::collection::vec(a_rule(), 0..6),
        new in a_rule(),
        path in "(/[ab]{1,2}){1,4}",
        method in prop::sample::select(vec!["GET", "HEAD", "POST", "PUT"]),
        host in prop::sample::select(vec!["x.example", "y.example", "other"]),
    ) {
        let make = |r: &(String, String, String, String)| rule(&r.0, &r.1, &r.2, &r.3);
        let before: Vec<_> = rules.iter().map(make).collect();
        let mut after = before.clone();
        after.push(make(&new));
        let (Ok(before), Ok(after)) = (Policy::new(before), Policy::new(after)) else { return Ok(()); };
        let new = make(&new);
        let matched = plain::covers(
            &new,
            Method::parse(method.as_bytes()).unwrap(),
            Host::parse(host.as_bytes()).unwrap(),
            &path,
        );
        // An endpoint also answers other methods at its path.
        if !matched && !matches!(new.demand, Demand::Endpoint(_)) {
            prop_assert_eq!(decide(&before, method, host, &path), decide(&after, method, host, &path));
        }
    }

    /// `HEAD` is judged as `GET`, unless a rule that names `HEAD` decides it.
    #[test]
    fn head_is_judged_as_get_unless_a_rule_names_it(
        rules in prop::collection::vec(a_rule(), 0..8),
        path in "(/[abA]{1,2}){1,4}",
        host in prop::sample::select(vec!["x.example", "y.example", "other"]),
    ) {
        let rules = rules.iter().map(|r| rule(&r.0, &r.1, &r.2, &r.3)).collect();
        let Ok(policy) = Policy::new(rules) else { return Ok(()); };
        let access = |method: &'static str| policy.access(
            Method::parse(method.as_bytes()).unwrap(),
            Host::parse(host.as_bytes()).unwrap(),
            &Path::parse(path.as_bytes(), Tolerance::default()).unwrap(),
        );
        let (get, head) = (access("GET"), access("HEAD"));
        match head {
            Access::Rule(rule) if rule.names_method("HEAD") => {}
            Access::Rule(_) => prop_assert_eq!(get, head),
            // Refused.
            Access::EndpointMethod(_) | Access::NoRule | Access::TwoReadings(_) | Access::NoHost | Access::MethodCase => {}
        }
        if !policy.rules().iter().any(|rule| rule.names_method("HEAD")) {
            prop_assert_eq!(get, head);
        }
    }
}

/// Rules that overlap more than real ones: few names in several spellings, many hosts and methods.
fn an_overlapping_rule() -> impl Strategy<Value = (String, String, String, String)> {
    let some = |words: &'static [&'static str]| {
        let words = prop::sample::subsequence(words, 0..=2);
        words.prop_map(|words| words.join(" "))
    };
    (
        "(/|(/(a|b|A|%61|a\\.b|b\\.a|\\.a)){1,3})?(/\\*)?",
        some(&["GET", "HEAD", "POST", "PURGE", "Odd"]),
        some(&[
            "x.example",
            "*.example",
            "*.x.example",
            "y.x.example",
            "X.Example",
        ]),
        prop::sample::select(vec![
            "public",
            "signed-in",
            "role:a",
            "nobody",
            "login",
            "logout",
        ]),
    )
        .prop_map(|(path, methods, hosts, allow)| (path, methods, hosts, allow.into()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The index decides like a scan of all rules.
    #[test]
    fn the_index_decides_as_a_plain_scan_does(
        rules in prop::collection::vec(an_overlapping_rule(), 0..12),
        questions in prop::collection::vec(
            (
                prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "PURGE", "Odd", "odd"]),
                prop::sample::select(vec![
                    "", "x.example", "X.EXAMPLE:8443", "y.x.example", "z.y.x.example", "example", "other", "[::1]",
                ]),
                "(/(a|b|A|%61|a\\.b|b\\.a|\\.a|a\\.b\\.a|a\\.|\\.)?){1,4}",
            ),
            1..12,
        ),
        extension: bool,
        trailing_dot: bool,
    ) {
        let rules: Vec<_> = rules.iter().filter_map(|(path, methods, hosts, allow)| {
            let list = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
            Rule::new(path, &list(methods), &list(hosts), Demand::parse(allow).unwrap()).ok()
        }).collect();
        // Rules that tie with an earlier one are left out.
        let mut apart: Vec<Rule> = Vec::new();
        for rule in rules {
            apart.push(rule);
            if !plain::ties(&apart).is_empty() {
                apart.pop();
            }
        }
        let policy = Policy::new(apart).unwrap();
        let also = Also { extension, trailing_dot };
        let tolerance = Tolerance { also, double_slash: true, ..Tolerance::default() };
        for (method, host, path) in &questions {
            let Ok(parsed) = Path::parse(path.as_bytes(), tolerance) else { continue; };
            let method = Method::parse(method.as_bytes()).unwrap();
            let host = Host::parse(host.as_bytes()).unwrap();
            prop_assert_eq!(
                policy.access(method, host, &parsed),
                plain::access(&policy, method, host, &parsed),
                "{:?} {:?} {} of {:#?}", method, host, path, policy.rules()
            );
        }
    }

    /// Every tie that the index finds is one, and each rule that ties is named.
    #[test]
    fn the_index_finds_the_ties_that_a_scan_of_pairs_finds(rules in prop::collection::vec(an_overlapping_rule(), 0..8)) {
        let rules: Vec<_> = rules.iter().filter_map(|(path, methods, hosts, allow)| {
            let list = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
            Rule::new(path, &list(methods), &list(hosts), Demand::parse(allow).unwrap()).ok()
        }).collect();
        let pairs = plain::ties(&rules);
        let found = Policy::new(rules).err().unwrap_or_default();
        for conflict in &found {
            prop_assert!(pairs.contains(conflict), "{}", conflict);
        }
        for pair in &pairs {
            let Conflict::Tie(one, other) = pair else { continue; };
            let named = |rule: &String| found.iter().any(|conflict| match conflict {
                Conflict::Tie(first, second) => first == rule || second == rule,
                Conflict::MethodCase(..) => false,
            });
            prop_assert!(named(one) && named(other), "{}", pair);
        }
    }
}
