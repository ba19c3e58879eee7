//! Commands that read no settings.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Commands that read no settings: there may be none yet.
#[derive(Debug, Subcommand)]
pub(crate) enum Setup {
    /// Write the first settings and the configuration of a gateway.
    ///
    /// Asks for everything that no option gives. Never overwrites a file.
    #[command(after_help = "\
Examples:
  doorward init
  doorward init --gateway envoy --database sqlite
  doorward init --gateway nginx --database mysql --table accounts --username email --password hash")]
    Init(Init),
    /// Print a script that completes commands and options in a shell.
    #[command(after_help = "\
Examples:
  doorward completions bash > /etc/bash_completion.d/doorward
  doorward completions fish > ~/.config/fish/completions/doorward.fish")]
    Completions {
        /// Shell that reads the script.
        shell: Shell,
    },
    /// Print the manual page, or write the pages of all commands.
    #[command(after_help = "\
Examples:
  doorward man | man -l -
  doorward man --into /usr/local/share/man/man1")]
    Man(Man),
}

/// Arguments of `doorward init`. It asks for those that are missing.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Gateway that asks Doorward.
    #[arg(long, value_enum)]
    pub(crate) gateway: Option<Gateway>,
    /// Database of the users.
    #[arg(long, value_enum)]
    pub(crate) database: Option<UserDatabase>,
    /// Existing table of users; "own" for a table that Doorward creates.
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// Column of the name in that table.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) username: Option<String>,
    /// Column of the password hash in that table.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) password: Option<String>,
    /// Directory for the files; it must exist.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    pub(crate) dir: PathBuf,
}

/// Gateways with a configuration that works as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Gateway {
    /// Envoy, over gRPC.
    Envoy,
    /// Envoy, over HTTP.
    EnvoyHttp,
    /// nginx.
    Nginx,
    /// Caddy.
    Caddy,
    /// HAProxy.
    Haproxy,
    /// Traefik.
    Traefik,
}

/// Databases of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UserDatabase {
    /// A file that Doorward creates.
    Sqlite,
    /// A MySQL or MariaDB server.
    Mysql,
    /// A PostgreSQL server.
    Postgres,
}

/// Arguments of `doorward man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Directory for one page for each command; it must exist.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) into: Option<PathBuf>,
}
