//! `[state]`: where Doorward's own tables are.

use super::{
    DatabaseSettings,
    key::{Key, Optional, Section},
    reader::Reader,
};
use crate::tables::database::Database;

/// Settings of the database of Doorward's own tables.
#[derive(Debug)]
pub(crate) struct StateSettings {
    /// Where it is; `None` for the database of the users.
    pub(crate) place: Option<Database>,
}

pub(super) static KEYS: Section = &[&URL];

static URL: Optional<Database> = Key::new(
    "state.url",
    "the same database",
    |text| Ok(Database::from_url(text)?),
    "Database of Doorward's own tables (revocations, generations, failed logins, sessions), if it is not the database of the users. `database.tls` and `database.tls_ca` apply here too.",
)
.optional();

impl StateSettings {
    pub(super) fn read(reader: &mut Reader<'_>, users: &DatabaseSettings) -> Self {
        let place = reader.find(&URL);
        Self {
            place: place.map(|place| place.protected(users.tls, users.tls_ca.clone())),
        }
    }
}
