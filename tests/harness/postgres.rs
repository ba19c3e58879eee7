//! PostgreSQL, from the packages installed on this machine.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::Pid;
use tokio::{net::TcpStream, time::timeout};

use super::{
    Process, Server,
    database::{DATABASE, PASSWORD, Running, USER},
    fed,
    process::succeeded,
    program,
};

/// The PostgreSQL server.
pub struct Postgres;

/// Little memory, and no waiting for the disk. Data survives a crash of the process, but not of the machine.
const SMALL_AND_FAST: &[&str] = &[
    "shared_buffers=16MB",
    "fsync=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_connections=100",
];

/// The SCRAM verifier of the password, with 16 iterations instead of 4096: without optimisation, each connection would be slow.
const VERIFIER: &str = "SCRAM-SHA-256$16:c2FsdCBvZiB0aGUgdGVzdA==$L45mfc22yYKbkWcXtfnFy4p68SM9Vus9E6AJTTdcV6U=:wYozAHzP5lHoMZq5s/kdnGQMtCv6ZpiaN0Ft0lsaV/E=";

/// Adds a type that compares without case, and gives Doorward's user all rights on what a superuser creates in tests.
const PREPARED: &str = "CREATE EXTENSION citext\n\
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO auth_user\n\
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO auth_user\n";

impl Server for Postgres {
    const SERVER: &'static str = "postgres";
    const ALL_TABLES: &'static str =
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
    const CLOCK: &'static str = "FLOOR(EXTRACT(EPOCH FROM NOW()))";

    fn install(dir: &Path) {
        own(dir);
        let ran = command("initdb", dir)
            .args(["--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["--no-sync", "--no-instructions", "--pgdata"])
            .arg(dir.join("data"))
            .output()
            .expect("the program initdb");
        succeeded("initdb", &ran);
        let user = format!("CREATE ROLE {USER} LOGIN PASSWORD '{VERIFIER}'\n");
        single(dir, "postgres", &user);
        single(
            dir,
            "postgres",
            &format!("CREATE DATABASE {DATABASE} OWNER {USER}\n"),
        );
        single(dir, DATABASE, PREPARED);
    }

    fn launch(dir: &Path, address: SocketAddr) -> Process {
        own(dir);
        Process::start(Self::SERVER, &mut server(dir, address), dir)
    }

    async fn started(process: &Process, address: SocketAddr) -> Option<bool> {
        if !is_started(process)? {
            return Some(false);
        }
        timeout(Duration::from_secs(1), TcpStream::connect(address))
            .await
            .ok()?
            .ok()
            .map(|_| true)
    }

    /// Each session has a process, in a group of its own.
    fn processes(process: &Process) -> Vec<Pid> {
        let pid = process.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let all = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        (std::iter::once(pid.cast_signed()).chain(all))
            .filter_map(Pid::from_raw)
            .collect()
    }

    fn url(address: SocketAddr, user: &str, password: &str, database: &str) -> String {
        let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
        format!("postgres://{user}:{password}@{address}/{database}")
    }

    fn settings(address: SocketAddr) -> Vec<(&'static str, String)> {
        let url = Self::url(address, USER, PASSWORD, DATABASE);
        vec![("DATABASE_URL", url)]
    }

    fn run(running: &Running, statements: &str) -> String {
        psql(running.dir.path(), running.address.port(), statements)
    }
}

/// Runs statements on the server whose Unix socket is in a directory, as an administrator.
pub(super) fn psql(dir: &Path, port: u16, statements: &str) -> String {
    let mut psql = Command::new(program("psql"));
    psql.env_clear()
        .env("PGCONNECT_TIMEOUT", "10")
        .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
        .args(["--field-separator=\t", "--pset=null=NULL"])
        .args(["--variable=ON_ERROR_STOP=1", "--username=postgres"])
        .args(["--dbname", DATABASE, "--host"])
        .arg(dir)
        .args(["--port", &port.to_string(), "--file=-"]);
    let ran = fed(&mut psql, statements.as_bytes());
    succeeded(statements, &ran);
    String::from_utf8(ran.stdout).expect("UTF-8 from the database")
}

/// Where Debian installs the programs of the PostgreSQL server.
pub(super) fn programs() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut all: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    all.sort();
    all.reverse();
    all
}

/// The user and group of PostgreSQL, which refuses to run as root; `None` if the tests do not run as root.
fn user() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = users.lines().find(|line| line.starts_with("postgres:"));
    rustix::process::geteuid().is_root().then(|| {
        let mut ids = user.expect("the user postgres").split(':').skip(2);
        let mut id = || ids.next().and_then(|id| id.parse().ok()).expect("an id");
        (id(), id())
    })
}

/// Gives a file to the user of PostgreSQL.
pub(super) fn own(dir: &Path) {
    if let Some((user, group)) = user() {
        chown(dir, Some(user), Some(group)).expect("a directory for PostgreSQL");
    }
}

pub(super) fn command(name: &str, dir: &Path) -> Command {
    postgres_command(program(name), dir)
}

/// A command in a directory, under a user that is not root: neither PostgreSQL nor PgBouncer accepts root.
pub fn postgres_command(program: PathBuf, dir: &Path) -> Command {
    own(dir);
    let mut command = Command::new(program);
    command
        .current_dir(dir)
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8");
    if let Some((user, group)) = user() {
        command.uid(user).gid(group);
    }
    command
}

/// The command of a server with the data in a directory.
pub(super) fn server(dir: &Path, address: SocketAddr) -> Command {
    let mut command = command(Postgres::SERVER, dir);
    command
        .arg("-D")
        .arg(dir.join("data"))
        .arg("-k")
        .arg(dir)
        .args(["-h", &address.ip().to_string()])
        .args(["-p", &address.port().to_string()])
        .args(small_and_fast());
    command
}

/// Whether the server accepts connections; `false` if its port was taken. A standby accepts read-only ones.
pub(super) fn is_started(process: &Process) -> Option<bool> {
    let log = process.stderr();
    if log.contains("could not bind") {
        return Some(false);
    }
    ["connections", "read-only connections"]
        .iter()
        .any(|what| log.contains(&format!("is ready to accept {what}")))
        .then_some(true)
}

fn small_and_fast() -> impl Iterator<Item = String> {
    let settings = SMALL_AND_FAST.iter();
    settings.flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()])
}

/// Runs statements, one a line, without a server.
fn single(dir: &Path, database: &str, statements: &str) {
    let mut postgres = command("postgres", dir);
    postgres
        .args(["--single", "-D"])
        .arg(dir.join("data"))
        .args(small_and_fast())
        .arg(database);
    let ran = fed(&mut postgres, statements.as_bytes());
    succeeded(statements, &ran);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!said.contains("ERROR"), "{statements}: {said}");
}
