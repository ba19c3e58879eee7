//! Text and environment -> raw values by key. Knows where each value comes from, and nothing of what it means.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    path::Path,
};

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::keys::{ISSUER, KEYS, Key, PREFIX, ROUTE};

/// Everything settings are read from.
pub struct Sources<'a> {
    /// `KEY=VALUE` from the command line.
    pub flags: Vec<(String, String)>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The name and the text of the file.
    pub file: Option<(String, String)>,
    /// Reads the file that a name ending in `_FILE` names.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// File and line, or name in the environment, or flag; then the key.
    pub place: String,
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// A value before it has a meaning.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Raw {
    Text(Zeroizing<String>),
    List(Vec<String>),
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

/// The values that are set, each from the strongest source that sets it.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    values: HashMap<&'static str, Value>,
    /// The name of the file, and whether nothing is in it.
    pub(super) file: Option<(String, bool)>,
    pub(super) routes: Vec<RawTable>,
    pub(super) issuers: Vec<RawTable>,
    pub(super) faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub(super) fn read(sources: Sources<'a>) -> Self {
        let mut reader = Self {
            read: sources.read,
            values: HashMap::new(),
            file: None,
            routes: Vec::new(),
            issuers: Vec::new(),
            faults: Vec::new(),
        };
        // Weakest first: a later source replaces what an earlier one set.
        if let Some((name, text)) = &sources.file {
            reader.file = Some((name.clone(), text.trim().is_empty()));
            reader.read_file(name, text);
        }
        reader.read_environment(&sources);
        for (name, value) in sources.flags {
            match find(&name) {
                Some(key) => reader.set(key, text(value), format!("--set {name}")),
                None => reader.fault(format!("--set {name}"), unknown(&name)),
            }
        }
        reader
    }

    pub(super) fn fault(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.faults.push(Fault {
            place: place.into(),
            what: what.into(),
        });
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The parsed value of a key, or its default where it is not set or wrong; what is wrong becomes a fault.
    pub(super) fn parse<T>(
        &mut self,
        name: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let Some(Value { raw, place }) = self.get(name).cloned() else {
            return default;
        };
        let parsed = match &raw {
            Raw::Text(text) => parse(text),
            Raw::List(_) => Err("is a list; write one value".into()),
        };
        parsed.unwrap_or_else(|what| {
            self.fault(place, what);
            default
        })
    }

    /// What was written, for comparing.
    pub(super) fn take_values(&self) -> HashMap<&'static str, Raw> {
        let values = self.values.iter();
        values
            .map(|(name, value)| (*name, value.raw.clone()))
            .collect()
    }

    /// Puts back what was written for a key before.
    pub(super) fn put_back(&mut self, name: &'static str, written: Option<&Raw>) {
        match written {
            None => drop(self.values.remove(name)),
            Some(raw) => {
                let (raw, place) = (raw.clone(), format!("{name}, as it was at the start"));
                self.values.insert(name, Value { raw, place });
            }
        }
    }

    /// The text of the file that a key names, or none where it is not set.
    pub(super) fn content(&mut self, name: &str) -> String {
        let read = self.read;
        self.parse(name, String::new(), |path| {
            read(Path::new(path)).map_err(|error| format!("{path:?} cannot be read: {error}"))
        })
    }

    fn set(&mut self, key: &'static Key, raw: Raw, place: String) {
        self.values.insert(key.name, Value { raw, place });
    }

    fn read_file(&mut self, name: &str, text: &str) {
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let place = match error.span() {
                    Some(span) => at(name, text, span.start),
                    None => name.to_owned(),
                };
                return self.fault(place, format!("not TOML: {}", error.message()));
            }
        };
        self.read_table(name, text, "", &table);
    }

    fn read_table(&mut self, file: &str, whole: &str, prefix: &str, table: &DeTable<'_>) {
        for (member, value) in table {
            let key = match prefix {
                "" => member.get_ref().to_string(),
                _ => format!("{prefix}.{}", member.get_ref()),
            };
            let place = format!("{}: {key}", at(file, whole, member.span().start));
            if key == ROUTE {
                let routes = self.read_tables(file, whole, value, place, (ROUTE, ROUTE_MEMBERS));
                self.routes.extend(routes);
                continue;
            }
            if key == ISSUER {
                let tables = (ISSUER, ISSUER_MEMBERS);
                let issuers = self.read_tables(file, whole, value, place, tables);
                self.issuers.extend(issuers);
                continue;
            }
            match (find(&key), value.get_ref()) {
                (Some(known), DeValue::Float(number)) => {
                    self.set(known, text(number.as_str().to_owned()), place);
                }
                (Some(known), value) => match raw(value) {
                    Some(raw) => self.set(known, raw, place),
                    None => self.fault(place, "is neither a value nor a list of strings"),
                },
                (None, DeValue::Table(table)) if is_section(&key) => {
                    self.read_table(file, whole, &key, table);
                }
                (None, _) => self.fault(place, unknown(&key)),
            }
        }
    }

    fn read_tables(
        &mut self,
        file: &str,
        whole: &str,
        value: &Spanned<DeValue<'_>>,
        place: String,
        (key, known): (&str, &[&str]),
    ) -> Vec<RawTable> {
        let mut tables = Vec::new();
        let Some(array) = value.get_ref().as_array() else {
            self.fault(place, format!("is not a list of tables; write [[{key}]]"));
            return tables;
        };
        for (index, table) in array.iter().enumerate() {
            let name = format!("{key}[{index}]");
            let here = format!("{}: {name}", at(file, whole, table.span().start));
            let Some(table) = table.get_ref().as_table() else {
                self.fault(here, format!("is not a table; write [[{key}]]"));
                continue;
            };
            let mut members = BTreeMap::new();
            for (member, value) in table {
                let place = format!(
                    "{}: {name}.{}",
                    at(file, whole, member.span().start),
                    member.get_ref()
                );
                if !known.contains(&&**member.get_ref()) {
                    self.fault(place, unknown_among(member.get_ref(), known));
                    continue;
                }
                match raw(value.get_ref()) {
                    Some(raw) => {
                        members.insert(member.get_ref().to_string(), Value { raw, place });
                    }
                    None => self.fault(place, "is neither a string nor a list of strings"),
                }
            }
            tables.push(RawTable {
                place: here,
                members,
            });
        }
        tables
    }

    fn read_environment(&mut self, sources: &Sources<'_>) {
        let mut known = Vec::new();
        for key in KEYS {
            let mut set_by: Option<String> = None;
            let own = key.environment();
            let names = key.also.iter().copied().chain([&*own]);
            for name in names.flat_map(|name| [name.to_owned(), format!("{name}_FILE")]) {
                known.push(name.clone());
                let Some(value) = sources.environment.get(&name) else {
                    continue;
                };
                let place = format!("environment: {name}");
                if let Some(other) = &set_by {
                    self.fault(place, format!("{other} sets the same; keep one of them"));
                    continue;
                }
                set_by = Some(name.clone());
                if !name.ends_with("_FILE") {
                    self.set(key, text(value.clone()), place);
                    continue;
                }
                match (sources.read)(Path::new(value)) {
                    Ok(content) => {
                        let content = Zeroizing::new(content);
                        let line = content.strip_suffix('\n').unwrap_or(&content);
                        let line = line.strip_suffix('\r').unwrap_or(line);
                        self.set(key, text(line.to_owned()), place);
                    }
                    Err(error) => self.fault(place, format!("{value:?} cannot be read: {error}")),
                }
            }
        }
        for name in sources.environment.keys() {
            let ours = name.starts_with(PREFIX) && name != "DOORWARD_CONFIG";
            if ours && !known.contains(name) && !is_service_link(name) {
                let names: Vec<_> = KEYS.iter().map(Key::environment).collect();
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                self.fault(format!("environment: {name}"), unknown_among(name, &names));
            }
        }
    }
}

const ROUTE_MEMBERS: &[&str] = &["path", "methods", "hosts", "allow"];

const ISSUER_MEMBERS: &[&str] = &[
    "issuer",
    "audience",
    "jwks",
    "prefix",
    "username",
    "roles",
    "accept_roles",
    "grant",
    "algorithms",
];

fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| {
        key.name
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

fn text(text: String) -> Raw {
    Raw::Text(Zeroizing::new(text))
}

fn raw(value: &DeValue<'_>) -> Option<Raw> {
    match value {
        DeValue::String(string) => Some(text(string.to_string())),
        DeValue::Integer(integer) => Some(text(integer.as_str().to_owned())),
        DeValue::Boolean(boolean) => Some(text(boolean.to_string())),
        DeValue::Array(array) => array
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map(Raw::List),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn at(file: &str, whole: &str, offset: usize) -> String {
    let before = whole.get(..offset).unwrap_or(whole);
    format!("{file}:{}", before.matches('\n').count() + 1)
}

fn unknown(name: &str) -> String {
    let names: Vec<_> = KEYS
        .iter()
        .map(|key| key.name)
        .chain([ROUTE, ISSUER])
        .collect();
    unknown_among(name, &names)
}

fn unknown_among(name: &str, names: &[&str]) -> String {
    let nearest = names
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match nearest {
        Some((likeness, known)) if likeness > 0.5 => {
            format!("is not a setting; did you mean {known}?")
        }
        _ => "is not a setting; docs/settings.md lists them all".into(),
    }
}

/// Kubernetes and Docker put the addresses of services into the environment under such names; a service that is
/// called `doorward` must not keep Doorward from starting.
fn is_service_link(name: &str) -> bool {
    let Some((_, rest)) = name.rsplit_once("_PORT") else {
        return name.ends_with("_SERVICE_HOST");
    };
    let is_port = rest.strip_prefix('_').is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit())
            && (rest.contains("_TCP") || rest.contains("_UDP"))
    });
    rest.is_empty() || is_port || name.contains("_SERVICE_PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_are_known() {
        for name in [
            "DOORWARD_SERVICE_HOST",
            "DOORWARD_SERVICE_PORT",
            "DOORWARD_SERVICE_PORT_GRPC",
            "DOORWARD_PORT",
            "DOORWARD_PORT_9001_TCP",
            "DOORWARD_PORT_9001_TCP_ADDR",
            "DOORWARD_GRPC_PORT_9001_TCP_PROTO",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in [
            "DOORWARD_LISTEN_GRPC",
            "DOORWARD_DATABASE__PROT",
            "DOORWARD_PORTS",
        ] {
            assert!(!is_service_link(name), "{name}");
        }
    }

    #[test]
    fn every_key_has_one_name() {
        for (index, key) in KEYS.iter().enumerate() {
            for other in KEYS.iter().skip(index + 1) {
                assert_ne!(key.name, other.name);
                assert_ne!(key.environment(), other.environment());
            }
        }
    }
}
