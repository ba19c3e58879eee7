//! What can be wrong with settings: with one value, and with all of them together.

use std::{fmt, time::Duration};

use humantime::format_duration;

use crate::{
    domain::{
        account::RolesFault, identity_headers::NamesFault, key::KeyFault, token::SecretFault,
        trust::NetworkFault,
    },
    doors::{listen::AddressFault, tls::ClientNameFault},
    issuers::SourceFault,
    tables::database::UrlFault,
};
use doorward_rules::keys::MAKE_SECRET;

/// Why one value is refused. Where the value may be a secret, the text does not contain it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum ValueFault {
    #[error("is empty")]
    Empty,
    #[error("is a list; write one value")]
    List,
    #[error("{text:?} is not a number from {least} to {most}")]
    Number { text: String, least: u64, most: u64 },
    #[error("{0:?} is not a number from 0 to 1")]
    Fraction(String),
    #[error("{text:?} is none of: {choices}")]
    Choice { text: String, choices: String },
    #[error(
        "{text:?} is not a duration from {} to {}; write one such as 90s, 15m or 24h",
        format_duration(*least),
        format_duration(*most)
    )]
    Duration {
        text: String,
        least: Duration,
        most: Duration,
    },
    #[error("must be 1 to 255 bytes without control characters")]
    Name,
    #[error("{0:?} is not a size; write one such as 128MiB, 1GiB or 134217728")]
    Size(String),
    #[error("{0:?} is less than the 19 MiB that one hash of Doorward needs")]
    Memory(String),
    #[error(transparent)]
    Address(#[from] AddressFault),
    #[error("{0:?} is not an address; write IP:PORT such as 127.0.0.1:9003 or [::]:9003")]
    OpsAddress(String),
    #[error("{0:?} is not the mode of a socket; write one in octal such as 0600, 0660 or 0666")]
    Mode(String),
    #[error(transparent)]
    ClientName(#[from] ClientNameFault),
    #[error("names nobody; leave it out if every certificate of the authorities is to be accepted")]
    NoClientName,
    #[error(transparent)]
    Network(#[from] NetworkFault),
    #[error("{0:?} is none of: peer, x-envoy-external-address, x-forwarded-for:N")]
    ClientAddress(String),
    #[error(transparent)]
    Database(#[from] UrlFault),
    #[error("must be a name of 1 to 64 characters without backticks or double quotes")]
    Column,
    #[error("must be one {0} statement")]
    Statement(&'static str),
    #[error("must have {wanted} question mark{}, and has {found}", plural(*wanted))]
    Placeholders { wanted: usize, found: usize },
    #[error(transparent)]
    Roles(#[from] RolesFault),
    #[error("{0:?} cannot be a name")]
    Username(String),
    #[error("{0}; make one with: {MAKE_SECRET}")]
    Secret(SecretFault),
    #[error("{0}; remove it, which ends the tokens that it signed")]
    PreviousSecret(SecretFault),
    #[error(transparent)]
    Key(#[from] KeyFault),
    #[error("must be 1 to 64 visible ASCII characters without quotes and backslashes")]
    Realm,
    #[error("{0:?} is not a URL; write one such as https://login.example.com/")]
    SignIn(String),
    #[error("{0:?} is neither a path such as /logo.svg nor an https URL")]
    Logo(String),
    #[error(transparent)]
    IdentityNames(#[from] NamesFault),
    #[error("a service could read it as {0:?}, which is one of identity.headers")]
    HeaderTaken(String),
    #[error("a service could read it as the header of identity.assertion")]
    HeaderOfAssertion,
    #[error(
        "is also jwt.audience; choose another one, so that nothing takes an assertion for a token"
    )]
    AudienceOfTokens,
    #[error(
        "{0:?} cannot be tolerated; write \"encoded-slash\", \"encoded-percent\", \"semicolon\" or \"double-slash\""
    )]
    Tolerance(String),
    #[error("{0:?} is no reading of a path; write \"extension\" or \"trailing-dot\"")]
    Reading(String),
    #[error("is empty; write off, stderr or a path")]
    Trail,
    #[error("is not a URL; {EXAMPLE}")]
    Collector,
    #[error(
        "is an https URL, but Doorward sends spans without TLS; name a collector on this machine or in a network that encrypts"
    )]
    CollectorTls,
    #[error(
        "must be an http URL with only a host and a port, because spans go there by OTLP over gRPC; {EXAMPLE}"
    )]
    CollectorUrl,
    #[error(transparent)]
    Source(#[from] SourceFault),
    #[error("must be without \"|\"")]
    IssuerName,
    #[error("must be at most 64 bytes without colons and control characters")]
    Prefix,
    #[error("{0:?} is missing")]
    Missing(&'static str),
}

const EXAMPLE: &str = "write one such as http://collector:4317";

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Fault {
    /// File and line, or name in the environment, or flag; then the key.
    pub place: String,
    /// What is wrong, and what to do.
    pub what: String,
}

/// Everything that is wrong with the settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} fault{} in the settings:", plural(count))?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
