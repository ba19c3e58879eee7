//! MariaDB, from the packages installed on this machine.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use super::{MySqlLike, program};

/// The MariaDB server.
pub struct MariaDb;

impl MySqlLike for MariaDb {
    const SERVER: &'static str = "mariadbd";
    const CLIENT: &'static str = "mariadb";
    const INSTALLER: (&'static str, &'static [&'static str]) = (
        "mariadb-install-db",
        &["--auth-root-authentication-method=normal", "--skip-test-db"],
    );
    const SMALL_AND_FAST: &'static [&'static str] = &[
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

    fn command(name: &str) -> Command {
        Command::new(program(name))
    }

    fn directories() -> PathBuf {
        env::temp_dir()
    }

    fn seen(dir: &Path) -> PathBuf {
        dir.to_owned()
    }
}
