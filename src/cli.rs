//! The grammar of the command line, nothing else.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The login and the guard beside your gateway.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// File of settings [default: doorward.toml, where there is one].
    #[arg(long, global = true, env = "DOORWARD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting, stronger than environment and file; may be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  doorward serve                                  start, with users in ./data/doorward.db
  doorward user add ada --admin                   add an administrator; asks for the password
  doorward policy check GET /admin/users --user bob
  doorward --set listen.grpc=127.0.0.1:9101 serve

Every setting is also a name in the environment: listen.grpc is DOORWARD_LISTEN__GRPC.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer gateways, until SIGTERM or Ctrl-C.
    #[command(after_help = "\
Examples:
  doorward serve
  MYSQL_HOST=db MYSQL_USER=auth MYSQL_PASSWORD_FILE=/run/secrets/db MYSQL_DB=auth \\
    JWT_SECRET_FILE=/run/secrets/jwt doorward serve")]
    Serve,
    /// Ask a health endpoint, as a container without a shell does. Status 0: answered 200; 1: not, or not at all.
    #[command(after_help = "\
Examples:
  doorward check                                  ask /readyz at listen.ops
  doorward check --url http://127.0.0.1:9003/livez --timeout 500ms
  doorward check --output json")]
    Check(Check),
    /// Make the tables in the database, or bring them up to date. `serve` does it by itself for SQLite.
    #[command(
        after_help = "Example:\n  DATABASE_URL=mysql://auth:PASSWORD@db/auth doorward migrate"
    )]
    Migrate,
    /// Add, change and list users.
    #[command(subcommand, visible_alias = "users")]
    User(User),
    /// Look at failed logins, and forget them.
    #[command(subcommand)]
    Throttle(Throttle),
    /// Look at the settings.
    #[command(subcommand)]
    Config(Config),
    /// Look at the rules.
    #[command(subcommand)]
    Policy(Policy),
    /// Look at tokens.
    #[command(subcommand)]
    Token(Token),
    /// Make, list and remove keys.
    #[command(subcommand)]
    Keys(Keys),
}

/// What is asked about health.
#[derive(Debug, Args)]
pub struct Check {
    /// Where to ask, by http:// [default: /readyz at listen.ops]. With it, no other setting is read.
    #[arg(long)]
    pub url: Option<String>,
    /// How long the answer may take.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub timeout: String,
    /// How the answer looks.
    #[command(flatten)]
    pub output: Output,
}

/// What to do with users.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Add a user. The password is asked for, or read as one line from standard input.
    #[command(after_help = "\
Examples:
  doorward user add ada --admin
  doorward user add bob --role editor --role billing < password.txt")]
    Add {
        /// The user's name.
        name: String,
        /// Make the user an administrator: the same as `--role admin`.
        #[arg(long)]
        admin: bool,
        /// Give the user a role; may be repeated.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// Take a password that the rules of `passwords` refuse.
        #[arg(long)]
        weak: bool,
    },
    /// Change a user's password. It is asked for, or read as one line from standard input. All tokens of the user end.
    #[command(after_help = "Example:\n  doorward user passwd bob < password.txt")]
    Passwd {
        /// The user's name.
        name: String,
        /// Take a password that the rules of `passwords` refuse.
        #[arg(long)]
        weak: bool,
    },
    /// Give roles to a user, or take them; without either, show them. A change ends all tokens of the user.
    #[command(after_help = "\
Examples:
  doorward user role bob
  doorward user role bob --grant editor --revoke admin")]
    Role {
        /// The user's name.
        name: String,
        /// Give the user a role; may be repeated.
        #[arg(long, value_name = "ROLE")]
        grant: Vec<String>,
        /// Take a role from the user; may be repeated.
        #[arg(long, value_name = "ROLE")]
        revoke: Vec<String>,
    },
    /// Refuse a user's logins, and end all tokens of the user.
    #[command(after_help = "Example:\n  doorward user disable bob")]
    Disable {
        /// The user's name.
        name: String,
    },
    /// Accept a user's logins again.
    #[command(after_help = "Example:\n  doorward user enable bob")]
    Enable {
        /// The user's name.
        name: String,
    },
    /// End all tokens and sessions of a user; every replica knows within a second or two.
    #[command(after_help = "Example:\n  doorward user logout bob")]
    Logout {
        /// The user's name.
        name: String,
    },
    /// Remove a user, and end all tokens of the user.
    #[command(after_help = "Example:\n  doorward user remove bob")]
    Remove {
        /// The user's name.
        name: String,
    },
    /// List all users.
    #[command(after_help = "Examples:\n  doorward user list\n  doorward user list --output json")]
    List(Output),
    /// Count the schemes of stored password hashes, without showing any.
    #[command(
        after_help = "Examples:\n  doorward users hashes\n  doorward users hashes --output json"
    )]
    Hashes(Output),
}

/// What to do with counts of failed logins.
#[derive(Debug, Subcommand)]
pub enum Throttle {
    /// List counts of failed logins, the latest first: at most 1000.
    #[command(
        after_help = "Examples:\n  doorward throttle list\n  doorward throttle list --output json"
    )]
    List(Output),
    /// Forget failed logins, so that nobody waits for them any more.
    #[command(after_help = "\
Examples:
  doorward throttle clear bob
  doorward throttle clear --address 203.0.113.9
  doorward throttle clear --all")]
    Clear {
        /// Names of accounts.
        names: Vec<String>,
        /// A client address.
        #[arg(long)]
        address: Option<IpAddr>,
        /// Everything.
        #[arg(long)]
        all: bool,
    },
}

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Read all settings as `serve` would, and say everything that is wrong with them.
    #[command(after_help = "Example:\n  doorward --config doorward.toml config check")]
    Check,
}

/// What to do with the rules.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Say which rule decides a request, why, and what becomes of it. Status 0: it passes; 1: it does not.
    #[command(after_help = "\
Examples:
  doorward policy check GET /admin/users
  doorward policy check GET /admin/users --user bob
  doorward policy check POST https://api.example.com/orders?x=1 --role editor --output json")]
    Check {
        /// The request method, such as GET.
        method: String,
        /// A path, or a URL where rules name hosts.
        url: String,
        /// Ask as this user of the user table.
        #[arg(long, conflicts_with = "roles")]
        user: Option<String>,
        /// Ask as somebody with this role; may be repeated.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// How the answer looks.
        #[command(flatten)]
        output: Output,
    },
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Decode a token and say whether it is accepted here and now, and if not, why. Status 0: accepted; 1: not.
    #[command(after_help = "\
Examples:
  doorward token inspect < token.txt
  doorward token inspect --output json eyJ0eXAiOiJKV1Qi...")]
    Inspect {
        /// The token, with or without \"Bearer\"; read from standard input where it is not given.
        token: Option<String>,
        /// How the answer looks.
        #[command(flatten)]
        output: Output,
    },
    /// Hold a compact token against one JWK and nothing else, for suites of test vectors. Status 0: valid; 1: not.
    #[command(
        hide = true,
        after_help = "Example:\n  doorward token verify --jwk key.json --token eyJ0eXAiOiJKV1Qi..."
    )]
    Verify {
        /// File of the key.
        #[arg(long)]
        jwk: PathBuf,
        /// The token.
        #[arg(long)]
        token: String,
    },
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make the first key of the directory of keys.
    #[command(after_help = "\
Examples:
  doorward keys generate ES256
  doorward keys generate RS256 --id 2026-november")]
    Generate {
        /// HS256, RS256, RS384, RS512, PS256, ES256, ES384 or EdDSA.
        algorithm: String,
        /// The name of the key (`kid`); drawn where it is not given.
        #[arg(long)]
        id: Option<String>,
    },
    /// Make the next key: published at once, signing later; the one before verifies until its last token has expired.
    #[command(after_help = "\
Examples:
  doorward keys rotate
  doorward keys rotate --algorithm EdDSA --after 1h")]
    Rotate {
        /// The algorithm, where it is to be another one.
        #[arg(long, value_name = "ALG")]
        algorithm: Option<String>,
        /// The name of the key (`kid`); drawn where it is not given.
        #[arg(long)]
        id: Option<String>,
        /// How long it is published before it signs [default: 10m].
        #[arg(long, value_name = "DURATION")]
        after: Option<String>,
    },
    /// Remove a key whose last token has expired.
    #[command(after_help = "\
Examples:
  doorward keys retire 2026-november
  doorward keys retire 2026-november --now     # it has leaked: all of its tokens end")]
    Retire {
        /// The name of the key.
        id: String,
        /// Remove it though tokens of it are good.
        #[arg(long)]
        now: bool,
    },
    /// List keys with what they do.
    #[command(after_help = "Examples:\n  doorward keys list\n  doorward keys list --output json")]
    List(Output),
    /// Write the public keys as a JWK set, such as for Envoy's `local_jwks`.
    #[command(after_help = "Example:\n  doorward keys export > jwks.json")]
    Export,
}

/// How results look.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// For people or for machines.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// How results look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write KEY=VALUE, such as listen.grpc=127.0.0.1:9101")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn walk(command: &clap::Command) {
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string);
                let example = help.unwrap_or_default();
                assert!(example.contains("doorward "), "{}", command.get_name());
            }
            command
                .get_subcommands()
                .filter(|sub| sub.get_name() != "help")
                .for_each(walk);
        }
        walk(&Cli::command());
    }
}
