//! Hosts that rules do not distinguish.

use std::{collections::BTreeSet, fmt};

use super::super::{Rule, pattern::HostPattern};
use crate::request::Host;

/// Hosts that no rule distinguishes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostClass {
    /// No host.
    None,
    /// One host.
    Exact(String),
    /// The hosts below one for which no longer pattern is written.
    Below(String),
    /// All other hosts, and also no host if no rule names one.
    Other,
}

impl HostClass {
    /// Whether rules with this pattern match these hosts.
    pub(crate) fn matches(&self, pattern: &HostPattern) -> bool {
        let is_below = |name: &str, parent: &str| {
            name.strip_suffix(parent)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        };
        match (self, pattern) {
            (Self::Exact(name), HostPattern::Exact(own)) => name == own,
            (Self::Exact(name), HostPattern::Below(own)) => is_below(name, own),
            (Self::Below(name), HostPattern::Below(own)) => name == own || is_below(name, own),
            (Self::Below(_), HostPattern::Exact(_)) | (Self::None | Self::Other, _) => false,
        }
    }
}

/// Some of all hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// These.
    pub classes: Vec<HostClass>,
    /// What is not in `classes`.
    pub others: Vec<HostClass>,
}

impl Hosts {
    /// Whether a host is one of them.
    #[must_use]
    pub fn include(&self, host: Host<'_>) -> bool {
        let all = || self.classes.iter().chain(&self.others);
        let names_hosts = all().any(|class| *class != HostClass::Other);
        let name = host.name().map(str::to_ascii_lowercase);
        let class = match &name {
            _ if !names_hosts => Some(&HostClass::Other),
            None => Some(&HostClass::None),
            Some(name) => all()
                .filter(|class| match class {
                    HostClass::Exact(own) => own == name,
                    HostClass::Below(own) => {
                        let pattern = HostPattern::Below(own.clone());
                        HostClass::Exact(name.clone()).matches(&pattern)
                    }
                    HostClass::Other => true,
                    HostClass::None => false,
                })
                .max_by_key(|class| match class {
                    HostClass::Exact(_) => usize::MAX,
                    HostClass::Below(own) => own.len(),
                    HostClass::None | HostClass::Other => 0,
                }),
        };
        class.is_some_and(|class| self.classes.contains(class))
    }
}

impl fmt::Display for HostClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no host"),
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Other => f.write_str("other hosts"),
        }
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |classes: &[HostClass]| {
            let names: Vec<_> = classes.iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        // A request without a host is none of "any host".
        let others = || {
            self.others
                .iter()
                .filter(|class| **class != HostClass::None)
        };
        match self.classes.contains(&HostClass::Other) {
            false => f.write_str(&list(&self.classes)),
            true if others().next().is_none() => f.write_str("any host"),
            true => {
                let others: Vec<_> = others().cloned().collect();
                write!(f, "any host but {}", list(&others))
            }
        }
    }
}

/// All classes of hosts, each with an example, which is empty for no host.
pub(crate) fn host_classes<'p>(rules: impl Iterator<Item = &'p Rule>) -> Vec<(HostClass, String)> {
    let patterns: Vec<_> = rules.flat_map(|rule| &rule.hosts).collect();
    if patterns.is_empty() {
        return vec![(HostClass::Other, String::new())];
    }
    let (mut exact, mut below) = (BTreeSet::new(), BTreeSet::new());
    for pattern in patterns {
        match pattern {
            HostPattern::Exact(name) => exact.insert(name.clone()),
            HostPattern::Below(name) => below.insert(name.clone()),
        };
    }
    let is_free = |name: &str| {
        let class = HostClass::Exact(name.to_owned());
        !exact.contains(name)
            && !below
                .iter()
                .any(|own| own == name || class.matches(&HostPattern::Below(own.clone())))
    };
    // A name directly below, so that no longer pattern covers it unless it is the parent of one.
    let free_below = |parent: &str| {
        labels()
            .map(|label| format!("{label}.{parent}"))
            .find(|name| {
                let longer = below.iter().any(|own| {
                    own.len() > parent.len()
                        && (own == name
                            || HostClass::Exact(name.clone())
                                .matches(&HostPattern::Below(own.clone())))
                });
                !exact.contains(name) && !longer
            })
    };
    let mut classes = vec![(HostClass::None, String::new())];
    classes.extend(
        exact
            .iter()
            .map(|name| (HostClass::Exact(name.clone()), name.clone())),
    );
    for name in &below {
        // A name may be so long that no host is below it.
        if let Some(example) = free_below(name)
            && Host::parse(example.as_bytes()).is_some()
        {
            classes.push((HostClass::Below(name.clone()), example));
        }
    }
    // If a rule has all hosts below `example`, no name there is free; names without a dot are below nothing.
    let other = labels()
        .map(|label| match below.contains("example") {
            true => label,
            false => format!("{label}.example"),
        })
        .find(|name| is_free(name));
    classes.extend(other.map(|name| (HostClass::Other, name)));
    classes
}

/// More names than there can be rules.
fn labels() -> impl Iterator<Item = String> {
    (0_u32..).map(|number| match number {
        0 => "any".to_owned(),
        _ => format!("any{number}"),
    })
}
