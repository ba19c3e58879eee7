//! Text and environment -> raw values by key. Knows where each value comes from, and nothing of what it means.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    path::{Path, PathBuf},
};

use doorward_rules::tables::{Document, List, Raw, Table, Unknown, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use zeroize::Zeroizing;

use super::{
    File,
    fault::Fault,
    key::{AnyKey, Entry, Key, Optional, PREFIX},
    keys,
    lists::{ISSUER, ROUTE},
    unknown::{is_service_link, unknown},
};

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

/// The values that are set, each from the strongest source that sets it.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    values: HashMap<&'static str, Value>,
    pub(super) file: Option<File>,
    pub(super) routes: Vec<Table>,
    pub(super) issuers: Vec<Table>,
    pub(super) faults: Vec<Fault>,
    /// Every setting that was asked for, in order.
    #[cfg(test)]
    pub(super) asked: Vec<&'static str>,
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
            #[cfg(test)]
            asked: Vec::new(),
        };
        // Weakest first: a later source replaces what an earlier one set.
        if let Some((name, text)) = &sources.file {
            reader.file = Some(File {
                name: name.clone(),
                is_empty: text.trim().is_empty(),
            });
            reader.read_file(&Document::new(name, text));
        }
        reader.read_environment(&sources);
        for (name, value) in sources.flags {
            match find(&name) {
                Some(key) => reader.set(key, Raw::text(value), format!("--set {name}")),
                None => reader.fault(format!("--set {name}"), unknown(&name)),
            }
        }
        reader
    }

    pub(super) fn fault(&mut self, place: impl Into<String>, what: impl fmt::Display) {
        self.faults.push(Fault {
            place: place.into(),
            what: what.to_string(),
        });
    }

    /// The value of a setting, or its default if it is not set or wrong. A wrong value becomes a fault.
    pub(super) fn get<T>(&mut self, key: &Key<T>) -> T {
        self.parsed(key).unwrap_or_else(|| key.default())
    }

    /// The value of a setting, or `None` if it is not set or wrong. A wrong value becomes a fault.
    pub(super) fn find<T>(&mut self, key: &Optional<T>) -> Option<T> {
        self.parsed(key.key())
    }

    fn parsed<T>(&mut self, key: &Key<T>) -> Option<T> {
        #[cfg(test)]
        self.asked.push(key.name());
        let Value { raw, place } = self.values.get(key.name())?.clone();
        match key.parse(&raw) {
            Ok(value) => Some(value),
            Err(faults) => {
                for fault in faults {
                    self.fault(place.clone(), fault);
                }
                None
            }
        }
    }

    /// Where a setting is set, right or wrong.
    pub(super) fn place(&self, key: &dyn AnyKey) -> Option<String> {
        let value = self.values.get(key.name())?;
        Some(value.place.clone())
    }

    pub(super) fn is_set(&self, key: &dyn AnyKey) -> bool {
        self.values.contains_key(key.name())
    }

    /// A fault of a setting that does not fit the others, at the place where it is set.
    pub(super) fn fault_of(&mut self, key: &dyn AnyKey, what: impl fmt::Display) {
        let place = self.place(key).unwrap_or_else(|| key.name().to_owned());
        self.fault(place, what);
    }

    /// The text of the file that a setting names, or `None` if it is not set.
    pub(super) fn content(&mut self, key: &Optional<PathBuf>) -> Option<String> {
        self.named_content(key).map(|(_, text)| text)
    }

    /// The file that a setting names and its text, or `None` if it is not set.
    pub(super) fn named_content(&mut self, key: &Optional<PathBuf>) -> Option<(PathBuf, String)> {
        let path = self.find(key)?;
        match (self.read)(&path) {
            Ok(text) => Some((path, text)),
            Err(error) => {
                self.fault_of(key, format_args!("{path:?} cannot be read: {error}"));
                None
            }
        }
    }

    /// Reads files, as of the moment of the settings.
    pub(super) fn reads(&self) -> &'a dyn Fn(&Path) -> io::Result<String> {
        self.read
    }

    /// What was written, for comparing.
    pub(super) fn written(&self) -> HashMap<&'static str, Raw> {
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

    fn set(&mut self, key: &'static Entry, raw: Raw, place: String) {
        self.values.insert(key.name, Value { raw, place });
    }

    fn read_file(&mut self, document: &Document<'_>) {
        match document.parse() {
            Ok(table) => self.read_table(document, "", &table),
            Err(fault) => self.fault(fault.place, fault.what),
        }
    }

    fn read_table(&mut self, document: &Document<'_>, prefix: &str, table: &DeTable<'_>) {
        for (member, value) in table {
            let key = match prefix {
                "" => member.get_ref().to_string(),
                _ => format!("{prefix}.{}", member.get_ref()),
            };
            let place = format!("{}: {key}", document.at(member.span().start));
            if key == ROUTE.name {
                let routes = self.read_list(document, value, place, &ROUTE);
                self.routes.extend(routes);
                continue;
            }
            if key == ISSUER.name {
                let issuers = self.read_list(document, value, place, &ISSUER);
                self.issuers.extend(issuers);
                continue;
            }
            match (find(&key), value.get_ref()) {
                (Some(known), DeValue::Float(number)) => {
                    self.set(known, Raw::text(number.as_str().to_owned()), place);
                }
                (Some(known), value) => match Raw::of_toml(value) {
                    Some(raw) => self.set(known, raw, place),
                    None => self.fault(place, "is neither a value nor a list of strings"),
                },
                (None, DeValue::Table(table)) if is_section(&key) => {
                    self.read_table(document, &key, table);
                }
                (None, _) => self.fault(place, unknown(&key)),
            }
        }
    }

    fn read_list(
        &mut self,
        document: &Document<'_>,
        value: &Spanned<DeValue<'_>>,
        place: String,
        list: &List,
    ) -> Vec<Table> {
        let (tables, faults) = list.of_toml(document, value, place);
        for fault in faults {
            self.fault(fault.place, fault.what);
        }
        tables
    }

    fn read_environment(&mut self, sources: &Sources<'_>) {
        let mut known = Vec::new();
        for key in keys() {
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
                    self.set(key, Raw::text(value.clone()), place);
                    continue;
                }
                match (sources.read)(Path::new(value)) {
                    Ok(content) => {
                        let content = Zeroizing::new(content);
                        let line = content.strip_suffix('\n').unwrap_or(&content);
                        let line = line.strip_suffix('\r').unwrap_or(line);
                        self.set(key, Raw::text(line.to_owned()), place);
                    }
                    Err(error) => self.fault(place, format!("{value:?} cannot be read: {error}")),
                }
            }
        }
        for name in sources.environment.keys() {
            let ours = name.starts_with(PREFIX) && name != "DOORWARD_CONFIG";
            if ours && !known.contains(name) && !is_service_link(name) {
                let names: Vec<_> = keys().map(Entry::environment).collect();
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                self.fault(format!("environment: {name}"), Unknown::among(name, &names));
            }
        }
    }
}

fn find(name: &str) -> Option<&'static Entry> {
    keys().find(|key| key.name == name)
}

fn is_section(name: &str) -> bool {
    keys().any(|key| {
        key.name
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}
