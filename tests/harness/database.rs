//! A private database for one test: a file, or a server that the test can kill, freeze and restart.

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{PAUSE, Process, START, free_address};

pub(super) const DATABASE: &str = "auth";
pub(super) const USER: &str = "auth_user";
pub(super) const PASSWORD: &str = "a password for tests";

/// The kind of a [`Database`].
pub trait Engine {
    /// Whether the database is a file.
    const IS_FILE: bool;
    /// The statement that lists all tables.
    const TABLES: &'static str;
    /// An expression for the seconds since 1970.
    const NOW: &'static str;
    /// The running database; dropping it stops it.
    type Running;

    /// Creates an empty database.
    async fn start() -> Self::Running;

    /// The settings that Doorward needs to reach it.
    fn env(running: &Self::Running) -> Vec<(&'static str, String)>;

    /// Runs statements.
    fn sql(running: &Self::Running, statements: &str) -> String;
}

/// An [`Engine`] with a server program, of which each test has its own.
pub trait Server {
    /// The server program.
    const SERVER: &'static str;
    /// The statement that lists all tables.
    const ALL_TABLES: &'static str;
    /// An expression for the seconds since 1970.
    const CLOCK: &'static str;

    /// Where the directories of servers are created.
    fn directories() -> PathBuf {
        env::temp_dir()
    }

    /// Creates a data directory with Doorward's database and its user.
    fn install(dir: &Path);

    /// Starts the server program.
    fn launch(dir: &Path, address: SocketAddr) -> Process;

    /// `true` once the server answers, `false` if its port was taken.
    async fn started(process: &Process, address: SocketAddr) -> Option<bool>;

    /// The processes of the server, parents first.
    fn processes(process: &Process) -> Vec<Pid> {
        Vec::from_iter(Pid::from_raw(process.pid().cast_signed()))
    }

    /// The URL of a database.
    fn url(address: SocketAddr, user: &str, password: &str, database: &str) -> String;

    /// The settings with which Doorward's user reaches Doorward's database.
    fn settings(address: SocketAddr) -> Vec<(&'static str, String)>;

    /// Runs statements.
    fn run(running: &Running, statements: &str) -> String;
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

    /// Its log so far.
    pub fn log(&self) -> String {
        self.running.process.stderr()
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.running.process.pid()
    }

    /// The URL of a database on this server.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        S::url(self.running.address, user, password, database)
    }

    /// The URL with which Doorward's own user reaches a database on this server.
    pub fn own_url(&self, database: &str) -> String {
        S::url(self.running.address, USER, PASSWORD, database)
    }

    /// The path of a file in its data directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.running.dir.path().join("data").join(name)
    }

    /// Kills the server (SIGKILL): connections break, and new ones are refused.
    pub fn kill(&mut self) {
        self.running.kill();
    }

    /// Freezes the server (SIGSTOP): connections stay open, and nothing answers.
    pub fn stop(&self) {
        // First the one that starts others.
        self.running.process.signal(Signal::STOP);
        self.signal_all(Signal::STOP);
    }

    /// Resumes the server (SIGCONT).
    pub fn cont(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        for process in S::processes(&self.running.process) {
            // A session may end meanwhile.
            let _ = kill_process(process, signal);
        }
    }

    /// Restarts the server after [`Database::kill`], with the same port and the same data.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn restart(&mut self) {
        self.running.kill();
        let Running {
            process,
            dir,
            address,
            ..
        } = &mut self.running;
        *process = S::launch(dir.path(), *address);
        let started = process
            .ready(async |process| S::started(process, *address).await)
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
    pub(super) dir: TempDir,
    _installed: Arc<TempDir>,
    pub(super) address: SocketAddr,
    kill: fn(&mut Process),
}

impl Running {
    fn kill(&mut self) {
        (self.kill)(&mut self.process);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills all processes, also those that are frozen, and waits for their end: the next server needs what they hold.
pub(super) fn kill<S: Server>(process: &mut Process) {
    if process.exited().is_some() {
        return;
    }
    let all = S::processes(process);
    process.kill();
    for one in &all {
        // It may already have ended.
        let _ = kill_process(*one, Signal::KILL);
    }
    let start = Instant::now();
    while start.elapsed() < START && all.iter().any(|one| is_running(*one)) {
        std::thread::sleep(PAUSE);
    }
}

impl<S: Server> Engine for S {
    const IS_FILE: bool = false;
    const TABLES: &'static str = S::ALL_TABLES;
    const NOW: &'static str = S::CLOCK;
    type Running = Running;

    async fn start() -> Running {
        let dir = directory::<S>("");
        let installed = installed::<S>();
        copy(installed.path(), dir.path());
        // Another program may take the port before the server does.
        for _ in 0..4 {
            let address = free_address();
            let mut process = S::launch(dir.path(), address);
            if process
                .ready(async |process| S::started(process, address).await)
                .await
            {
                return Running {
                    process,
                    dir,
                    _installed: installed,
                    address,
                    kill: kill::<S>,
                };
            }
        }
        panic!("no port stays free for {}", S::SERVER);
    }

    fn env(running: &Running) -> Vec<(&'static str, String)> {
        S::settings(running.address)
    }

    fn sql(running: &Running, statements: &str) -> String {
        S::run(running, statements)
    }
}

/// Whether a process runs. One whose parent has ended may stay as a zombie, which holds nothing.
fn is_running(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    let stat = stat.unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| !state.starts_with('Z'))
}

/// A fresh installation that all servers running at the same time are copied from: installing takes longer than
/// copying, and concurrent installations sometimes fail.
pub(super) fn installed<S: Server>() -> Arc<TempDir> {
    static INSTALLED: Mutex<BTreeMap<&str, Weak<TempDir>>> = Mutex::new(BTreeMap::new());
    let mut all = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let last = all.entry(S::SERVER).or_default();
    last.upgrade().unwrap_or_else(|| {
        let dir = directory::<S>("installed-");
        S::install(dir.path());
        let dir = Arc::new(dir);
        *last = Arc::downgrade(&dir);
        dir
    })
}

pub(super) fn directory<S: Server>(kind: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("{}-{kind}", S::SERVER))
        .tempdir_in(S::directories())
        .unwrap()
}

pub(super) fn copy(from: &Path, to: &Path) {
    let ran = Command::new("cp")
        // With the owner: PostgreSQL accepts only a directory of its own user.
        .args(["-a", "--"])
        .args([from.join("."), to.to_owned()])
        .status()
        .expect("the program cp");
    assert!(ran.success(), "the installation cannot be copied: {ran}");
}
