//! What a setting is: one entry gives its key, its names in the environment, its default, its meaning, its parser, and
//! whether it reloads. The entries themselves are in the files of the sections.

use doorward_rules::tables::Raw;

use super::fault::ValueFault;

/// The part of an entry that people read.
#[derive(Debug)]
pub struct Entry {
    /// The path in `doorward.toml`.
    pub name: &'static str,
    /// Names in the environment, besides the one derived from the path.
    pub also: &'static [&'static str],
    /// The default; in an `Optional` entry, a description of what applies instead.
    pub default: &'static str,
    /// What it means, with its unit and limits.
    pub meaning: &'static str,
    /// Whether a change takes effect without a restart.
    pub reloads: bool,
}

impl Entry {
    /// The name in the environment: `DOORWARD_` and the path in capitals, with `__` between levels.
    #[must_use]
    pub fn environment(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "__").to_uppercase())
    }
}

/// The start of every name in the environment that belongs to Doorward.
pub(super) const PREFIX: &str = "DOORWARD_";

/// A setting with a default, which its own parser reads.
pub(super) struct Key<T> {
    entry: Entry,
    parse: Parse<T>,
}

/// A setting without a default: if it is not set, its section does without it or computes a value.
pub(super) struct Optional<T>(Key<T>);

/// The parser of one value, or of a list of values.
enum Parse<T> {
    One(fn(&str) -> Result<T, ValueFault>),
    List(fn(&[String]) -> Result<T, Vec<ValueFault>>),
}

impl<T> Key<T> {
    pub(super) const fn new(
        name: &'static str,
        default: &'static str,
        parse: fn(&str) -> Result<T, ValueFault>,
        meaning: &'static str,
    ) -> Self {
        Self::with(name, default, Parse::One(parse), meaning)
    }

    /// A list, or one text with commas.
    pub(super) const fn list(
        name: &'static str,
        default: &'static str,
        parse: fn(&[String]) -> Result<T, Vec<ValueFault>>,
        meaning: &'static str,
    ) -> Self {
        Self::with(name, default, Parse::List(parse), meaning)
    }

    const fn with(
        name: &'static str,
        default: &'static str,
        parse: Parse<T>,
        meaning: &'static str,
    ) -> Self {
        Self {
            entry: Entry {
                name,
                also: &[],
                default,
                meaning,
                reloads: false,
            },
            parse,
        }
    }

    /// Adds names in the environment.
    pub(super) const fn also(mut self, names: &'static [&'static str]) -> Self {
        self.entry.also = names;
        self
    }

    pub(super) const fn reloads(mut self) -> Self {
        self.entry.reloads = true;
        self
    }

    /// Turns the default into a description of what applies if the setting is not set.
    pub(super) const fn optional(self) -> Optional<T> {
        Optional(self)
    }

    pub(super) fn parse(&self, raw: &Raw) -> Result<T, Vec<ValueFault>> {
        match (&self.parse, raw) {
            (Parse::One(parse), Raw::Text(text)) => parse(text).map_err(|fault| vec![fault]),
            (Parse::One(_), Raw::List(_)) => Err(vec![ValueFault::List]),
            (Parse::List(parse), raw) => parse(&raw.items()),
        }
    }

    #[expect(
        clippy::panic,
        reason = "a wrong constant in an entry; a test parses all of them"
    )]
    pub(super) fn default(&self) -> T {
        let Entry { name, default, .. } = self.entry;
        match self.parse(&Raw::text(default.to_owned())) {
            Ok(value) => value,
            Err(faults) => panic!("the default of {name} cannot be parsed: {faults:?}"),
        }
    }
}

impl<T> Optional<T> {
    pub(super) const fn key(&self) -> &Key<T> {
        &self.0
    }
}

/// An entry of any type, for what concerns all of them.
pub(super) trait AnyKey: Sync {
    fn entry(&self) -> &Entry;

    fn name(&self) -> &'static str {
        self.entry().name
    }

    /// What is wrong with a text.
    fn refusals(&self, text: &str) -> Vec<ValueFault>;

    fn is_list(&self) -> bool;

    /// Whether the default is a value, and not a description.
    fn has_default(&self) -> bool;

    /// Parses the default, if there is one.
    #[cfg(test)]
    fn check_default(&self) -> Result<(), Vec<ValueFault>>;
}

impl<T> AnyKey for Key<T> {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn refusals(&self, text: &str) -> Vec<ValueFault> {
        let refused = self.parse(&Raw::text(text.to_owned())).err();
        refused.unwrap_or_default()
    }

    fn is_list(&self) -> bool {
        matches!(self.parse, Parse::List(_))
    }

    fn has_default(&self) -> bool {
        true
    }

    #[cfg(test)]
    fn check_default(&self) -> Result<(), Vec<ValueFault>> {
        self.parse(&Raw::text(self.entry.default.to_owned()))
            .map(drop)
    }
}

impl<T> AnyKey for Optional<T> {
    fn entry(&self) -> &Entry {
        &self.0.entry
    }

    fn refusals(&self, text: &str) -> Vec<ValueFault> {
        self.0.refusals(text)
    }

    fn is_list(&self) -> bool {
        self.0.is_list()
    }

    fn has_default(&self) -> bool {
        false
    }

    #[cfg(test)]
    fn check_default(&self) -> Result<(), Vec<ValueFault>> {
        Ok(())
    }
}

/// The entries of one section, in the order in which people read them.
pub(super) type Section = &'static [&'static dyn AnyKey];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io};

    use super::super::{SECTIONS, Settings, Sources, keys, reader::Reader};

    #[test]
    fn every_default_is_parsed_by_its_own_parser() {
        for key in SECTIONS.iter().copied().flatten() {
            assert_eq!(key.check_default(), Ok(()), "{}", key.name());
        }
    }

    /// An entry that no section lists, or that no section reads, would be a setting without effect.
    #[test]
    fn every_key_is_read_by_exactly_one_section() {
        let mut reader = Reader::read(Sources {
            flags: Vec::new(),
            environment: BTreeMap::new(),
            file: None,
            read: &|_| Err(io::ErrorKind::NotFound.into()),
        });
        Settings::read(&mut reader);
        let mut listed: Vec<_> = keys().map(|key| key.name).collect();
        listed.sort_unstable();
        reader.asked.sort_unstable();
        assert_eq!(reader.asked, listed);
    }

    #[test]
    fn every_key_has_one_name() {
        let keys: Vec<_> = keys().collect();
        for (index, key) in keys.iter().enumerate() {
            for other in keys.iter().skip(index + 1) {
                assert_ne!(key.name, other.name);
                assert_ne!(key.environment(), other.environment());
            }
        }
    }
}
