//! Values before they have a meaning, each with its place.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// A value before it has a meaning.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Raw {
    Text(Zeroizing<String>),
    List(Vec<String>),
}

pub(super) fn text(text: String) -> Raw {
    Raw::Text(Zeroizing::new(text))
}

impl Raw {
    /// Several values: a list, or one text with commas between them.
    pub(super) fn items(&self) -> Vec<String> {
        match self {
            Self::Text(text) => {
                let items = text.split(',').map(str::trim);
                items
                    .filter(|item| !item.is_empty())
                    .map(str::to_owned)
                    .collect()
            }
            Self::List(items) => items.clone(),
        }
    }
}

#[derive(Clone)]
pub(super) struct Value {
    pub(super) raw: Raw,
    pub(super) place: String,
}

/// A `[[route]]` or `[[issuer]]` before it has a meaning.
#[derive(Clone)]
pub(super) struct RawTable {
    pub(super) place: String,
    pub(super) members: BTreeMap<String, Value>,
}

/// The name of a list of tables, which only a file can contain, and the members of each table.
pub(super) struct Tables {
    pub(super) name: &'static str,
    pub(super) members: &'static [&'static str],
}

pub(super) static ISSUER: Tables = Tables {
    name: "issuer",
    members: &[
        "issuer",
        "audience",
        "jwks",
        "prefix",
        "username",
        "roles",
        "accept_roles",
        "grant",
        "algorithms",
    ],
};

pub(super) static ROUTE: Tables = Tables {
    name: "route",
    members: &["path", "methods", "hosts", "allow"],
};
