//! What Doorward itself stores: revocations, generations of users' tokens, failed attempts, sessions of
//! refresh tokens, and keys for machines.
//! Tables of its own, in the database of the users or in another one. Knows its SQL and no rule.

mod clock;
mod failures;
mod machine_keys;
mod mark;
mod revocations;
mod sessions;

pub use self::{clock::Kept, mark::Mark};
pub(crate) use self::{
    clock::{DatabaseTime, Swept},
    failures::ListedFailures,
    machine_keys::{KeyRow, KeysOf},
    sessions::Rotation,
};
use crate::tables::database::{Connections, Engine, Fault, Migration, StoredText, migration};

/// Connections to Doorward's own tables.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) connections: Connections,
}

const TABLES: [Migration; 9] = [
    migration!(2, "endings", "state/endings."),
    migration!(3, "generations", "state/generations."),
    migration!(4, "tallies", "state/tallies."),
    migration!(5, "sessions", "state/sessions."),
    // Finds expired rows without reading the whole table, which would block writers.
    Migration::for_all(6, "endings by expiry", ENDINGS_BY_EXPIRY),
    Migration::for_all(7, "generations by expiry", GENERATIONS_BY_EXPIRY),
    migration!(8, "clocks", "state/clocks."),
    // Finds the most failures among millions of single ones.
    Migration::for_all(9, "tallies by failures", TALLIES_BY_FAILURES),
    migration!(10, "machine keys", "state/machine_keys."),
];

const ENDINGS_BY_EXPIRY: &str =
    "CREATE INDEX doorward_endings_expires_at ON doorward_endings (expires_at)";
const GENERATIONS_BY_EXPIRY: &str =
    "CREATE INDEX doorward_generations_expires_at ON doorward_generations (expires_at)";

const TALLIES_BY_FAILURES: &str =
    "CREATE INDEX doorward_tallies_failures ON doorward_tallies (failures, changed_at)";

impl State {
    /// Takes connections to the database of these tables.
    #[must_use]
    pub fn new(connections: Connections) -> Self {
        Self { connections }
    }

    /// Creates or updates the tables.
    ///
    /// # Errors
    ///
    /// The database cannot be reached.
    pub(crate) async fn migrate(&self) -> Result<(), Fault> {
        self.connections.migrate(&TABLES).await
    }

    /// The function that gives the greatest of several values in one row.
    fn greatest(&self) -> &'static str {
        match self.connections.engine() {
            Engine::MySql | Engine::Postgres => "GREATEST",
            Engine::Sqlite => "MAX",
        }
    }

    fn least(&self) -> &'static str {
        match self.connections.engine() {
            Engine::MySql | Engine::Postgres => "LEAST",
            Engine::Sqlite => "MIN",
        }
    }

    /// The condition of a read. Its parameters are a time and a number of seconds. The read starts at that time or that many
    /// seconds ago by the database's clock, whichever is earlier: the clock may have been set back.
    fn changed_since(&self) -> String {
        format!("changed_at > {}(?, {} - ?)", self.least(), self.clock())
    }

    /// The condition for the rows after the last one that was read, in the order of `changed_at` and `place`; `last` is the SQL of
    /// the last place. Bind the last time twice, and then the last place.
    fn after_last(&self, place: &str, last: &str) -> String {
        match self.connections.engine() {
            Engine::MySql => format!("(changed_at > ? OR (changed_at = ? AND {place} > {last}))"),
            // With OR, these engines would read the index from its beginning.
            Engine::Postgres | Engine::Sqlite => {
                format!("changed_at >= ? AND (changed_at, {place}) > (?, {last})")
            }
        }
    }

    /// Inserts a row, or changes the row that has its key. In `change`, write the table before each column that is read:
    /// otherwise PostgreSQL refuses it as ambiguous, because the new row has it, too.
    fn upsert(&self, table: &str, columns: &str, values: &str, key: &str, change: &str) -> String {
        let on = match self.connections.engine() {
            Engine::MySql => "ON DUPLICATE KEY UPDATE".to_owned(),
            Engine::Postgres | Engine::Sqlite => format!("ON CONFLICT ({key}) DO UPDATE SET"),
        };
        let stamp = self.stamp();
        format!(
            "INSERT INTO {table} ({columns}, changed_at) VALUES ({values}, {stamp}) {on} {change}, changed_at = {stamp}"
        )
    }
}

fn text(StoredText(text): StoredText) -> String {
    text
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
