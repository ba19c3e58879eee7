//! Which requests two policies decide differently: computed from the rules, and complete.
//!
//! Rules divide the requests into regions ([`super::regions`]). The regions that the same two rules decide, and for which
//! the decision differs, are one change.

use std::collections::BTreeMap;

use super::{
    Access, Policy, Rule,
    regions::{Hosts, MethodClass, Methods, PathSet, Paths, cells, host_classes, method_classes},
    ruling::{Callers, Ruling, differences},
};
use crate::{
    account::Role,
    path::{Path, Tolerance},
    request::{Host, Method},
};

/// In which order rules are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// Host, path, method: as rules are decided.
    HostFirst,
    /// Path, method, host: as rules were decided by versions whose rules had no such order of hosts.
    PathFirst,
}

/// Rules, and how they are compared.
#[derive(Clone, Copy, Debug)]
pub struct Side<'p> {
    /// The rules.
    pub policy: &'p Policy,
    /// How they are compared.
    pub precedence: Precedence,
}

/// What the rules say about some requests, without the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecidedBy {
    /// This rule; a number of [`Policy::rules`].
    Rule(usize),
    /// The path is that of this rule's endpoint, but the method is not.
    EndpointMethod(usize),
    /// No rule.
    NoRule,
    /// As one reading of the path, this rule; as the other, another one.
    TwoReadings(usize),
    /// Some rules name hosts, and there is none.
    NoHost,
    /// The method differs only by case from one that rules name.
    MethodCase,
}

/// A request, as an example for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The method.
    pub method: String,
    /// The host; empty for none.
    pub host: String,
    /// The path.
    pub path: String,
    /// The roles of the caller; `None` for no token.
    pub roles: Option<Vec<Role>>,
}

/// Requests that are decided differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose requests.
    pub callers: Callers,
    /// With these methods.
    pub methods: Methods,
    /// To these hosts.
    pub hosts: Hosts,
    /// At these paths, except where rules other than those of `before` and `after` decide.
    pub paths: Vec<Paths>,
    /// What decided.
    pub before: DecidedBy,
    /// What decides now.
    pub after: DecidedBy,
    /// What became of them.
    pub was: Ruling,
    /// What becomes of them.
    pub is: Ruling,
    /// One of them.
    pub example: Example,
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Services get requests that they did not get.
    Opens,
    /// Services do not get requests that they got.
    Closes,
    /// Services did not get them, and do not get them; the answer is another one.
    Answers,
}

impl Change {
    /// What the change does.
    #[must_use]
    pub fn direction(&self) -> Direction {
        match (self.was, self.is) {
            (Ruling::Denied(..) | Ruling::Endpoint(_), Ruling::Pass) => Direction::Opens,
            (Ruling::Pass, Ruling::Denied(..) | Ruling::Endpoint(_)) => Direction::Closes,
            (Ruling::Pass, Ruling::Pass)
            | (
                Ruling::Denied(..) | Ruling::Endpoint(_),
                Ruling::Denied(..) | Ruling::Endpoint(_),
            ) => Direction::Answers,
        }
    }
}

impl DecidedBy {
    /// The rule, if one decides.
    #[must_use]
    pub fn rule(self, policy: &Policy) -> Option<&Rule> {
        match self {
            Self::Rule(number) | Self::EndpointMethod(number) | Self::TwoReadings(number) => {
                policy.rules().get(number)
            }
            Self::NoRule | Self::NoHost | Self::MethodCase => None,
        }
    }
}

impl<'p> Side<'p> {
    /// What the rules say about a request.
    #[must_use]
    pub fn access(&self, method: Method<'_>, host: Host<'_>, path: &Path<'_>) -> Access<'p> {
        match self.precedence {
            Precedence::HostFirst => self.policy.access(method, host, path),
            Precedence::PathFirst => self.policy.access_path_first(method, host, path),
        }
    }

    pub(super) fn decided_by(&self, access: Access<'_>) -> DecidedBy {
        // A rule of an access is one of the policy.
        let number = |rule| self.policy.number_of(rule).unwrap_or(usize::MAX);
        match access {
            Access::Rule(rule) => DecidedBy::Rule(number(rule)),
            Access::EndpointMethod(rule) => DecidedBy::EndpointMethod(number(rule)),
            Access::NoRule => DecidedBy::NoRule,
            Access::TwoReadings(rule) => DecidedBy::TwoReadings(number(rule)),
            Access::NoHost => DecidedBy::NoHost,
            Access::MethodCase => DecidedBy::MethodCase,
        }
    }
}

/// The regions of one host that the same rules decide.
type Decided<'p> = BTreeMap<(DecidedBy, DecidedBy), (Access<'p>, Access<'p>, Found)>;

/// Paths with the numbers of the methods, and an example of a path for each.
type Found = BTreeMap<Paths, (Vec<usize>, String)>;

/// Every request that two policies decide differently, if both read paths in this way.
#[must_use]
pub fn diff(old: Side<'_>, new: Side<'_>, tolerance: Tolerance) -> Vec<Change> {
    let both = || old.policy.rules().iter().chain(new.policy.rules());
    let methods = method_classes(both());
    let hosts = host_classes(both());
    let mut changes: Vec<Change> = Vec::new();
    for (class, host) in &hosts {
        let own = both().filter(|rule| {
            rule.hosts.is_empty() || rule.hosts.iter().any(|pattern| class.matches(pattern))
        });
        let decided = decided(old, new, own, tolerance, host, &methods);
        for ((before, after), (was, is, found)) in decided {
            for (numbers, paths, path) in by_methods(found) {
                let example = (numbers.first()).and_then(|number| methods.get(*number));
                let Some((_, method)) = example else { continue };
                for (callers, was, is) in differences(was, is) {
                    let example = Example {
                        method: method.clone(),
                        host: host.clone(),
                        path: path.clone(),
                        roles: callers.example(),
                    };
                    changes.push(Change {
                        callers,
                        methods: chosen(&methods, &numbers),
                        hosts: Hosts {
                            classes: vec![class.clone()],
                            others: Vec::new(),
                        },
                        paths: paths.clone(),
                        before,
                        after,
                        was,
                        is,
                        example,
                    });
                }
            }
        }
    }
    let mut joined = joined(changes);
    for change in &mut joined {
        let mine = &change.hosts.classes;
        let others = hosts.iter().map(|(class, _)| class);
        change.hosts.others = others
            .filter(|class| !mine.contains(class))
            .cloned()
            .collect();
    }
    joined.sort_by_key(|change| (change.direction(), change.before, change.after));
    joined
}

/// One example for each answer of the rules.
#[must_use]
pub fn examples(policy: &Policy, tolerance: Tolerance) -> Vec<(DecidedBy, Example)> {
    let side = Side {
        policy,
        precedence: Precedence::HostFirst,
    };
    let rules = || policy.rules().iter();
    let methods = method_classes(rules());
    let mut examples: BTreeMap<DecidedBy, Example> = BTreeMap::new();
    for (class, host) in host_classes(rules()) {
        let own = rules().filter(|rule| {
            rule.hosts.is_empty() || rule.hosts.iter().any(|pattern| class.matches(pattern))
        });
        for ((by, _), (_, _, found)) in decided(side, side, own, tolerance, &host, &methods) {
            // Paths as rules write them come before other spellings.
            let first = found.iter().min_by_key(|(paths, _)| paths.other_spellings);
            let Some((_, (numbers, path))) = first else {
                continue;
            };
            let Some((_, method)) = numbers.first().and_then(|number| methods.get(*number)) else {
                continue;
            };
            examples.entry(by).or_insert_with(|| Example {
                method: method.clone(),
                host: host.clone(),
                path: path.clone(),
                roles: None,
            });
        }
    }
    examples.into_iter().collect()
}

fn decided<'p>(
    old: Side<'p>,
    new: Side<'p>,
    rules: impl Iterator<Item = &'p Rule>,
    tolerance: Tolerance,
    host: &str,
    methods: &[(MethodClass, String)],
) -> Decided<'p> {
    let mut decided = Decided::new();
    let Some(host) = Host::parse(host.as_bytes()) else {
        return decided;
    };
    for cell in cells(rules, tolerance) {
        let Ok(path) = Path::parse(cell.example.as_bytes(), tolerance) else {
            continue;
        };
        // The few answers that methods get at one path.
        let mut answers: Vec<(Access<'p>, Access<'p>, Vec<usize>)> = Vec::new();
        for (number, (_, method)) in methods.iter().enumerate() {
            let Ok(method) = Method::parse(method.as_bytes()) else {
                continue;
            };
            let before = old.access(method, host, &path);
            let after = new.access(method, host, &path);
            let same = answers
                .iter_mut()
                .find(|(own, other, _)| is_same(*own, before) && is_same(*other, after));
            match same {
                Some((_, _, numbers)) => numbers.push(number),
                None => answers.push((before, after, vec![number])),
            }
        }
        for (before, after, numbers) in answers {
            let key = (old.decided_by(before), new.decided_by(after));
            let (_, _, found) =
                (decided.entry(key)).or_insert_with(|| (before, after, Found::new()));
            let (own, _) = (found.entry(cell.paths.clone()))
                .or_insert_with(|| (Vec::new(), cell.example.clone()));
            own.extend(numbers);
        }
    }
    decided
}

/// Whether two answers of one policy name the same rule.
fn is_same(one: Access<'_>, other: Access<'_>) -> bool {
    match (one, other) {
        (Access::Rule(one), Access::Rule(other))
        | (Access::EndpointMethod(one), Access::EndpointMethod(other))
        | (Access::TwoReadings(one), Access::TwoReadings(other)) => std::ptr::eq(one, other),
        (Access::NoRule, Access::NoRule)
        | (Access::NoHost, Access::NoHost)
        | (Access::MethodCase, Access::MethodCase) => true,
        (
            Access::Rule(_)
            | Access::EndpointMethod(_)
            | Access::TwoReadings(_)
            | Access::NoRule
            | Access::NoHost
            | Access::MethodCase,
            _,
        ) => false,
    }
}

/// Joins paths with the same methods; with an example, if possible of a path as rules write it.
fn by_methods(found: Found) -> Vec<(Vec<usize>, Vec<Paths>, String)> {
    let mut joined: BTreeMap<Vec<usize>, Vec<(Paths, String)>> = BTreeMap::new();
    for (paths, (mut numbers, example)) in found {
        numbers.sort_unstable();
        numbers.dedup();
        joined.entry(numbers).or_default().push((paths, example));
    }
    let joined = joined.into_iter().map(|(numbers, found)| {
        let first = found
            .iter()
            .min_by_key(|(paths, _)| (paths.other_spellings, paths.set == PathSet::At));
        let example = first
            .map(|(_, example)| example.clone())
            .unwrap_or_default();
        let paths = found.into_iter().map(|(paths, _)| paths).collect();
        (numbers, Paths::compressed(paths), example)
    });
    joined.collect()
}

fn chosen(methods: &[(MethodClass, String)], numbers: &[usize]) -> Methods {
    let (mut classes, mut others) = (Vec::new(), Vec::new());
    for (number, (class, _)) in methods.iter().enumerate() {
        match numbers.contains(&number) {
            true => classes.push(class.clone()),
            false => others.push(class.clone()),
        }
    }
    Methods { classes, others }
}

/// Joins changes that differ only by their hosts; the example is that of the first.
fn joined(changes: Vec<Change>) -> Vec<Change> {
    let mut joined: Vec<Change> = Vec::new();
    let mut places: BTreeMap<Alike, Vec<usize>> = BTreeMap::new();
    for change in changes {
        let alike = (change.before, change.after, change.paths.clone());
        let places = places.entry(alike).or_default();
        let same = places.iter().copied().find(|place| {
            joined.get(*place).is_some_and(|other| {
                other.callers == change.callers && other.methods == change.methods
            })
        });
        match same.and_then(|place| joined.get_mut(place)) {
            Some(other) => other.hosts.classes.extend(change.hosts.classes),
            None => {
                places.push(joined.len());
                joined.push(change);
            }
        }
    }
    joined
}

/// What alike changes have in common.
type Alike = (DecidedBy, DecidedBy, Vec<Paths>);
