//! SQLite: a database in a file, without a server.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Connection as _, Row as _, TypeInfo as _, ValueRef as _,
    sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow},
};
use tempfile::TempDir;

use super::Engine;

/// The embedded SQLite database.
pub struct Sqlite;

/// A directory with the database file.
pub struct File {
    dir: TempDir,
}

impl File {
    fn path(&self) -> PathBuf {
        self.dir.path().join("auth.db")
    }
}

impl Engine for Sqlite {
    const IS_FILE: bool = true;
    const TABLES: &'static str = "SELECT name FROM sqlite_master WHERE type = 'table'";
    const NOW: &'static str = "unixepoch()";
    type Running = File;

    async fn start() -> File {
        let dir = tempfile::Builder::new()
            .prefix("sqlite-")
            .tempdir()
            .unwrap();
        File { dir }
    }

    fn env(file: &File) -> Vec<(&'static str, String)> {
        let url = format!("sqlite:{}", file.path().display());
        vec![("DATABASE_URL", url)]
    }

    fn sql(file: &File, statements: &str) -> String {
        let path = file.path();
        // Tests already run inside a runtime, and blocking on another one is only allowed in a new thread.
        let rows = std::thread::scope(|scope| {
            let run = || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(run(&path, statements))
            };
            scope.spawn(run).join().expect("a thread that ends")
        });
        rows.unwrap_or_else(|fault| panic!("{statements}: {fault}"))
    }
}

async fn run(path: &Path, statements: &str) -> Result<String, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(std::time::Duration::from_secs(10));
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let mut lines = String::new();
    {
        let mut rows = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).fetch(&mut connection);
        while let Some(row) = rows.try_next().await? {
            let cells: Vec<_> = (0..row.len()).map(|index| cell(&row, index)).collect();
            lines.push_str(&cells.join("\t"));
            lines.push('\n');
        }
    }
    connection.close().await?;
    Ok(lines)
}

/// Formats a value like the clients of the servers.
fn cell(row: &SqliteRow, index: usize) -> String {
    let raw = row.try_get_raw(index).unwrap();
    if raw.is_null() {
        return "NULL".to_owned();
    }
    let kind = raw.type_info().name().to_owned();
    match &*kind {
        "INTEGER" | "BOOLEAN" => row.get_unchecked::<i64, _>(index).to_string(),
        "REAL" => row.get_unchecked::<f64, _>(index).to_string(),
        _ => String::from_utf8(row.get_unchecked(index)).expect("UTF-8 from the database"),
    }
}
