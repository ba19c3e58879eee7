//! The command-line grammar, and nothing else.

mod machine_key;
mod policy;
mod probe;
mod setup;

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::machine_key::MachineKey;
pub(crate) use self::policy::{
    OldPrecedence, Policy, PolicyCheck, PolicyCoverage, PolicyDiff, PolicyPromote, PolicyReplay,
    PolicyTest, TestFormat,
};
pub(crate) use self::probe::Probe;
pub(crate) use self::setup::{Gateway, Init, Man, Setup, UserDatabase};

/// Login and authorization service for your gateway.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// File with settings [default: doorward.toml, if it exists].
    #[arg(long, global = true, env = "DOORWARD_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set one setting; overrides the environment and the file. Can be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// The command to run.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  doorward serve                                  serve, with users in ./data/doorward.db
  doorward user add ada --admin                   add an administrator (asks for the password)
  doorward policy check GET /admin/users --user bob
  doorward --set listen.grpc=127.0.0.1:9101 serve

Every setting can also be an environment variable: listen.grpc is DOORWARD_LISTEN__GRPC.";

/// All commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Commands that read no settings.
    #[command(flatten)]
    Setup(Setup),
    /// Serve requests of gateways until SIGTERM or Ctrl-C.
    #[command(after_help = "\
Examples:
  doorward serve
  MYSQL_HOST=db MYSQL_USER=auth MYSQL_PASSWORD_FILE=/run/secrets/db MYSQL_DB=auth \\
    JWT_SECRET_FILE=/run/secrets/jwt doorward serve")]
    Serve,
    /// Ask a health endpoint; for containers without a shell.
    ///
    /// Exit status 0: it answers 200; 1: any other answer, or none.
    #[command(after_help = "\
Examples:
  doorward check                                  ask /readyz at listen.ops
  doorward check --url http://127.0.0.1:9003/livez --timeout 500ms
  doorward check --output json")]
    Check(Check),
    /// Create or update the tables in the database.
    ///
    /// `serve` does this by itself for SQLite.
    #[command(
        after_help = "Example:\n  DATABASE_URL=mysql://auth:PASSWORD@db/auth doorward migrate"
    )]
    Migrate,
    /// Add, change and list users.
    #[command(subcommand, visible_alias = "users")]
    User(User),
    /// List or clear counts of failed logins.
    #[command(subcommand)]
    Throttle(Throttle),
    /// Check the settings.
    #[command(subcommand)]
    Config(Config),
    /// Check the rules.
    #[command(subcommand)]
    Policy(Policy),
    /// Check through a gateway that Doorward decides its requests.
    ///
    /// Sends requests for each rule with a signed question; Doorward answers and refuses each of them. Reads the rules and
    /// `probe.key` from the settings. Exit status 0: Doorward decided each request, or the gateway itself refused it; 1: any
    /// other finding.
    #[command(after_help = "\
Examples:
  doorward probe https://gateway.example
  doorward probe https://gateway.example --rate 20 --output json
  doorward probe https://10.0.0.7 --ca gateway-ca.pem")]
    Probe(Probe),
    /// Decode and check tokens.
    #[command(subcommand)]
    Token(Token),
    /// Create, list and remove the keys that sign tokens.
    #[command(subcommand)]
    Keys(Keys),
    /// Add, list, rotate and end keys for machines, which programs show instead of a token.
    #[command(subcommand)]
    Key(MachineKey),
}

/// Arguments of `doorward check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// URL to ask, with http:// [default: /readyz at listen.ops]. With a URL, no settings are read.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// How long to wait for the answer.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub(crate) timeout: String,
    /// Format of the result.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Commands for users.
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Add a user.
    ///
    /// Asks for the password, or reads it as one line from standard input.
    #[command(after_help = "\
Examples:
  doorward user add ada --admin
  doorward user add bob --role editor --role billing < password.txt
  doorward user add deployer --role deploy --no-password")]
    Add {
        /// Name of the user.
        name: String,
        /// Give the user the role `admin`; the same as `--role admin`.
        #[arg(long)]
        admin: bool,
        /// Give the user this role. Can be repeated.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// Accept a password that the `passwords` settings refuse.
        #[arg(long)]
        weak: bool,
        /// Add a user without a password, who can own keys for machines and cannot log in.
        #[arg(long, conflicts_with = "weak")]
        no_password: bool,
    },
    /// Change a user's password, and revoke all tokens of the user.
    ///
    /// Asks for the password, or reads it as one line from standard input.
    #[command(after_help = "Example:\n  doorward user passwd bob < password.txt")]
    Passwd {
        /// Name of the user.
        name: String,
        /// Accept a password that the `passwords` settings refuse.
        #[arg(long)]
        weak: bool,
    },
    /// Grant, revoke or show the roles of a user.
    ///
    /// Shows the roles if no option is given. A change revokes all tokens of the user.
    #[command(after_help = "\
Examples:
  doorward user role bob
  doorward user role bob --grant editor --revoke admin")]
    Role {
        /// Name of the user.
        name: String,
        /// Grant this role. Can be repeated.
        #[arg(long, value_name = "ROLE")]
        grant: Vec<String>,
        /// Revoke this role. Can be repeated.
        #[arg(long, value_name = "ROLE")]
        revoke: Vec<String>,
    },
    /// Refuse logins of a user, and revoke all tokens of the user.
    #[command(after_help = "Example:\n  doorward user disable bob")]
    Disable {
        /// Name of the user.
        name: String,
    },
    /// Accept logins of a disabled user again.
    #[command(after_help = "Example:\n  doorward user enable bob")]
    Enable {
        /// Name of the user.
        name: String,
    },
    /// Revoke all tokens and sessions of a user.
    ///
    /// Every replica knows within one or two seconds.
    #[command(after_help = "Example:\n  doorward user logout bob")]
    Logout {
        /// Name of the user.
        name: String,
    },
    /// Remove a user, and revoke all tokens of the user.
    #[command(after_help = "Example:\n  doorward user remove bob")]
    Remove {
        /// Name of the user.
        name: String,
    },
    /// List all users.
    #[command(after_help = "Examples:\n  doorward user list\n  doorward user list --output json")]
    List(Output),
    /// Count stored password hashes by scheme; shows no hash.
    #[command(
        after_help = "Examples:\n  doorward users hashes\n  doorward users hashes --output json"
    )]
    Hashes(Output),
}

/// Commands for counts of failed logins.
#[derive(Debug, Subcommand)]
pub(crate) enum Throttle {
    /// List counts of failed logins, the latest first, at most 1000.
    #[command(
        after_help = "Examples:\n  doorward throttle list\n  doorward throttle list --output json"
    )]
    List(Output),
    /// Clear counts of failed logins, so that the next login does not have to wait.
    #[command(after_help = "\
Examples:
  doorward throttle clear bob
  doorward throttle clear --address 203.0.113.9
  doorward throttle clear --all")]
    Clear {
        /// User names to clear.
        names: Vec<String>,
        /// Client address to clear.
        #[arg(long)]
        address: Option<IpAddr>,
        /// Clear all counts.
        #[arg(long)]
        all: bool,
    },
}

/// Commands for settings.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Read all settings as `serve` does, and report every fault.
    #[command(after_help = "Example:\n  doorward --config doorward.toml config check")]
    Check,
    /// Print the JSON Schema of doorward.toml, for editors.
    ///
    /// With `#:schema doorward.schema.json` as its first line, editors with a language server for TOML complete and check
    /// the file.
    #[command(after_help = "Example:\n  doorward config schema > doorward.schema.json")]
    Schema,
}

/// Commands for tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Decode a token, and say whether this Doorward accepts it now, or why not.
    ///
    /// Exit status 0: accepted; 1: refused.
    #[command(after_help = "\
Examples:
  doorward token inspect < token.txt
  doorward token inspect --output json eyJ0eXAiOiJKV1Qi...")]
    Inspect {
        /// The token, with or without "Bearer"; read from standard input by default.
        token: Option<String>,
        /// Format of the result.
        #[command(flatten)]
        output: Output,
    },
    /// Verify a compact token with one JWK only, for test vectors.
    ///
    /// Exit status 0: valid; 1: invalid.
    #[command(
        hide = true,
        after_help = "Example:\n  doorward token verify --jwk key.json --token eyJ0eXAiOiJKV1Qi..."
    )]
    Verify {
        /// File with the key as a JWK.
        #[arg(long)]
        jwk: PathBuf,
        /// Compact token to verify.
        #[arg(long)]
        token: String,
    },
}

/// Commands for keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Create the first key in the key directory.
    #[command(after_help = "\
Examples:
  doorward keys generate ES256
  doorward keys generate RS256 --id 2026-november")]
    Generate {
        /// HS256, RS256, RS384, RS512, PS256, ES256, ES384 or EdDSA.
        algorithm: String,
        /// Name of the key (`kid`) [default: random].
        #[arg(long)]
        id: Option<String>,
    },
    /// Create the next key.
    ///
    /// The key is published at once and signs later. The previous key verifies until its last token has expired.
    #[command(after_help = "\
Examples:
  doorward keys rotate
  doorward keys rotate --algorithm EdDSA --after 1h")]
    Rotate {
        /// Algorithm [default: that of the signing key].
        #[arg(long, value_name = "ALG")]
        algorithm: Option<String>,
        /// Name of the key (`kid`) [default: random].
        #[arg(long)]
        id: Option<String>,
        /// How long to publish the key before it signs [default: 10m].
        #[arg(long, value_name = "DURATION")]
        after: Option<String>,
    },
    /// Remove a key whose last token has expired.
    #[command(after_help = "\
Examples:
  doorward keys retire 2026-november
  doorward keys retire 2026-november --now     # the key has leaked: revokes all its tokens")]
    Retire {
        /// Name of the key.
        id: String,
        /// Remove the key even if some of its tokens are still valid.
        #[arg(long)]
        now: bool,
    },
    /// List keys and their states.
    #[command(after_help = "Examples:\n  doorward keys list\n  doorward keys list --output json")]
    List(Output),
    /// Print the public keys as a JWK set, for example for Envoy's `local_jwks`.
    #[command(after_help = "Example:\n  doorward keys export > jwks.json")]
    Export,
}

/// The output option of commands.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// Format of the output: for people or for machines.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table or sentences, for people.
    Text,
    /// JSON, for machines.
    Json,
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("write KEY=VALUE, such as listen.grpc=127.0.0.1:9101")]
struct NoEqualsSign;

fn key_value(text: &str) -> Result<(String, String), NoEqualsSign> {
    let (key, value) = text.split_once('=').ok_or(NoEqualsSign)?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_definition_is_valid() {
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
