//! PostgreSQL twice: a primary, and a standby that receives its writes as a stream.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    Postgres, Process, START, Server as _,
    database::{DATABASE, PASSWORD, USER, copy, directory, installed, kill},
    free_address,
    postgres::{command, is_started, own, psql, server},
    process::succeeded,
    until,
};

/// Two servers. At first, `one` is the primary.
pub struct PostgresPair {
    // Declared before the directories, so that the processes end before these are removed.
    pub one: PostgresNode,
    pub other: PostgresNode,
    _dir: TempDir,
    _installed: Arc<TempDir>,
}

/// One of the servers.
pub struct PostgresNode {
    process: Process,
    dir: PathBuf,
    address: SocketAddr,
}

impl PostgresPair {
    /// Starts both, with a database and a user for Doorward.
    ///
    /// # Panics
    ///
    /// If they do not start.
    pub async fn start() -> Self {
        let installed = installed::<Postgres>();
        let dir = directory::<Postgres>("pair-");
        own(dir.path());
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        for dir in [&one, &other] {
            fs::create_dir(dir).unwrap();
        }
        copy(installed.path(), &one);
        let one = PostgresNode::launch(one, None).await;
        let mut backup = command("pg_basebackup", &other);
        backup
            .args(["--username=postgres", "--checkpoint=fast", "--no-sync"])
            .args(["--write-recovery-conf", "--wal-method=stream", "--host"])
            .arg(&one.dir)
            .args(["--port", &one.address.port().to_string(), "--pgdata"])
            .arg(other.join("data"));
        succeeded("pg_basebackup", &backup.output().unwrap());
        let other = PostgresNode::launch(other, Some(&one)).await;
        Self {
            one,
            other,
            _dir: dir,
            _installed: installed,
        }
    }
}

impl PostgresNode {
    async fn launch(dir: PathBuf, primary: Option<&Self>) -> Self {
        // Another program may take the port before the server does.
        for _ in 0..4 {
            let address = free_address();
            let mut process = start(&dir, address, primary);
            let started = process.ready(async |process| is_started(process)).await;
            if started {
                return Self {
                    process,
                    dir,
                    address,
                };
            }
        }
        panic!("no port stays free for PostgreSQL");
    }

    /// The address of the server; it changes when the server starts again.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL with which Doorward's user reaches its database at an address.
    pub fn url(address: SocketAddr) -> String {
        Postgres::url(address, USER, PASSWORD, DATABASE)
    }

    /// Runs statements as an administrator, in Doorward's database.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn sql(&self, statements: &str) -> String {
        psql(&self.dir, self.address.port(), statements)
    }

    /// Stops the primary in order: the standby receives everything first.
    pub async fn stop(&mut self) {
        self.end(Signal::INT).await;
    }

    /// Stops the server at once, as a crash does.
    pub async fn crash(&mut self) {
        self.end(Signal::QUIT).await;
    }

    async fn end(&mut self, signal: Signal) {
        self.process.signal(signal);
        self.process.end(START).await;
    }

    /// Makes the standby the primary.
    ///
    /// # Panics
    ///
    /// If it refuses.
    pub fn promote(&self) {
        let mut promote = command("pg_ctl", &self.dir);
        promote
            .args(["promote", "--wait", "--silent", "--pgdata"])
            .arg(self.dir.join("data"));
        succeeded("pg_ctl promote", &promote.output().unwrap());
    }

    /// Starts the stopped server again, as a standby of another one.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn follow(&mut self, primary: &Self) {
        let signal = self.dir.join("data/standby.signal");
        File::create(&signal).unwrap();
        own(&signal);
        let node = Self::launch(self.dir.clone(), Some(primary)).await;
        *self = node;
    }

    /// Waits until this standby has everything that the primary has now.
    ///
    /// # Panics
    ///
    /// If it does not receive it.
    pub async fn catches_up_with(&self, primary: &Self) {
        let written = primary.sql("SELECT pg_current_wal_lsn()");
        let ask = format!(
            "SELECT pg_last_wal_replay_lsn() >= '{}'::pg_lsn",
            written.trim()
        );
        until("the standby has caught up", START, async || {
            (self.sql(&ask) == "t\n").then_some(())
        })
        .await;
    }
}

impl Drop for PostgresNode {
    fn drop(&mut self) {
        kill::<Postgres>(&mut self.process);
    }
}

fn start(dir: &Path, address: SocketAddr, primary: Option<&PostgresNode>) -> Process {
    let mut command = server(dir, address);
    // Later settings replace earlier ones.
    command.args(["-c", "wal_level=replica", "-c", "max_wal_senders=4"]);
    if let Some(primary) = primary {
        let (dir, port) = (primary.dir.display(), primary.address.port());
        let source = format!("primary_conninfo=host={dir} port={port} user=postgres");
        command.args(["-c", &source]);
    }
    Process::start(Postgres::SERVER, &mut command, dir)
}
