//! Why a request, an answer or its content is refused. Each text fits into one line of a log.

use doorward_core::{
    account::RolesFault, identity_headers::NamesFault, issuer::DocumentFault, key::KeyFault,
    keyring::KeyringFault, policy::Conflict, trust::NetworkFault,
};

use super::{FORMAT, LONGEST};

/// Why an answer is refused. It has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedFault {
    /// Longer than any answer of Doorward.
    #[error("the feed has more than {} MiB", LONGEST / 1024 / 1024)]
    Long,
    /// Not JSON of the right members and types.
    #[error("the feed cannot be read: {0}")]
    Syntax(String),
    /// Another format.
    #[error("the feed is of format {0}, and this follower reads format {FORMAT}; update it first")]
    Format(u64),
    /// It answers another request.
    #[error("the feed answers another question: a cache or proxy repeats an old answer")]
    Replayed,
    /// An id that is empty or too long.
    #[error("the feed has an empty or overlong id")]
    Id,
    /// A replica that is at an earlier position than before.
    #[error("the feed goes back: replica {replica} was at {was} and is at {is}")]
    RolledBack {
        /// Its name.
        replica: String,
        /// The last known position.
        was: u64,
        /// The position in this answer.
        is: u64,
    },
    /// A page of a list whose first page was not read.
    #[error("the feed continues a list that did not begin")]
    OutOfStep,
    /// More than a follower keeps.
    #[error("the feed has more than {0} revocations")]
    Many(usize),
    /// The content in force was not sent, and the follower does not have it.
    #[error("the feed names a content that it does not contain")]
    NoContent,
    /// A content that cannot be put in force.
    #[error("what the feed contains cannot be in force: {0}")]
    Content(#[from] ContentFault),
}

/// Why a content cannot be put in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// A key that is refused.
    #[error("key {0:?} {1}")]
    Key(String, #[source] KeyFault),
    /// A member that no public key has.
    #[error("key {0:?} has a member {1:?}, which no public key has")]
    Member(String, String),
    /// Keys that contradict each other.
    #[error(transparent)]
    Keyring(#[from] KeyringFault),
    /// No key.
    #[error("it has no key")]
    NoKey,
    /// Only HS256 secrets, none of which is known here.
    #[error(
        "all of its keys are HS256 secrets, which the feed never contains; name a file with the secret in \"secret_files\", or let Doorward sign with ES256 (doorward keys generate)"
    )]
    OnlySecrets,
    /// A rule that is refused.
    #[error("rule {0}: {1}")]
    Rule(usize, String),
    /// Rules that contradict each other.
    #[error("{0}")]
    Conflict(#[source] Conflict),
    /// More of something than a content can have.
    #[error("it has more than {1} {0}")]
    Many(&'static str, usize),
    /// A value that the setting cannot have.
    #[error("{0} cannot be {1:?}")]
    Value(&'static str, String),
    /// Wrong names of identity headers.
    #[error("identity_headers: {0}")]
    Names(#[from] NamesFault),
    /// More sets of names than a follower keeps.
    #[error("the names of identity headers change too often; restart to take them")]
    NamesChange,
    /// A wrong network of gateways.
    #[error("trusted_proxies: {0}")]
    Network(#[from] NetworkFault),
    /// A wrong role.
    #[error(transparent)]
    Roles(#[from] RolesFault),
    /// A wrong entry of another issuer.
    #[error("issuer {0:?} {1}")]
    Issuer(String, &'static str),
    /// Keys of another issuer that cannot be read.
    #[error("the document of issuer {0:?} {1}")]
    Document(String, #[source] DocumentFault),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryFault {
    /// An unknown parameter.
    #[error("a parameter is none of: format, since, have, ask")]
    Unknown,
    /// A repeated parameter.
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

/// The longest text from outside in a fault, in characters.
const LONGEST_TEXT: usize = 200;

/// A text for a log, without control characters and cut to a length.
pub(super) fn short(text: &str) -> String {
    one_line(text, LONGEST_TEXT)
}

/// A text from outside as a part of one line of a log: blanks in place of control characters, and at most this many characters.
#[must_use]
pub fn one_line(text: &str, longest: usize) -> String {
    let visible = text.chars().map(|c| match c.is_control() {
        true => ' ',
        false => c,
    });
    let mut line: String = visible.clone().take(longest).collect();
    if visible.count() > longest {
        line.push('\u{2026}');
    }
    line
}
