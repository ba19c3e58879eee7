//! One answer as JSON. It is read strictly: an unknown, missing or repeated member is an error.

use std::fmt;

use doorward_core::{
    revocation::{Change, Generation},
    time::UnixTime,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    FORMAT, LONGEST, MOST_CHANGES,
    content::{Content, required},
    fault::{FeedFault, short},
};

/// Which part of a replica's knowledge an answer contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Part {
    /// Changes after the cursor.
    Changes,
    /// Everything, in one answer.
    Only,
    /// Everything, first page.
    First,
    /// A further page.
    Middle,
    /// The last page.
    Last,
}

/// An answer as it is written.
#[derive(Serialize)]
pub(super) struct Written<'a> {
    pub(super) format: u64,
    pub(super) answers: &'a str,
    pub(super) replica: &'a str,
    pub(super) position: u64,
    pub(super) next: String,
    pub(super) age: Option<u64>,
    pub(super) part: Part,
    pub(super) more: bool,
    pub(super) digest: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<&'a RawValue>,
    pub(super) changes: Vec<Entry>,
}

/// An answer as it is read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) format: u64,
    pub(super) answers: String,
    pub(super) replica: String,
    pub(super) position: u64,
    pub(super) next: String,
    #[serde(deserialize_with = "required")]
    pub(super) age: Option<u64>,
    pub(super) part: Part,
    pub(super) more: bool,
    pub(super) digest: String,
    #[serde(default, deserialize_with = "given")]
    pub(super) content: Option<Content>,
    pub(super) changes: Vec<Entry>,
}

impl Answer {
    /// Reads an answer.
    pub(super) fn read(body: &[u8]) -> Result<Self, FeedFault> {
        if body.len() > LONGEST {
            return Err(FeedFault::Long);
        }
        let answer: Self = match serde_json::from_slice(body) {
            Ok(answer) => answer,
            Err(fault) => return Err(of_another_format(body, &fault)),
        };
        if answer.format != FORMAT {
            return Err(FeedFault::Format(answer.format));
        }
        if answer.changes.len() > MOST_CHANGES {
            return Err(FeedFault::Many(MOST_CHANGES));
        }
        let short = |text: &str, most: usize| (1..=most).contains(&text.len());
        let is_well_formed = short(&answer.replica, 64)
            && short(&answer.next, 1024)
            && short(&answer.digest, 64)
            && answer.changes.iter().all(|entry| short(entry.name(), 512));
        match is_well_formed {
            true => Ok(answer),
            false => Err(FeedFault::Id),
        }
    }
}

/// The fault of an answer that cannot be read: its format, if that is another one.
fn of_another_format(body: &[u8], fault: &serde_json::Error) -> FeedFault {
    #[derive(Deserialize)]
    struct Header {
        format: u64,
    }

    match serde_json::from_slice(body) {
        Ok(Header { format }) if format != FORMAT => FeedFault::Format(format),
        Ok(_) | Err(_) => FeedFault::Syntax(short(&fault.to_string())),
    }
}

/// A member that may be missing but not null.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(reader: D) -> Result<Option<T>, D::Error> {
    T::deserialize(reader).map(Some)
}

/// A change: a list whose first element is its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry(pub(super) Change);

const ENDED: &str = "t";
const GENERATION: &str = "g";
const ACTIVITY: &str = "i";

impl Entry {
    fn name(&self) -> &str {
        match &self.0 {
            Change::Ended { id, .. } => id,
            Change::Generation { subject, .. } | Change::Activity { subject, .. } => subject,
        }
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Change::Ended { id, expires } => (ENDED, &**id, expires.0).serialize(writer),
            Change::Generation {
                subject,
                generation,
                expires,
            } => (GENERATION, &**subject, generation.0, expires.0).serialize(writer),
            Change::Activity { subject, inactive } => {
                (ACTIVITY, &**subject, inactive).serialize(writer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct List;

        fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(
            list: &mut A,
            place: usize,
        ) -> Result<T, A::Error> {
            let element = list.next_element()?;
            element.ok_or_else(|| de::Error::invalid_length(place, &List))
        }

        impl<'de> Visitor<'de> for List {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a change: [\"t\", id, time], [\"g\", user, generation, time] or [\"i\", user, inactive]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entry, A::Error> {
                let kind: String = next(&mut list, 0)?;
                let name: String = next(&mut list, 1)?;
                let change = match &*kind {
                    ENDED => Change::Ended {
                        id: name.into(),
                        expires: UnixTime(next(&mut list, 2)?),
                    },
                    GENERATION => Change::Generation {
                        subject: name.into(),
                        generation: Generation(next(&mut list, 2)?),
                        expires: UnixTime(next(&mut list, 3)?),
                    },
                    ACTIVITY => Change::Activity {
                        subject: name.into(),
                        inactive: next(&mut list, 2)?,
                    },
                    _ => {
                        return Err(de::Error::unknown_variant(
                            &kind,
                            &[ENDED, GENERATION, ACTIVITY],
                        ));
                    }
                };
                match list.next_element::<IgnoredAny>()? {
                    None => Ok(Entry(change)),
                    Some(_) => Err(de::Error::custom("a change has too many members")),
                }
            }
        }

        reader.deserialize_seq(List)
    }
}
