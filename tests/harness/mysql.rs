//! MySQL, from a Debian of its own that `make test-mysql` fetches: the stable one has none.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Server, program, tool};

/// MySQL. Only root can start it, since its programs see its Debian as the whole machine.
pub struct MySql;

impl Server for MySql {
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
        // Debian's own value names a folder that comes with a package that is not needed.
        "--secure-file-priv=",
    ];

    // `chroot` becomes the program, which therefore has the process id that this command gets.
    fn command(name: &str) -> Command {
        let mut command = Command::new(program("chroot"));
        command
            .arg(tool("mysql"))
            .arg(name)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin");
        command
    }

    fn directories() -> PathBuf {
        tool("mysql/tmp")
    }

    fn seen(dir: &Path) -> PathBuf {
        Path::new("/tmp").join(dir.file_name().expect("a directory with a name"))
    }
}
