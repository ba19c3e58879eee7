//! Commands for keys for machines.

use clap::Subcommand;

use super::Output;

/// Commands for keys for machines.
#[derive(Debug, Subcommand)]
pub(crate) enum MachineKey {
    /// Add a key, and print it once on standard output.
    ///
    /// The key has the rights of its owner, or fewer: with --role only these roles, with --path only these paths.
    #[command(after_help = "\
Examples:
  doorward key add deploy --owner ada
  doorward key add ci --owner deployer --role deploy --path '/repo/*' --expires 30days")]
    Add {
        /// Name of the key; services get it in x-auth-key.
        name: String,
        /// The user whose rights the key has.
        #[arg(long, value_name = "USER")]
        owner: String,
        /// Give the key only this role of its owner. Can be repeated.
        #[arg(long = "role", value_name = "ROLE", conflicts_with = "no_roles")]
        roles: Vec<String>,
        /// Give the key none of its owner's roles.
        #[arg(long)]
        no_roles: bool,
        /// Limit the key to this path, as in a rule. Can be repeated.
        #[arg(long = "path", value_name = "PATH")]
        paths: Vec<String>,
        /// Time until the key expires, or `never` [default: keys.lifetime].
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
    },
    /// List keys; shows no secret.
    #[command(
        after_help = "Examples:\n  doorward key list\n  doorward key list --owner ada --output json"
    )]
    List {
        /// List only the keys of this user.
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        /// List ended and expired keys, too.
        #[arg(long)]
        all: bool,
        /// Format of the output.
        #[command(flatten)]
        output: Output,
    },
    /// Replace a key by a new one of the same name and limits, and print the new one on standard output.
    #[command(after_help = "\
Examples:
  doorward key rotate 0123456789abcdef
  doorward key rotate 0123456789abcdef --overlap 1h --expires 30days")]
    Rotate {
        /// ID of the key.
        id: String,
        /// How long the old key stays valid, at most.
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        overlap: String,
        /// Time until the new key expires, or `never` [default: the lifetime of the old one].
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
    },
    /// End a key. Every replica refuses it within two seconds.
    #[command(after_help = "Example:\n  doorward key end 0123456789abcdef")]
    End {
        /// ID of the key.
        id: String,
    },
}
