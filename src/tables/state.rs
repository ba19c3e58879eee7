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
    clock::Swept,
    failures::ListedFailures,
    machine_keys::{KeyRow, KeysOf},
    sessions::Rotation,
};
use crate::tables::database::{Connections, Engine, Fault, StoredText, Table};

/// Connections to Doorward's own tables.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) connections: Connections,
}

const TABLES: [Table; 9] = [
    Table {
        number: 2,
        name: "endings",
        mysql: include_str!("state/endings.mysql.sql"),
        postgres: include_str!("state/endings.postgres.sql"),
        sqlite: include_str!("state/endings.sqlite.sql"),
    },
    Table {
        number: 3,
        name: "generations",
        mysql: include_str!("state/generations.mysql.sql"),
        postgres: include_str!("state/generations.postgres.sql"),
        sqlite: include_str!("state/generations.sqlite.sql"),
    },
    Table {
        number: 4,
        name: "tallies",
        mysql: include_str!("state/tallies.mysql.sql"),
        postgres: include_str!("state/tallies.postgres.sql"),
        sqlite: include_str!("state/tallies.sqlite.sql"),
    },
    Table {
        number: 5,
        name: "sessions",
        mysql: include_str!("state/sessions.mysql.sql"),
        postgres: include_str!("state/sessions.postgres.sql"),
        sqlite: include_str!("state/sessions.sqlite.sql"),
    },
    // Finds expired rows without reading the whole table, which would block writers.
    same_for_all(6, "endings by expiry", ENDINGS_BY_EXPIRY),
    same_for_all(7, "generations by expiry", GENERATIONS_BY_EXPIRY),
    Table {
        number: 8,
        name: "clocks",
        mysql: include_str!("state/clocks.mysql.sql"),
        postgres: include_str!("state/clocks.postgres.sql"),
        sqlite: include_str!("state/clocks.sqlite.sql"),
    },
    // Finds the most failures among millions of single ones.
    same_for_all(9, "tallies by failures", TALLIES_BY_FAILURES),
    Table {
        number: 10,
        name: "machine keys",
        mysql: include_str!("state/machine_keys.mysql.sql"),
        postgres: include_str!("state/machine_keys.postgres.sql"),
        sqlite: include_str!("state/machine_keys.sqlite.sql"),
    },
];

const fn same_for_all(number: i64, name: &'static str, sql: &'static str) -> Table {
    Table {
        number,
        name,
        mysql: sql,
        postgres: sql,
        sqlite: sql,
    }
}

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

    /// Inserts a row, or changes the row that has its key. In the change, the name of the table stands before the columns of
    /// that row: to PostgreSQL, a column alone could also be the one of the new row.
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
