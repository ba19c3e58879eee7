//! Lists of tables, such as `[[route]]`, read from TOML but not interpreted yet. Each value has its place.

use std::{collections::BTreeMap, error::Error, fmt};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use zeroize::Zeroizing;

/// A value that is not interpreted yet.
#[derive(Clone, PartialEq, Eq)]
pub enum Raw {
    Text(Zeroizing<String>),
    List(Vec<String>),
}

/// A value and its place.
#[derive(Clone)]
pub struct Value {
    pub raw: Raw,
    pub place: String,
}

/// One table of a list.
#[derive(Clone)]
pub struct Table {
    pub place: String,
    pub members: BTreeMap<String, Value>,
}

/// The name of a list of tables, and the members of each table.
#[derive(Debug)]
pub struct List {
    pub name: &'static str,
    pub members: &'static [&'static str],
}

/// A fault and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<F> {
    /// File and line, then the key.
    pub place: String,
    pub what: F,
}

/// Why a text is not TOML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not TOML: {0}")]
pub struct NotToml(String);

/// Why a list of tables cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableFault {
    #[error("is not a list of tables; write [[{0}]]")]
    NotAList(&'static str),
    #[error("is not a table; write [[{0}]]")]
    NotATable(&'static str),
    #[error("is neither a string nor a list of strings")]
    NotText,
    #[error(transparent)]
    Unknown(#[from] Unknown),
}

/// A name that is not a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("is not a setting; did you mean {0}?")]
    Like(String),
    #[error("is not a setting; docs/settings.md lists them all")]
    Unlike,
}

impl Unknown {
    /// Finds the most similar name of a setting.
    #[must_use]
    pub fn among(name: &str, names: &[&str]) -> Self {
        let nearest = names
            .iter()
            .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
            .max_by(|left, right| left.0.total_cmp(&right.0));
        match nearest {
            Some((likeness, known)) if likeness > 0.5 => Self::Like((*known).to_owned()),
            _ => Self::Unlike,
        }
    }
}

impl<F: fmt::Display> fmt::Display for Placed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl<F: Error + 'static> Error for Placed<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.what.source()
    }
}

impl Raw {
    #[must_use]
    pub fn text(text: String) -> Self {
        Self::Text(Zeroizing::new(text))
    }

    /// Reads a string, a list of strings, a whole number or a truth value.
    #[must_use]
    pub fn of_toml(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::String(string) => Some(Self::text(string.to_string())),
            DeValue::Integer(integer) => Some(Self::text(integer.as_str().to_owned())),
            DeValue::Boolean(boolean) => Some(Self::text(boolean.to_string())),
            DeValue::Array(array) => array
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .map(Self::List),
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
        }
    }

    /// The values of a list, or of one text with commas.
    #[must_use]
    pub fn items(&self) -> Vec<String> {
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

/// A text with a name.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    name: &'a str,
    text: &'a str,
    /// The offsets of the line ends.
    ends: Vec<usize>,
}

impl<'a> Document<'a> {
    #[must_use]
    pub fn new(name: &'a str, text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(end, _)| end).collect();
        Self { name, text, ends }
    }

    /// Reads the text as TOML.
    ///
    /// # Errors
    ///
    /// The first fault and its place.
    pub fn parse(&self) -> Result<DeTable<'a>, Placed<NotToml>> {
        let table = DeTable::parse(self.text).map_err(|error| Placed {
            place: match error.span() {
                Some(span) => self.at(span.start),
                None => self.name.to_owned(),
            },
            what: NotToml(error.message().to_owned()),
        })?;
        Ok(table.into_inner())
    }

    /// The name and the line of an offset.
    #[must_use]
    pub fn at(&self, offset: usize) -> String {
        let before = self.ends.partition_point(|end| *end < offset);
        format!("{}:{}", self.name, before + 1)
    }
}

/// The tables that could be read, and every fault of the others.
type Read = (Vec<Table>, Vec<Placed<TableFault>>);

impl List {
    /// Reads the list from a TOML document. `place` is its place there.
    #[must_use]
    pub fn of_toml(
        &self,
        document: &Document<'_>,
        value: &Spanned<DeValue<'_>>,
        place: String,
    ) -> Read {
        let mut read = Read::default();
        let Some(array) = value.get_ref().as_array() else {
            fault(&mut read, place, TableFault::NotAList(self.name));
            return read;
        };
        for (index, table) in array.iter().enumerate() {
            let name = format!("{}[{index}]", self.name);
            let place = format!("{}: {name}", document.at(table.span().start));
            let Some(table) = table.get_ref().as_table() else {
                fault(&mut read, place, TableFault::NotATable(self.name));
                continue;
            };
            let mut members = BTreeMap::new();
            for (member, value) in table {
                let (start, member) = (member.span().start, &**member.get_ref());
                let place = format!("{}: {name}.{member}", document.at(start));
                match Raw::of_toml(value.get_ref()) {
                    _ if !self.members.contains(&member) => {
                        fault(
                            &mut read,
                            place,
                            Unknown::among(member, self.members).into(),
                        );
                    }
                    Some(raw) => {
                        members.insert(member.to_owned(), Value { raw, place });
                    }
                    None => fault(&mut read, place, TableFault::NotText),
                }
            }
            read.0.push(Table { place, members });
        }
        read
    }
}

fn fault((_, faults): &mut Read, place: String, what: TableFault) {
    faults.push(Placed { place, what });
}
