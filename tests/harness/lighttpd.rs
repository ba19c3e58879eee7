//! A CGI service in lighttpd. Of all servers that tests can install, lighttpd converts the most bytes of a header name
//! to `_`.

use std::{fs, net::SocketAddr, process::Command};

use tempfile::TempDir;

use super::{Process, client, free_address, program};

/// A running lighttpd that runs one CGI program for every path.
pub struct Lighttpd {
    // Declared before the directory, so that the process ends before the directory is removed.
    process: Process,
    _dir: TempDir,
    /// The address of the service.
    pub address: SocketAddr,
}

impl Lighttpd {
    /// A shell program that answers with its environment, one variable per line. `env` would omit duplicates.
    pub const ENVIRONMENT: &str =
        "printf 'Content-Type: text/plain\\r\\n\\r\\n'\ntr '\\0' '\\n' < /proc/$$/environ\n";

    /// Starts lighttpd with this shell program, which receives the target as `REQUEST_URI`.
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

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.output()
    }
}
