//! Doorward as its users run it: the binary, settings in the environment and a file, and a data directory.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{PATIENCE, PAUSE, Process, START, until};

/// The settings with which a Doorward starts.
pub struct Settings {
    binary: Option<PathBuf>,
    env: BTreeMap<String, String>,
    toml: Option<String>,
}

impl Settings {
    /// Uses another binary than the one that Cargo built for the tests.
    pub fn binary(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.binary = Some(path.into());
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, key: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Sets several variables of the environment.
    pub fn envs<K: Into<String>, V: Into<String>>(
        &mut self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> &mut Self {
        self.env.extend(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into())),
        );
        self
    }

    /// Removes a variable that [`Doorward::prepare`] sets.
    pub fn without(&mut self, key: &str) -> &mut Self {
        self.env.remove(key);
        self
    }

    /// Sets the text of `doorward.toml`.
    pub fn toml(&mut self, text: impl Into<String>) -> &mut Self {
        self.toml = Some(text.into());
        self
    }
}

/// A directory with settings and data, while no Doorward serves from it.
pub struct Home {
    binary: PathBuf,
    env: BTreeMap<String, String>,
    dir: TempDir,
}

/// The result of a command.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The result, if the command succeeded.
    ///
    /// # Panics
    ///
    /// If it did not.
    pub fn ok(self) -> Self {
        assert!(
            self.status.success(),
            "{}\n{}{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }
}

impl Home {
    /// The temporary directory. It contains `data` and, if set, `doorward.toml`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The secret of tokens that Doorward has generated here.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn secret(&self) -> String {
        let secret = fs::read_to_string(self.dir().join("data/jwt.secret")).unwrap();
        secret.trim_end().to_owned()
    }

    /// Changes the settings, which may name files in the directory. The text of `doorward.toml` stays.
    pub fn with(self, choose: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            binary: Some(self.binary),
            env: self.env,
            toml: None,
        };
        choose(&mut settings);
        Self {
            binary: settings.binary.expect("a path to the binary"),
            env: settings.env,
            dir: self.dir,
        }
    }

    /// Runs `doorward` with these arguments and this standard input.
    ///
    /// # Panics
    ///
    /// If it cannot be started or does not end within [`START`].
    pub async fn run(&self, arguments: &[&str], stdin: impl AsRef<[u8]>) -> Ran {
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(stdin.as_ref()).unwrap();
        std::io::Seek::rewind(&mut input).unwrap();
        let out = tempfile::tempdir_in(self.dir()).unwrap();
        let (stdout, stderr) = (out.path().join("stdout"), out.path().join("stderr"));
        let mut child = self
            .command(arguments)
            .stdin(Stdio::from(input))
            .stdout(fs::File::create(&stdout).unwrap())
            .stderr(fs::File::create(&stderr).unwrap())
            .spawn()
            .unwrap_or_else(|fault| panic!("{}: {fault}", self.binary.display()));
        let deadline = std::time::Instant::now() + START;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if std::time::Instant::now() > deadline {
                break None;
            }
            tokio::time::sleep(PAUSE).await;
        };
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let (stdout, stderr) = (read(&stdout), read(&stderr));
        let Some(status) = status else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("doorward {arguments:?} has not ended after {START:?}\n{stdout}{stderr}");
        };
        Ran {
            status,
            stdout,
            stderr,
        }
    }

    /// Starts `doorward` with these arguments, and kills it (SIGKILL) after this time, if it has not ended.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub async fn killed_after(&self, arguments: &[&str], millis: u64) {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|fault| panic!("{}: {fault}", self.binary.display()));
        tokio::time::sleep(Duration::from_millis(millis)).await;
        let _ = child.kill();
        child.wait().unwrap();
    }

    /// Adds a user, with `flags` such as `--admin`.
    ///
    /// # Panics
    ///
    /// If Doorward refuses.
    pub async fn add_user(&self, name: &str, password: &str, flags: &[&str]) {
        let arguments: Vec<_> = ["user", "add", name].iter().chain(flags).copied().collect();
        self.run(&arguments, format!("{password}\n")).await.ok();
    }

    /// Starts `doorward serve` here.
    ///
    /// # Panics
    ///
    /// If Doorward does not report that it serves.
    pub async fn serve(self) -> Doorward {
        let mut process = Process::start("doorward", &mut self.command(&["serve"]), self.dir());
        let (grpc, http, ops) = process
            .ready(async |process| {
                let line = lines(process).find(|line| line["fields"]["message"] == "serving")?;
                let address = |key: &str| -> SocketAddr {
                    let text = line["fields"][key].as_str();
                    match text.and_then(|address| address.parse().ok()) {
                        Some(address) => address,
                        None if text.is_some_and(|path| path.starts_with("unix:")) => UNIX,
                        None => panic!("no address {key:?} in {line}"),
                    }
                };
                Some((address("grpc"), address("http"), address("ops")))
            })
            .await;
        Doorward {
            process,
            home: self,
            grpc,
            http,
            ops,
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .current_dir(self.dir())
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(&self.env);
        command
    }
}

/// Stands for the port of a Doorward that listens on a Unix socket.
const UNIX: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A Doorward that serves.
pub struct Doorward {
    // Declared before `home`, so that the process ends before the directory is removed.
    process: Process,
    home: Home,
    /// The address of the gRPC door, for Envoy.
    pub grpc: SocketAddr,
    /// The address of the HTTP port, for other gateways, logins and `/validate`.
    pub http: SocketAddr,
    /// The address of the operations port, for health and metrics.
    pub ops: SocketAddr,
}

impl Doorward {
    /// Prepares a home and starts Doorward in it.
    ///
    /// # Panics
    ///
    /// If Doorward does not start.
    pub async fn start(choose: impl FnOnce(&mut Settings)) -> Self {
        Self::prepare(choose).serve().await
    }

    /// Makes a directory and default settings: free ports, JSON logs, data in the directory, and what `choose` adds.
    ///
    /// # Panics
    ///
    /// If the directory cannot be made or there is no binary.
    pub fn prepare(choose: impl FnOnce(&mut Settings)) -> Home {
        let dir = tempfile::Builder::new()
            .prefix("doorward-")
            .tempdir()
            .unwrap();
        let mut settings = Settings {
            binary: option_env!("CARGO_BIN_EXE_doorward").map(PathBuf::from),
            env: BTreeMap::new(),
            toml: None,
        };
        settings
            .env("DOORWARD_LISTEN__GRPC", "127.0.0.1:0")
            .env("DOORWARD_LISTEN__HTTP", "127.0.0.1:0")
            .env("DOORWARD_LISTEN__OPS", "127.0.0.1:0")
            // No gateway has to notice the stop.
            .env("DOORWARD_SHUTDOWN__DELAY", "0s")
            .env("DOORWARD_LOG__FORMAT", "json")
            // Many programs run beside Doorward here, in the same control group.
            .env("DOORWARD_LOGIN__HASH_PRIORITY", "normal")
            .env(
                "DOORWARD_DATA_DIR",
                dir.path().join("data").to_str().unwrap(),
            );
        choose(&mut settings);
        if let Some(text) = &settings.toml {
            let file = dir.path().join("doorward.toml");
            fs::write(&file, text).unwrap();
            settings.env("DOORWARD_CONFIG", file.to_str().unwrap());
        }
        Home {
            binary: settings.binary.expect("a path to the binary"),
            env: settings.env,
            dir,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Its settings and data.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Runs another `doorward` with the same settings and data, like [`Home::run`].
    pub async fn run(&self, arguments: &[&str], stdin: impl AsRef<[u8]>) -> Ran {
        self.home.run(arguments, stdin).await
    }

    /// Adds a user, like [`Home::add_user`].
    pub async fn add_user(&self, name: &str, password: &str, flags: &[&str]) {
        self.home.add_user(name, password, flags).await;
    }

    /// The lines of its log so far. A line that is not JSON is a string.
    pub fn log(&self) -> Vec<Value> {
        lines(&self.process).collect()
    }

    /// The file that its log is written to.
    pub fn log_file(&self) -> &Path {
        self.process.stderr_file()
    }

    /// Its log and output as text.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Waits for a line of its log.
    ///
    /// # Panics
    ///
    /// If the line does not appear within a minute.
    pub async fn logged(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(
            &format!("a line of the log: {what}"),
            PATIENCE,
            async || lines(&self.process).find(|line| is(line)),
        )
        .await
    }

    /// Kills it (SIGKILL).
    pub fn kill(self) -> Home {
        let Self {
            mut process,
            home,
            grpc: _,
            http: _,
            ops: _,
        } = self;
        process.kill();
        home
    }

    /// Sends SIGTERM, like an operator, and waits for the end.
    ///
    /// # Panics
    ///
    /// If it has not ended after [`START`].
    pub async fn stop(self) -> (Home, ExitStatus) {
        self.signal(Signal::TERM);
        self.end().await
    }

    /// Waits for the end; the caller has already sent a signal.
    ///
    /// # Panics
    ///
    /// If it has not ended after [`START`].
    pub async fn end(self) -> (Home, ExitStatus) {
        let Self {
            mut process,
            home,
            grpc: _,
            http: _,
            ops: _,
        } = self;
        let status = process.end(START).await;
        (home, status)
    }
}

fn lines(process: &Process) -> impl Iterator<Item = Value> + use<> {
    let text = process.stderr();
    // The text after the last line end is still being written.
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let lines: Vec<_> = text[..whole].lines().map(str::to_owned).collect();
    lines
        .into_iter()
        .map(|line| serde_json::from_str(&line).unwrap_or(Value::String(line)))
}
