//! MySQL, from a separate Debian tree that `make test-mysql` fetches: Debian stable has no MySQL.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{MySqlLike, program, tool};

/// The MySQL server. Only root can start it, because its programs run in a chroot.
pub struct MySql;

impl MySqlLike for MySql {
    const SERVER: &'static str = "mysqld";
    const CLIENT: &'static str = "mysql";
    const INSTALLER: (&'static str, &'static [&'static str]) =
        ("mysqld", &["--initialize-insecure"]);
    const SMALL_AND_FAST: &'static [&'static str] = &[
        "--innodb-buffer-pool-size=16M",
        "--innodb-redo-log-capacity=16M",
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-flush-method=nosync",
        "--innodb-doublewrite=off",
        "--innodb-buffer-pool-dump-at-shutdown=0",
        "--innodb-use-native-aio=0",
        "--performance-schema=off",
        "--skip-log-bin",
        "--max-connections=100",
        "--mysqlx=off",
        // Debian's default is a directory from a package that is not installed.
        "--secure-file-priv=",
    ];

    // `chroot` replaces itself with the program, so the process id of this command is the program's.
    fn command(name: &str) -> Command {
        let mut command = Command::new(program("chroot"));
        command
            .arg(tool("unstable"))
            .arg(name)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin");
        command
    }

    fn directories() -> PathBuf {
        tool("unstable/tmp")
    }

    fn seen(dir: &Path) -> PathBuf {
        Path::new("/tmp").join(dir.file_name().expect("a directory with a name"))
    }
}
