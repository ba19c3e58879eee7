//! Servers that speak the protocol of MySQL: how they are installed, started and asked.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

use super::{
    Process, Server,
    database::{DATABASE, PASSWORD, Running, USER},
    process::succeeded,
};

/// A server that speaks the protocol of MySQL.
pub trait MySqlLike {
    /// The server program.
    const SERVER: &'static str;
    /// The client program that runs statements.
    const CLIENT: &'static str;
    /// The program that creates a data directory, with the arguments for a root user without password.
    const INSTALLER: (&'static str, &'static [&'static str]);
    /// Options for starting and installing: little memory, and no waiting for the disk. Data survives a crash of the
    /// process, but not of the machine.
    const SMALL_AND_FAST: &'static [&'static str];

    /// A command that runs one of its programs.
    fn command(program: &str) -> Command;

    /// Where the directories of servers are created.
    fn directories() -> PathBuf;

    /// The path of such a directory as the programs see it.
    fn seen(dir: &Path) -> PathBuf;
}

impl<M: MySqlLike> Server for M {
    const SERVER: &'static str = M::SERVER;
    const ALL_TABLES: &'static str = "SHOW TABLES";
    const CLOCK: &'static str = "UNIX_TIMESTAMP()";

    fn directories() -> PathBuf {
        M::directories()
    }

    fn install(dir: &Path) {
        install::<M>(dir);
    }

    fn launch(dir: &Path, address: SocketAddr) -> Process {
        launch::<M>(dir, address)
    }

    async fn started(process: &Process, address: SocketAddr) -> Option<bool> {
        started(process, address).await
    }

    fn url(address: SocketAddr, user: &str, password: &str, database: &str) -> String {
        format!("mysql://{user}:{password}@{address}/{database}")
    }

    fn settings(address: SocketAddr) -> Vec<(&'static str, String)> {
        Access::env(address)
    }

    fn run(running: &Running, statements: &str) -> String {
        Access::sql::<M>(&socket::<M>(running.dir.path()), statements)
    }
}

/// How to reach a server.
pub(super) struct Access;

impl Access {
    /// The settings that Doorward needs.
    pub(super) fn env(address: SocketAddr) -> Vec<(&'static str, String)> {
        vec![
            ("MYSQL_HOST", address.ip().to_string()),
            ("MYSQL_PORT", address.port().to_string()),
            ("MYSQL_USER", USER.to_owned()),
            ("MYSQL_PASSWORD", PASSWORD.to_owned()),
            ("MYSQL_DB", DATABASE.to_owned()),
        ]
    }

    /// Runs statements as an administrator, in Doorward's database.
    pub(super) fn sql<S: MySqlLike>(socket: &Path, statements: &str) -> String {
        client::<S>(socket, &[DATABASE, "--execute", statements])
    }

    /// Creates Doorward's database and its user.
    pub(super) fn make<S: MySqlLike>(socket: &Path) {
        client::<S>(socket, &["--execute", &initial()]);
    }
}

fn client<S: MySqlLike>(socket: &Path, arguments: &[&str]) -> String {
    let ran = S::command(S::CLIENT)
        .arg("--no-defaults")
        .arg(option("socket", socket))
        .args([
            "--user=root",
            "--batch",
            "--skip-column-names",
            "--connect-timeout=10",
            "--default-character-set=utf8mb4",
        ])
        .args(arguments)
        .output()
        .unwrap_or_else(|fault| panic!("{}: {fault}", S::CLIENT));
    succeeded(&format!("{arguments:?}"), &ran);
    String::from_utf8(ran.stdout).expect("UTF-8 from the database")
}

fn install<S: MySqlLike>(dir: &Path) {
    let (installer, arguments) = S::INSTALLER;
    let ran = S::command(installer)
        // A server that starts removes the temporary tables of others from the same directory.
        .env("TMPDIR", S::seen(dir))
        .arg("--no-defaults")
        .arg(option("datadir", &S::seen(dir).join("data")))
        .args(as_root())
        .args(arguments)
        .args(S::SMALL_AND_FAST)
        .output()
        .unwrap_or_else(|fault| panic!("{installer}: {fault}"));
    succeeded(installer, &ran);
    fs::write(dir.join("init.sql"), initial()).unwrap();
}

fn initial() -> String {
    format!(
        "CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4;\n\
         CREATE USER IF NOT EXISTS {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL ON {DATABASE}.* TO {USER}@'127.0.0.1';\n"
    )
}

fn launch<S: MySqlLike>(dir: &Path, address: SocketAddr) -> Process {
    let seen = S::seen(dir);
    let mut command = S::command(S::SERVER);
    command
        .env("TMPDIR", &seen)
        .arg("--no-defaults")
        .arg(option("datadir", &seen.join("data")))
        .arg(option("socket", &socket::<S>(dir)))
        .arg(option("pid-file", &seen.join("pid")))
        .arg(option("init-file", &seen.join("init.sql")))
        .arg(format!("--bind-address={}", address.ip()))
        .arg(format!("--port={}", address.port()))
        .args(as_root())
        .args(["--skip-name-resolve", "--character-set-server=utf8mb4"])
        .args(S::SMALL_AND_FAST)
        .current_dir(dir);
    Process::start(S::SERVER, &mut command, dir)
}

/// `true` once the server sends its greeting, `false` if its port was taken.
async fn started(process: &Process, address: SocketAddr) -> Option<bool> {
    let log = process.stderr();
    if log.contains("Can't start server: Bind on TCP/IP port") {
        return Some(false);
    }
    if !log.contains("ready for connections") {
        return None;
    }
    timeout(Duration::from_secs(1), async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.read_u8().await.ok().map(|_| true)
    })
    .await
    .ok()?
}

/// A server refuses to run as root unless it is told to.
fn as_root() -> Option<&'static str> {
    rustix::process::geteuid()
        .is_root()
        .then_some("--user=root")
}

fn socket<S: MySqlLike>(dir: &Path) -> PathBuf {
    S::seen(dir).join("socket")
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(path);
    option
}
