//! A private MariaDB that can be killed, stopped and brought back.

use std::{
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

use super::{Process, free_address, program};

const DATABASE: &str = "auth";
const USER: &str = "auth_user";
const PASSWORD: &str = "a password for tests";

/// How a server is started and installed: small, and without waiting for the disk: what was
/// written outlives the process, if not the machine.
const SMALL_AND_FAST: [&str; 9] = [
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=4M",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-flush-method=nosync",
    "--innodb-buffer-pool-dump-at-shutdown=0",
    "--innodb-use-native-aio=0",
    "--performance-schema=off",
    "--skip-log-bin",
    "--max-connections=100",
];

/// A MariaDB with a database and a user for Doorward.
pub struct MariaDb {
    process: Process,
    dir: TempDir,
    _installed: Arc<TempDir>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl MariaDb {
    /// Installs and starts it.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("mariadb-")
            .tempdir()
            .unwrap();
        let installed = installed();
        copy(installed.path(), dir.path());
        // Another program can take the port before the server does.
        for _ in 0..4 {
            let address = free_address();
            let mut process = launch(dir.path(), address);
            if process
                .ready(async |process| started(process, address).await)
                .await
            {
                return Self {
                    process,
                    dir,
                    _installed: installed,
                    address,
                };
            }
        }
        panic!("no port stays free for mariadbd");
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

    /// Runs statements as an administrator, in Doorward's database; the rows come back one a line, with tabs between
    /// the columns.
    ///
    /// # Panics
    ///
    /// If the server refuses.
    pub fn sql(&self, statements: &str) -> String {
        let ran = Command::new(program("mariadb"))
            .arg("--no-defaults")
            .arg(option("socket", &socket(self.dir.path())))
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
            .expect("the program mariadb");
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

    /// Starts it again after [`MariaDb::kill`], on the same port and with the same rows.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = launch(self.dir.path(), self.address);
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
fn installed() -> Arc<TempDir> {
    static INSTALLED: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut last = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    last.upgrade().unwrap_or_else(|| {
        let dir = tempfile::Builder::new()
            .prefix("mariadb-installed-")
            .tempdir()
            .unwrap();
        install(dir.path());
        let dir = Arc::new(dir);
        *last = Arc::downgrade(&dir);
        dir
    })
}

fn copy(from: &Path, to: &Path) {
    let ran = Command::new("cp")
        .args(["-R", "--"])
        .args([from.join("data"), from.join("init.sql"), to.to_owned()])
        .status()
        .expect("the program cp");
    assert!(ran.success(), "the installation cannot be copied: {ran}");
}

fn install(dir: &Path) {
    let ran = Command::new(program("mariadb-install-db"))
        .arg("--no-defaults")
        .arg(option("datadir", &dir.join("data")))
        .args(as_root())
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .args(SMALL_AND_FAST)
        .output()
        .expect("the program mariadb-install-db");
    assert!(
        ran.status.success(),
        "mariadb-install-db: {}\n{}{}",
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

fn launch(dir: &Path, address: SocketAddr) -> Process {
    let mut command = Command::new(program("mariadbd"));
    command
        .arg("--no-defaults")
        .arg(option("datadir", &dir.join("data")))
        .arg(option("socket", &socket(dir)))
        .arg(option("pid-file", &dir.join("pid")))
        .arg(option("init-file", &dir.join("init.sql")))
        .arg(format!("--bind-address={}", address.ip()))
        .arg(format!("--port={}", address.port()))
        .args(as_root())
        .args(["--skip-name-resolve", "--character-set-server=utf8mb4"])
        .args(SMALL_AND_FAST)
        .current_dir(dir);
    Process::start("mariadbd", &mut command, dir)
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

fn socket(dir: &Path) -> PathBuf {
    dir.join("socket")
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(path);
    option
}
