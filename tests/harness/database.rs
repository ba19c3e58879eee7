//! A private database server that can be killed, stopped and brought back.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    marker::PhantomData,
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

/// What a [`Database`] is a server of.
pub trait Engine {
    /// The program that serves.
    const SERVER: &'static str;
    /// The program that runs statements.
    const CLIENT: &'static str;
    /// The program that makes a data directory, and what it takes to do so without a password for root.
    const INSTALLER: (&'static str, &'static [&'static str]);
    /// How a server is started and installed: small, and without waiting for the disk: what was written outlives the
    /// process, if not the machine.
    const SMALL_AND_FAST: &'static [&'static str];

    /// One of its programs.
    fn command(program: &str) -> Command;

    /// Where the directories of servers are made.
    fn directories() -> PathBuf;

    /// The path of one of them as the programs see it.
    fn seen(dir: &Path) -> PathBuf;
}

/// A server with a database and a user for Doorward.
pub struct Database<E> {
    process: Process,
    dir: TempDir,
    _installed: Arc<TempDir>,
    /// Where it listens.
    pub address: SocketAddr,
    engine: PhantomData<E>,
}

impl<E: Engine> Database<E> {
    /// Installs and starts it.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start() -> Self {
        let dir = directory::<E>("");
        let installed = installed::<E>();
        copy(installed.path(), dir.path());
        // Another program can take the port before the server does.
        for _ in 0..4 {
            let address = free_address();
            let mut process = launch::<E>(dir.path(), address);
            if process
                .ready(async |process| started(process, address).await)
                .await
            {
                return Self {
                    process,
                    dir,
                    _installed: installed,
                    address,
                    engine: PhantomData,
                };
            }
        }
        panic!("no port stays free for {}", E::SERVER);
    }

    /// The settings with which Doorward finds it.
    pub fn env(&self) -> [(&'static str, String); 5] {
        [
            ("MYSQL_HOST", self.address.ip().to_string()),
            ("MYSQL_PORT", self.address.port().to_string()),
            ("MYSQL_USER", USER.to_owned()),
            ("MYSQL_PASSWORD", PASSWORD.to_owned()),
            ("MYSQL_DB", DATABASE.to_owned()),
        ]
    }

    /// A file that it made among its data.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    /// Runs statements as an administrator, in Doorward's database; the rows come back one a line, with tabs between
    /// the columns.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn sql(&self, statements: &str) -> String {
        let ran = E::command(E::CLIENT)
            .arg("--no-defaults")
            .arg(option("socket", &socket::<E>(self.dir.path())))
            .args([
                "--user=root",
                "--batch",
                "--skip-column-names",
                "--connect-timeout=10",
            ])
            .args([
                "--default-character-set=utf8mb4",
                DATABASE,
                "--execute",
                statements,
            ])
            .output()
            .unwrap_or_else(|fault| panic!("{}: {fault}", E::CLIENT));
        assert!(
            ran.status.success(),
            "{statements}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
        String::from_utf8(ran.stdout).expect("UTF-8 from the database")
    }

    /// Ends it without a word (SIGKILL): connections break, new ones are refused.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Freezes it (SIGSTOP): connections stay and nothing answers.
    pub fn stop(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn cont(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Starts it again after [`Database::kill`], on the same port and with the same rows.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = launch::<E>(self.dir.path(), self.address);
        let address = self.address;
        let started = self
            .process
            .ready(async |process| started(process, address).await)
            .await;
        assert!(
            started,
            "the port {address} was taken\n{}",
            self.process.output()
        );
    }
}

/// A fresh installation, which the servers that run at the same time are copied from: installing takes longer than
/// copying, and several installations at once fail at times.
fn installed<E: Engine>() -> Arc<TempDir> {
    static INSTALLED: Mutex<BTreeMap<&str, Weak<TempDir>>> = Mutex::new(BTreeMap::new());
    let mut all = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let last = all.entry(E::SERVER).or_default();
    last.upgrade().unwrap_or_else(|| {
        let dir = directory::<E>("installed-");
        install::<E>(dir.path());
        let dir = Arc::new(dir);
        *last = Arc::downgrade(&dir);
        dir
    })
}

fn directory<E: Engine>(kind: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("{}-{kind}", E::CLIENT))
        .tempdir_in(E::directories())
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

fn install<E: Engine>(dir: &Path) {
    let (installer, arguments) = E::INSTALLER;
    let ran = E::command(installer)
        .arg("--no-defaults")
        .arg(option("datadir", &E::seen(dir).join("data")))
        .args(as_root())
        .args(arguments)
        .args(E::SMALL_AND_FAST)
        .output()
        .unwrap_or_else(|fault| panic!("{installer}: {fault}"));
    assert!(
        ran.status.success(),
        "{installer}: {}\n{}{}",
        ran.status,
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    let init = format!(
        "CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4;\n\
         CREATE USER IF NOT EXISTS {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL ON {DATABASE}.* TO {USER}@'127.0.0.1';\n"
    );
    fs::write(dir.join("init.sql"), init).unwrap();
}

fn launch<E: Engine>(dir: &Path, address: SocketAddr) -> Process {
    let seen = E::seen(dir);
    let mut command = E::command(E::SERVER);
    command
        .arg("--no-defaults")
        .arg(option("datadir", &seen.join("data")))
        .arg(option("socket", &socket::<E>(dir)))
        .arg(option("pid-file", &seen.join("pid")))
        .arg(option("init-file", &seen.join("init.sql")))
        .arg(format!("--bind-address={}", address.ip()))
        .arg(format!("--port={}", address.port()))
        .args(as_root())
        .args(["--skip-name-resolve", "--character-set-server=utf8mb4"])
        .args(E::SMALL_AND_FAST)
        .current_dir(dir);
    Process::start(E::SERVER, &mut command, dir)
}

/// Whether it greets, or its port was taken before it could.
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

/// A server runs as root only where it is told to.
fn as_root() -> Option<&'static str> {
    rustix::process::geteuid()
        .is_root()
        .then_some("--user=root")
}

fn socket<E: Engine>(dir: &Path) -> PathBuf {
    E::seen(dir).join("socket")
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(path);
    option
}
