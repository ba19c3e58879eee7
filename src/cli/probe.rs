//! The command line of `doorward probe`.

use std::path::PathBuf;

use clap::Args;

use super::Output;

/// Arguments of `doorward probe`.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// URL of the gateway, with `https://` or `http://`. Rules with hosts are asked for with their own hosts.
    pub(crate) url: String,
    /// Requests per second.
    #[arg(long, value_name = "NUMBER", default_value = "5")]
    pub(crate) rate: f64,
    /// How long to wait for each answer.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub(crate) timeout: String,
    /// Also send POST, PUT, PATCH and DELETE, for rules that name no safe method. If Doorward is not in the way, the service
    /// runs them.
    #[arg(long)]
    pub(crate) unsafe_methods: bool,
    /// PEM file of the certificate authorities to trust instead of the public ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Format of the result.
    #[command(flatten)]
    pub(crate) output: Output,
}
