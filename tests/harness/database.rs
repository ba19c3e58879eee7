//! A private database for one test: a file, or a server that the test can kill, freeze and restart.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

use super::{Process, free_address};

const DATABASE: &str = "auth";
const USER: &str = "auth_user";
const PASSWORD: &str = "a password for tests";

/// The kind of a [`Database`].
pub trait Engine {
    /// Whether the database is a file.
    const IS_FILE: bool;
    /// The statement that lists all tables.
    const TABLES: &'static str;
    /// The running database; dropping it stops it.
    type Running;

    /// Creates an empty database.
    async fn start() -> Self::Running;

    /// The settings that Doorward needs to reach it.
    fn env(running: &Self::Running) -> Vec<(&'static str, String)>;

    /// Runs statements.
    fn sql(running: &Self::Running, statements: &str) -> String;
}

/// An [`Engine`] with a server program.
pub trait Server {
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

/// A database for Doorward.
pub struct Database<E: Engine> {
    running: E::Running,
}

impl<E: Engine> Database<E> {
    /// Creates the database, and starts its server if it has one.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start() -> Self {
        Self {
            running: E::start().await,
        }
    }

    /// The settings that Doorward needs to reach it.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        E::env(&self.running)
    }

    /// Runs statements as an administrator, in Doorward's database. Returns one row per line, with tabs between
    /// columns.
    ///
    /// # Panics
    ///
    /// If the database refuses.
    pub fn sql(&self, statements: &str) -> String {
        E::sql(&self.running, statements)
    }
}

impl<S: Server> Database<S> {
    /// The address of the server.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.running.process.pid()
    }

    /// The path of a file in its data directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.running.dir.path().join("data").join(name)
    }

    /// Kills the server (SIGKILL): connections break, and new ones are refused.
    pub fn kill(&mut self) {
        self.running.process.kill();
    }

    /// Freezes the server (SIGSTOP): connections stay open, and nothing answers.
    pub fn stop(&self) {
        self.running.process.signal(Signal::STOP);
    }

    /// Resumes the server (SIGCONT).
    pub fn cont(&self) {
        self.running.process.signal(Signal::CONT);
    }

    /// Restarts the server after [`Database::kill`], with the same port and the same data.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn restart(&mut self) {
        let Running {
            process,
            dir,
            address,
            ..
        } = &mut self.running;
        process.kill();
        *process = launch::<S>(dir.path(), *address);
        let started = process
            .ready(async |process| started(process, *address).await)
            .await;
        assert!(
            started,
            "the port {address} was taken\n{}",
            process.output()
        );
    }
}

/// A server with a database and a user for Doorward.
pub struct Running {
    process: Process,
    dir: TempDir,
    _installed: Arc<TempDir>,
    address: SocketAddr,
}

impl<S: Server> Engine for S {
    const IS_FILE: bool = false;
    const TABLES: &'static str = "SHOW TABLES";
    type Running = Running;

    async fn start() -> Running {
        let dir = directory::<S>("");
        let installed = installed::<S>();
        copy(installed.path(), dir.path());
        // Another program may take the port before the server does.
        for _ in 0..4 {
            let address = free_address();
            let mut process = launch::<S>(dir.path(), address);
            if process
                .ready(async |process| started(process, address).await)
                .await
            {
                return Running {
                    process,
                    dir,
                    _installed: installed,
                    address,
                };
            }
        }
        panic!("no port stays free for {}", S::SERVER);
    }

    fn env(running: &Running) -> Vec<(&'static str, String)> {
        Access::env(running.address)
    }

    fn sql(running: &Running, statements: &str) -> String {
        Access::sql::<S>(&socket::<S>(running.dir.path()), statements)
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
    pub(super) fn sql<S: Server>(socket: &Path, statements: &str) -> String {
        client::<S>(socket, &[DATABASE, "--execute", statements])
    }

    /// Creates Doorward's database and its user.
    pub(super) fn make<S: Server>(socket: &Path) {
        client::<S>(socket, &["--execute", &initial()]);
    }
}

fn client<S: Server>(socket: &Path, arguments: &[&str]) -> String {
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
    assert!(
        ran.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8(ran.stdout).expect("UTF-8 from the database")
}

/// A fresh installation that all servers running at the same time are copied from: installing takes longer than
/// copying, and concurrent installations sometimes fail.
fn installed<S: Server>() -> Arc<TempDir> {
    static INSTALLED: Mutex<BTreeMap<&str, Weak<TempDir>>> = Mutex::new(BTreeMap::new());
    let mut all = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let last = all.entry(S::SERVER).or_default();
    last.upgrade().unwrap_or_else(|| {
        let dir = directory::<S>("installed-");
        install::<S>(dir.path());
        let dir = Arc::new(dir);
        *last = Arc::downgrade(&dir);
        dir
    })
}

fn directory<S: Server>(kind: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("{}-{kind}", S::CLIENT))
        .tempdir_in(S::directories())
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    let ran = Command::new("cp")
        .args(["-R", "--"])
        .args([from.join("data"), from.join("init.sql"), to.to_owned()])
        .status()
        .expect("the program cp");
    assert!(ran.success(), "the installation cannot be copied: {ran}");
}

fn install<S: Server>(dir: &Path) {
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
    assert!(
        ran.status.success(),
        "{installer}: {}\n{}{}",
        ran.status,
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    fs::write(dir.join("init.sql"), initial()).unwrap();
}

fn initial() -> String {
    format!(
        "CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4;\n\
         CREATE USER IF NOT EXISTS {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL ON {DATABASE}.* TO {USER}@'127.0.0.1';\n"
    )
}

fn launch<S: Server>(dir: &Path, address: SocketAddr) -> Process {
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

fn socket<S: Server>(dir: &Path) -> PathBuf {
    S::seen(dir).join("socket")
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(path);
    option
}
