//! A program that a test starts and stops.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{PAUSE, START, until};

/// A running program. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    heir: Option<(Child, ChildStdin)>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`, and writes its output to two files in `dir`.
    ///
    /// # Panics
    ///
    /// If the command cannot be started.
    pub fn start(name: &str, command: &mut Command, dir: &Path) -> Self {
        let stdout = dir.join(format!("{name}.stdout"));
        let stderr = dir.join(format!("{name}.stderr"));
        // A group of its own, so that what it starts ends with it: chromedriver leaves its browser behind.
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap_or_else(|fault| panic!("{name} cannot be started: {fault}: {command:?}"));
        let heir = heir(child.id());
        Self {
            name: name.to_owned(),
            child,
            heir,
            stdout,
            stderr,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .unwrap_or_else(|fault| panic!("{signal:?} to {}: {fault}", self.name));
    }

    /// Waits until `look` returns a value, which shows that the program has started.
    ///
    /// # Panics
    ///
    /// If the program exits before that, or takes longer than [`START`].
    pub async fn ready<T>(&mut self, mut look: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(seen) = look(self).await {
                return seen;
            }
            if let Some(status) = self.exited() {
                panic!("{} did not start: {status}\n{}", self.name, self.output());
            }
            assert!(
                start.elapsed() < START,
                "{} has not started after {START:?}\n{}",
                self.name,
                self.output()
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("the status of our own child");
        if status.is_some() {
            self.dismiss_heir();
        }
        status
    }

    /// Waits until the program ends.
    ///
    /// # Panics
    ///
    /// If it still runs after `limit`.
    pub async fn end(&mut self, limit: Duration) -> ExitStatus {
        until(&format!("{} has ended", self.name), limit, async || {
            self.exited()
        })
        .await
    }

    /// Kills the program and waits for its end.
    pub fn kill(&mut self) {
        self.dismiss_heir();
        // It may already have ended.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// The file of its standard error.
    pub fn stderr_file(&self) -> &Path {
        &self.stderr
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Standard output and standard error, for messages.
    pub fn output(&self) -> String {
        format!(
            "--- stdout\n{}--- stderr\n{}---",
            self.stdout(),
            self.stderr()
        )
    }

    fn dismiss_heir(&mut self) {
        if let Some((mut heir, _)) = self.heir.take() {
            let _ = heir.kill();
            let _ = heir.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A shell that kills the group of `pid` when its standard input closes. That happens whenever this program ends, even by Ctrl-C
/// or SIGKILL, when no destructor runs.
fn heir(pid: u32) -> Option<(Child, ChildStdin)> {
    let mut heir = Command::new("sh")
        .args([
            "-c",
            "trap '' HUP INT TERM; read _; kill -9 -- \"-$1\"",
            "sh",
            &pid.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdin = heir.stdin.take()?;
    Some((heir, stdin))
}

/// Runs a program to its end with `input` as standard input.
///
/// # Panics
///
/// If it cannot be started, or ends before it has read all input.
pub fn fed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// Checks that a program has succeeded, and otherwise shows what it wrote.
pub(super) fn succeeded(what: &str, ran: &Output) {
    assert!(
        ran.status.success(),
        "{what}: {}\n{}{}",
        ran.status,
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
