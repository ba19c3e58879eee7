//! `[[case]]`: requests and the decisions that the rules must make about them, for `doorward policy test`.

use std::collections::BTreeMap;

use doorward_core::{
    account::{Roles, RolesFault},
    decision::Reason,
    machine_keys::{KeyLimits, LimitsFault},
    policy::Endpoint,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::tables::{Document, NotToml, Placed, Raw};

/// The members of a case.
pub const MEMBERS: [&str; 6] = ["name", "request", "host", "as", "expect", "rule"];

/// One file of cases.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cases {
    /// The roles of the users that the file defines.
    pub users: BTreeMap<String, Roles>,
    /// The keys for machines that the file defines.
    pub keys: BTreeMap<String, TestedKey>,
    /// At least one.
    pub cases: Vec<Case>,
}

/// A key for machines that is made for the cases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestedKey {
    pub roles: Roles,
    /// Its paths.
    pub limits: KeyLimits,
}

/// A request, and what must become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub name: String,
    /// File and line.
    pub place: String,
    pub method: String,
    /// The path with its query.
    pub target: String,
    /// Empty for none.
    pub host: String,
    pub who: Who,
    pub expected: Expected,
    /// The name of the rule that must decide.
    pub rule: Option<String>,
}

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    Anonymous,
    /// Somebody with a valid token and these roles.
    SignedIn(Roles),
    /// A user of the file, or of the user table.
    User(String),
    /// A key of the file, as a Bearer token.
    Key(String),
    /// A key of the file, as the password of Basic.
    KeyAsPassword(String),
}

/// What must become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The service gets it.
    Pass,
    /// The service does not get it, for whatever reason.
    Deny,
    /// It is denied with this status, and for this reason if there is one.
    Denied(u16, Option<Reason>),
    /// It reaches one of Doorward's endpoints.
    Endpoint(Endpoint),
}

/// Why a file of cases cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseFault {
    #[error(transparent)]
    NotToml(#[from] NotToml),
    #[error("has no [[case]], so it tests nothing")]
    NoCase,
    #[error("is none of [users], [keys] and [[case]]")]
    Unknown,
    #[error("is no member of a case; these are: {}", MEMBERS.join(", "))]
    UnknownMember,
    #[error("is not a table; write [users], and a list of roles for each name")]
    NotUsers,
    #[error(
        "is not a key; write [keys], and for each name {{ roles = [\"editor\"], paths = [\"/repo/*\"] }}; both are optional"
    )]
    NotKey,
    #[error("the file has no key {0:?} in [keys]")]
    UnknownKey(String),
    #[error("is not a list of tables; write [[case]]")]
    NotCases,
    #[error("is not a list of roles, such as [\"editor\"]")]
    NotRoles,
    #[error("is not a string")]
    NotText,
    #[error("\"request\" is missing; write a method and a path, such as \"GET /admin/users\"")]
    NoRequest,
    #[error("{0:?} is not a method, one blank and a path, such as \"GET /admin/users\"")]
    Request(String),
    #[error("\"expect\" is missing; {EXPECTED}")]
    NoExpected,
    #[error("{0:?} is not a decision; {EXPECTED}")]
    Expected(String),
    #[error("{0:?} is not a reason of a denial; docs/operations.md lists them")]
    Reason(String),
    #[error(
        "{0:?} is not a caller; write \"anonymous\", \"signed-in\", \"role:NAME\", a list of roles, \"user:NAME\", \"key:NAME\" or \"basic-key:NAME\""
    )]
    Who(String),
    #[error(transparent)]
    Roles(#[from] RolesFault),
    #[error(transparent)]
    Limits(#[from] LimitsFault),
}

const EXPECTED: &str = "write \"pass\", \"deny\", a status such as \"403\", a status and a reason such as \"403 missing-role\", or an endpoint such as \"login\"";

type Faults = Vec<Placed<CaseFault>>;

impl Cases {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Every fault and its place.
    pub fn parse(name: &str, text: &str) -> Result<Self, Faults> {
        let document = Document::new(name, text);
        let table = document.parse().map_err(|fault| {
            let Placed { place, what } = fault;
            let what = what.into();
            vec![Placed { place, what }]
        })?;
        let mut reading = Reading {
            document: &document,
            read: Self::default(),
            faults: Vec::new(),
        };
        for (member, value) in &table {
            let place = format!("{}: {}", document.at(member.span().start), member.get_ref());
            match (&**member.get_ref(), value.get_ref()) {
                ("users", DeValue::Table(users)) => reading.users(users),
                ("users", _) => reading.fault(place, CaseFault::NotUsers),
                ("keys", DeValue::Table(keys)) => reading.keys(keys),
                ("keys", _) => reading.fault(place, CaseFault::NotKey),
                ("case", DeValue::Array(cases)) => {
                    cases.iter().for_each(|case| reading.case(case));
                }
                ("case", _) => reading.fault(place, CaseFault::NotCases),
                (_, _) => reading.fault(place, CaseFault::Unknown),
            }
        }
        reading.find_keys();
        if reading.faults.is_empty() && reading.read.cases.is_empty() {
            reading.fault(name.to_owned(), CaseFault::NoCase);
        }
        match reading.faults.is_empty() {
            true => Ok(reading.read),
            false => Err(reading.faults),
        }
    }
}

struct Reading<'a> {
    document: &'a Document<'a>,
    read: Cases,
    faults: Faults,
}

impl Reading<'_> {
    fn fault(&mut self, place: String, what: impl Into<CaseFault>) {
        let what = what.into();
        self.faults.push(Placed { place, what });
    }

    fn users(&mut self, users: &DeTable<'_>) {
        for (name, value) in users {
            let place = format!(
                "{}: users.{}",
                self.document.at(name.span().start),
                name.get_ref()
            );
            match Raw::of_toml(value.get_ref()) {
                Some(Raw::List(roles)) => match Roles::parse(roles.iter().map(String::as_str)) {
                    Ok(roles) => {
                        let name = name.get_ref().to_string();
                        self.read.users.insert(name, roles);
                    }
                    Err(fault) => self.fault(place, fault),
                },
                Some(Raw::Text(_)) | None => self.fault(place, CaseFault::NotRoles),
            }
        }
    }

    fn keys(&mut self, keys: &DeTable<'_>) {
        for (name, value) in keys {
            let name = name.get_ref();
            let place = format!("{}: keys.{name}", self.document.at(value.span().start));
            let read = match value.get_ref().as_table() {
                Some(table) => tested_key(table),
                None => Err(CaseFault::NotKey),
            };
            match read {
                Ok(key) => {
                    self.read.keys.insert(name.to_string(), key);
                }
                Err(fault) => self.fault(place, fault),
            }
        }
    }

    /// Keys may be defined after the cases that show them.
    fn find_keys(&mut self) {
        let unknown = self.read.cases.iter().filter_map(|case| match &case.who {
            Who::Key(name) | Who::KeyAsPassword(name) if !self.read.keys.contains_key(name) => {
                Some(Placed {
                    place: case.place.clone(),
                    what: CaseFault::UnknownKey(name.clone()),
                })
            }
            Who::Anonymous
            | Who::SignedIn(_)
            | Who::User(_)
            | Who::Key(_)
            | Who::KeyAsPassword(_) => None,
        });
        self.faults.extend(unknown);
    }

    fn case(&mut self, case: &Spanned<DeValue<'_>>) {
        let place = self.document.at(case.span().start);
        let Some(table) = case.get_ref().as_table() else {
            return self.fault(place, CaseFault::NotCases);
        };
        let before = self.faults.len();
        let mut found: BTreeMap<&str, (String, Raw)> = BTreeMap::new();
        for (member, value) in table {
            let name = &**member.get_ref();
            let place = format!("{}: case.{name}", self.document.at(member.span().start));
            match (Raw::of_toml(value.get_ref()), value.get_ref()) {
                _ if !MEMBERS.contains(&name) => self.fault(place, CaseFault::UnknownMember),
                (Some(raw), DeValue::String(_) | DeValue::Integer(_)) => {
                    found.insert(name, (place, raw));
                }
                (Some(raw), DeValue::Array(_)) if name == "as" => {
                    found.insert(name, (place, raw));
                }
                (_, _) => self.fault(place, CaseFault::NotText),
            }
        }
        let text = |name: &str| match found.get(name) {
            Some((place, Raw::Text(text))) => Some((place.as_str(), text.as_str())),
            Some((_, Raw::List(_))) | None => None,
        };
        let request = match text("request") {
            None => Err((&*place, CaseFault::NoRequest)),
            Some((place, text)) => request(text).map_err(|fault| (place, fault)),
        };
        let expected = match text("expect") {
            None => Err((&*place, CaseFault::NoExpected)),
            Some((place, text)) => expected(text).map_err(|fault| (place, fault)),
        };
        let who = match found.get("as") {
            None => Ok(Who::Anonymous),
            Some((place, raw)) => who(raw).map_err(|fault| (&**place, fault)),
        };
        match (request, expected, who) {
            (Ok((method, target)), Ok(expected), Ok(who)) if self.faults.len() == before => {
                let owned = |name| text(name).map(|(_, text)| text.to_owned());
                let host = owned("host").unwrap_or_default();
                let name = owned("name");
                self.read.cases.push(Case {
                    name: name.unwrap_or_else(|| format!("{method} {host}{target}, {who}")),
                    place: place.clone(),
                    method,
                    target,
                    host,
                    who,
                    expected,
                    rule: owned("rule"),
                });
            }
            (request, expected, who) => {
                let faults = [request.err(), expected.err(), who.err()];
                for (place, fault) in faults.into_iter().flatten() {
                    self.fault(place.to_owned(), fault);
                }
            }
        }
    }
}

fn tested_key(table: &DeTable<'_>) -> Result<TestedKey, CaseFault> {
    let mut key = TestedKey::default();
    for (member, value) in table {
        let list = match Raw::of_toml(value.get_ref()) {
            Some(Raw::List(list)) => list,
            Some(Raw::Text(_)) | None => return Err(CaseFault::NotKey),
        };
        let list = list.iter().map(String::as_str);
        match &**member.get_ref() {
            "roles" => key.roles = Roles::parse(list)?,
            "paths" => key.limits = KeyLimits::new(None, list)?,
            _ => return Err(CaseFault::NotKey),
        }
    }
    Ok(key)
}

/// Any target is read: cases may show that a malformed one is denied.
fn request(text: &str) -> Result<(String, String), CaseFault> {
    match text.split_once(' ') {
        Some((method, target)) if !method.is_empty() && !target.is_empty() => {
            Ok((method.to_owned(), target.to_owned()))
        }
        Some(_) | None => Err(CaseFault::Request(text.to_owned())),
    }
}

fn expected(text: &str) -> Result<Expected, CaseFault> {
    let wrong = || CaseFault::Expected(text.to_owned());
    match (text, Endpoint::parse(text)) {
        ("pass", _) => Ok(Expected::Pass),
        ("deny", _) => Ok(Expected::Deny),
        (_, Some(endpoint)) => Ok(Expected::Endpoint(endpoint)),
        (_, None) => {
            let (status, reason) = match text.split_once(' ') {
                Some((status, reason)) => (status, Some(reason)),
                None => (text, None),
            };
            let status = status.parse().map_err(|_| wrong())?;
            if !(400..=599).contains(&status) {
                return Err(wrong());
            }
            let reason = reason
                .map(|word| Reason::named(word).ok_or_else(|| CaseFault::Reason(word.to_owned())));
            Ok(Expected::Denied(status, reason.transpose()?))
        }
    }
}

fn who(raw: &Raw) -> Result<Who, CaseFault> {
    let roles = |names: &[&str]| -> Result<Who, CaseFault> {
        Ok(Who::SignedIn(Roles::parse(names.iter().copied())?))
    };
    match raw {
        Raw::List(names) => {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            roles(&names)
        }
        Raw::Text(text) => match (text.as_str(), text.split_once(':')) {
            ("anonymous", _) => Ok(Who::Anonymous),
            ("signed-in", _) => roles(&[]),
            (_, Some(("role", role))) => roles(&[role]),
            (_, Some(("user", name))) if !name.is_empty() => Ok(Who::User(name.to_owned())),
            (_, Some(("key", name))) => Ok(Who::Key(name.to_owned())),
            (_, Some(("basic-key", name))) => Ok(Who::KeyAsPassword(name.to_owned())),
            (text, _) => Err(CaseFault::Who(text.to_owned())),
        },
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::SignedIn(roles) => match roles.iter().next() {
                None => f.write_str("signed in"),
                Some(_) => write!(f, "with {roles}"),
            },
            Self::User(name) => write!(f, "user {name}"),
            Self::Key(name) => write!(f, "key {name}"),
            Self::KeyAsPassword(name) => write!(f, "key {name} as a password"),
        }
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Deny => f.write_str("deny"),
            Self::Denied(status, None) => write!(f, "{status}"),
            Self::Denied(status, Some(reason)) => write!(f, "{status} {reason}"),
            Self::Endpoint(endpoint) => f.write_str(endpoint.name()),
        }
    }
}

#[cfg(test)]
mod tests;
