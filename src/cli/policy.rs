//! Commands for rules.

use clap::{Args, Subcommand};

use super::Output;

/// Commands for rules.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Show which rule decides a request, why, and the result.
    ///
    /// Exit status 0: the request passes; 1: it does not.
    #[command(after_help = "\
Examples:
  doorward policy check GET /admin/users
  doorward policy check GET /admin/users --user bob
  doorward policy check POST https://api.example.com/orders?x=1 --role editor --output json")]
    Check(PolicyCheck),
}

/// Arguments of `doorward policy check`.
#[derive(Debug, Args)]
pub(crate) struct PolicyCheck {
    /// Request method, such as GET.
    pub(crate) method: String,
    /// Path, or URL if rules name hosts.
    pub(crate) url: String,
    /// Decide as for this user of the user table.
    #[arg(long, conflicts_with = "roles")]
    pub(crate) user: Option<String>,
    /// Decide as for a user with this role. Can be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// Format of the result.
    #[command(flatten)]
    pub(crate) output: Output,
}
