use super::*;
use crate::{
    body::Body,
    credential::Credential,
    judge::tests::{NOW, example, token},
    path::{Path, Tolerance},
    request::{Answerable, Host, Method, TokenForm},
};

const WORDS: [&str; 8] = [
    "public",
    "login",
    "logout",
    "signed-in",
    "role:admin",
    "role:editor",
    "nobody",
    "none",
];

/// A rule for `/x` with this demand, or none.
fn policy(word: &str) -> Policy {
    let mut rules = vec![Rule::new("/other", &[], &[], Demand::Nobody).unwrap()];
    if word != "none" {
        rules.push(Rule::new("/x", &[], &[], Demand::parse(word).unwrap()).unwrap());
    }
    Policy::new(rules).unwrap()
}

fn judge(word: &str) -> Judge {
    Judge {
        policy: policy(word),
        allows_preflight: true,
        ..example()
    }
}

/// The verdict as one word; endpoints by their name.
fn verdict(step: &Step) -> String {
    match step {
        Step::Done(decision) => decision.verdict().name().to_owned(),
        Step::Act(action) => format!("{:?}", discriminant(action)),
        Step::Defer => "defer".into(),
    }
}

/// Every pair of demands, with every kind of credential: a difference is reported exactly if the whole judge, asked with
/// the next rules, has another verdict.
#[test]
fn differences_are_those_of_two_judges() {
    let [plain, admin, editor] = ["", "admin", "editor"].map(token);
    let judges = WORDS.map(|word| (word, judge(word)));
    let bad = format!("{plain}x");
    let credentials: [&[&str]; 7] = [
        &[],
        &["Basic YWRhOnNlY3JldA=="],
        &[&plain],
        &[&admin],
        &[&editor],
        &[&bad],
        &[&plain, &plain],
    ];
    let mut seen = [0_usize; 4];
    for (before, old) in &judges {
        for (after, new) in &judges {
            for (method, preflight) in [("GET", None), ("POST", None), ("OPTIONS", Some("GET"))] {
                for authorization in credentials {
                    let request = Request {
                        method: Method::parse(method.as_bytes()).unwrap(),
                        host: Host::parse(b"gateway.example").unwrap(),
                        path: Path::parse(b"/x", Tolerance::default()).unwrap(),
                        credential: Credential::parse(
                            authorization.iter().map(|value| value.as_bytes()),
                        ),
                        preflight: preflight
                            .map(|one: &str| Method::parse(one.as_bytes()).unwrap()),
                        body: Body::Absent,
                        all: false,
                        form: TokenForm::Plain,
                        answerable: Answerable::Anything,
                        browser: crate::request::browser::Browser::default(),
                    };
                    let judged = old.judge(&request, NOW);
                    let other = new.judge(&request, NOW);
                    let found = old.difference(&new.policy, &judged, &request, NOW);
                    let case = format!("{before} -> {after}, {method} {authorization:?}");
                    let differs = verdict(&judged.step) != verdict(&other.step);
                    assert_eq!(found.is_some(), differs, "{case}");
                    let Some(found) = found else {
                        seen[3] += 1;
                        continue;
                    };
                    assert_eq!(found.direction, Direction::of(&other.step), "{case}");
                    let name = |rule: Option<&Rule>| rule.map(|rule| rule.name().to_string());
                    assert_eq!(name(found.rule), name(other.rule), "{case}");
                    let at = Direction::ALL
                        .iter()
                        .position(|one| *one == found.direction);
                    seen[at.unwrap()] += 1;
                }
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
}

#[test]
fn the_same_rules_in_another_order_are_the_same() {
    let rule = |path| Rule::new(path, &[], &[], Demand::SignedIn).unwrap();
    let one = Policy::new(vec![rule("/a"), rule("/b")]).unwrap();
    let other = Policy::new(vec![rule("/b"), rule("/a")]).unwrap();
    assert!(one.has_the_rules_of(&other));
    let fewer = Policy::new(vec![rule("/b")]).unwrap();
    assert!(!one.has_the_rules_of(&fewer) && !fewer.has_the_rules_of(&one));
    let another = Rule::new("/a", &[], &[], Demand::Public).unwrap();
    let changed = Policy::new(vec![rule("/b"), another]).unwrap();
    assert!(!one.has_the_rules_of(&changed));
}
