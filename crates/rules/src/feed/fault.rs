//! Why a question, an answer, or what is in it, is refused. Each text fits one line of a log.

use doorward_core::{
    account::RolesFault, identity_headers::NamesFault, issuer::DocumentFault, key::KeyFault,
    keyring::KeyringFault, policy::Conflict, trust::NetworkFault,
};

use super::{FORMAT, LONGEST};

/// Why an answer is refused. Nothing of it was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedFault {
    /// Longer than [`LONGEST`].
    #[error("the feed has more than {} MiB", LONGEST / 1024 / 1024)]
    Long,
    /// Not JSON of the right members and types.
    #[error("the feed cannot be read: {0}")]
    Syntax(String),
    /// Another format.
    #[error("the feed is of format {0}, and this follower reads format {FORMAT}; update it first")]
    Format(u64),
    /// It answers another question.
    #[error("the feed answers another question: something between repeats old answers")]
    Replayed,
    /// An id that nothing can have.
    #[error("the feed has an empty or overlong id")]
    Id,
    /// A replica that knows less than before.
    #[error("the feed goes back: replica {replica} was at {was} and is at {is}")]
    RolledBack {
        /// Who.
        replica: String,
        /// What it had said before.
        was: u64,
        /// What it says now.
        is: u64,
    },
    /// A page of a list whose first page was not seen.
    #[error("the feed goes on with a list that did not begin")]
    OutOfStep,
    /// More than a follower remembers.
    #[error("the feed has more than {0} revocations")]
    Many(usize),
    /// The content in force was neither sent nor known.
    #[error("the feed names a content that it does not contain")]
    NoContent,
    /// What it contains cannot be in force.
    #[error("what the feed contains cannot be in force: {0}")]
    Content(#[from] ContentFault),
}

/// Why a content cannot be in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// A key that is refused.
    #[error("key {0:?} {1}")]
    Key(String, #[source] KeyFault),
    /// More than the halves that are published.
    #[error("key {0:?} has a member {1:?}, which no public key has")]
    Member(String, String),
    /// Keys that do not hold together.
    #[error(transparent)]
    Keyring(#[from] KeyringFault),
    /// There is no key at all.
    #[error("it has no key")]
    NoKey,
    /// Only HS256 secrets, none of which is known here.
    #[error(
        "all of its keys are HS256 secrets, which the feed never contains; name a file with the secret here, or let Doorward sign with ES256 (doorward keys generate)"
    )]
    OnlySecrets,
    /// A rule that is refused.
    #[error("rule {0}: {1}")]
    Rule(usize, String),
    /// Rules that do not hold together.
    #[error("{0}")]
    Conflict(#[source] Conflict),
    /// More of something than is possible.
    #[error("it has more than {1} {0}")]
    Many(&'static str, usize),
    /// A value that no setting has.
    #[error("{0} cannot be {1:?}")]
    Value(&'static str, String),
    /// Names of identity headers.
    #[error("identity_headers: {0}")]
    Names(#[from] NamesFault),
    /// More sets of identity headers than a follower keeps.
    #[error("the names of identity headers change too often; restart to take them")]
    NamesChange,
    /// Networks of gateways.
    #[error("trusted_proxies: {0}")]
    Network(#[from] NetworkFault),
    /// Roles.
    #[error(transparent)]
    Roles(#[from] RolesFault),
    /// Another issuer that cannot be.
    #[error("issuer {0:?} {1}")]
    Issuer(String, &'static str),
    /// Keys of another issuer.
    #[error("the document of issuer {0:?} {1}")]
    Document(String, #[source] DocumentFault),
}

/// Why a question is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryFault {
    /// A parameter that there is not.
    #[error("a parameter is none of: format, since, have, ask")]
    Unknown,
    /// A parameter that is there twice.
    #[error("a parameter is there twice")]
    Twice,
    /// A format that is not served.
    #[error("format: this Doorward serves format {FORMAT}")]
    Format,
    /// Not a cursor.
    #[error("since: not a cursor; leave it out to get everything")]
    Cursor,
    /// Not digests.
    #[error("have: at most 4 digests with commas between")]
    Have,
    /// Not a nonce.
    #[error("ask: 1 to 64 letters, digits, \"_\" and \"-\"")]
    Ask,
}

/// The longest text of another's making in a fault, in characters.
const LONGEST_TEXT: usize = 200;

/// A text for a log, cut off where it is long.
pub(super) fn short(text: &str) -> String {
    let visible = text.chars().map(|c| match c.is_control() {
        true => ' ',
        false => c,
    });
    let mut short: String = visible.clone().take(LONGEST_TEXT).collect();
    if visible.count() > LONGEST_TEXT {
        short.push('\u{2026}');
    }
    short
}
