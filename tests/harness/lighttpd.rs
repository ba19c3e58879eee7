//! A service behind CGI, in lighttpd: of all servers that tests can install, the one that makes `_` of most bytes of a
//! header's name.

use std::{fs, net::SocketAddr, process::Command};

use tempfile::TempDir;

use super::{Process, client, free_address, program};

/// A running lighttpd, every path of which is one CGI program.
pub struct Lighttpd {
    // Before its directory, so that it has ended when the directory goes.
    process: Process,
    _dir: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Lighttpd {
    /// A program of the shell that answers with the environment it was started in, one variable a line. `env` would leave
    /// out what is there twice.
    pub const ENVIRONMENT: &str =
        "printf 'Content-Type: text/plain\\r\\n\\r\\n'\ntr '\\0' '\\n' < /proc/$$/environ\n";

    /// Starts it with this program of the shell, which gets the target as `REQUEST_URI`.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start(shell: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("lighttpd-")
            .tempdir()
            .unwrap();
        let address = free_address();
        let root = dir.path().display();
        let config = format!(
            "server.modules = ( \"mod_rewrite\", \"mod_cgi\" )\n\
             server.document-root = \"{root}\"\n\
             server.bind = \"{}\"\n\
             server.port = {}\n\
             server.errorlog = \"/dev/stderr\"\n\
             url.rewrite-once = ( \"\" => \"/program.cgi\" )\n\
             cgi.assign = ( \".cgi\" => \"/bin/sh\" )\n",
            address.ip(),
            address.port(),
        );
        let file = dir.path().join("lighttpd.conf");
        fs::write(&file, config).unwrap();
        fs::write(dir.path().join("program.cgi"), shell).unwrap();
        let mut command = Command::new(program("lighttpd"));
        command.arg("-D").arg("-f").arg(file);
        let mut process = Process::start("lighttpd", &mut command, dir.path());
        process
            .ready(async |_| {
                let reply = client::try_send(address, "GET", "/", &[], "").await.ok()?;
                (reply.status == 200).then_some(())
            })
            .await;
        Self {
            process,
            _dir: dir,
            address,
        }
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        self.process.output()
    }
}
