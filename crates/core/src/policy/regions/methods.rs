//! Methods that rules do not distinguish.

use std::{collections::BTreeSet, fmt};

use super::super::Rule;
use crate::request::Method;

/// Methods that no rule distinguishes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MethodClass {
    /// One method.
    Named(String),
    /// All spellings of a method that is not in IANA's registry which no rule writes; in lower case.
    OtherCase(String),
    /// All other methods.
    Other,
}

/// Some of all methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods {
    /// These.
    pub classes: Vec<MethodClass>,
    /// What is not in `classes`.
    pub others: Vec<MethodClass>,
}

impl Methods {
    /// Whether a method is one of them.
    #[must_use]
    pub fn include(&self, method: Method<'_>) -> bool {
        let name = method.as_str();
        let all = || self.classes.iter().chain(&self.others);
        let named = all().find(|class| matches!(class, MethodClass::Named(own) if own == name));
        let spelled = || {
            let lower = name.to_ascii_lowercase();
            all().find(|class| matches!(class, MethodClass::OtherCase(own) if *own == lower))
        };
        let class = named.or_else(spelled).unwrap_or(&MethodClass::Other);
        self.classes.contains(class)
    }
}

impl fmt::Display for MethodClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::OtherCase(name) => write!(f, "{name} in another case"),
            Self::Other => f.write_str("other methods"),
        }
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |classes: &[MethodClass]| {
            let names: Vec<_> = classes.iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        match self.classes.contains(&MethodClass::Other) {
            false => f.write_str(&list(&self.classes)),
            true if self.others.is_empty() => f.write_str("any method"),
            true => write!(f, "any method but {}", list(&self.others)),
        }
    }
}

/// All classes of methods, each with an example.
pub(crate) fn method_classes<'p>(
    rules: impl Iterator<Item = &'p Rule>,
) -> Vec<(MethodClass, String)> {
    let mut named = BTreeSet::new();
    let mut unregistered = BTreeSet::new();
    for rule in rules {
        named.extend(rule.methods.iter().cloned());
        unregistered.extend(rule.unregistered_methods().map(str::to_ascii_lowercase));
    }
    // Rules for `GET` decide `HEAD`, too.
    if named.contains("GET") {
        named.insert("HEAD".into());
    }
    let spelled = unregistered.into_iter().filter_map(|lower| {
        let other = spellings(&lower).find(|other| !named.contains(other))?;
        Some((MethodClass::OtherCase(lower), other))
    });
    let spelled: Vec<_> = spelled.collect();
    let usual = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].map(String::from);
    let unusual = (0_u32..).map(|number| format!("OTHER{number}"));
    let is_free = |name: &String| !named.iter().any(|own| own.eq_ignore_ascii_case(name));
    let other = usual.into_iter().chain(unusual).find(is_free);
    let named = named.iter().cloned();
    named
        .map(|name| (MethodClass::Named(name.clone()), name))
        .chain(spelled)
        .chain(other.map(|name| (MethodClass::Other, name)))
        .collect()
}

/// Some spellings of a method; of a name with two letters or more, at least four.
fn spellings(lower: &str) -> impl Iterator<Item = String> {
    let upper = lower.to_ascii_uppercase();
    let one = lower.char_indices().map(|(at, _)| {
        let letters = lower
            .char_indices()
            .map(|(other, letter)| match other == at {
                true => letter.to_ascii_uppercase(),
                false => letter,
            });
        letters.collect::<String>()
    });
    [lower.to_owned(), upper].into_iter().chain(one)
}
