//! The feed: what a judge outside Doorward must know. Doorward writes it, and a follower reads it.
//!
//! Doorward answers `GET /feed` from memory ([`Server`]); a follower polls and keeps what it has learnt ([`Known`]). Neither
//! uses a clock or a socket. The feed never contains an HS256 secret or a private half.
//!
//! Revocations and generations are never taken back. So a follower may receive them from any replica, in any order, and
//! twice. A cursor contains a position in the journal of each replica that has answered; no clocks are compared.

mod answer;
mod content;
mod contents;
mod cursor;
mod fault;
mod in_force;
mod known;
mod names;
mod query;
mod server;
#[cfg(test)]
mod tests;

pub use self::{
    content::{
        Allow, Beside, Content, IssuerEntry, KeyEntry, MachineKeysEntry, Rendered, RuleEntry,
        Settings, TokenEntry,
    },
    fault::{ContentFault, FeedFault, QueryFault, one_line},
    in_force::InForce,
    known::{Instead, Known, Options, Taken},
    query::Query,
    server::{Answered, Kind, Server},
};

/// The path of the feed on the HTTP port.
pub const PATH: &str = "/feed";

/// The format that is written and read here. A new member needs a new format, and so does a new meaning of a member or of a
/// rule with the same text: a follower must not judge by a part of what is in force.
pub const FORMAT: u64 = 1;

/// The longest answer that is read, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;

/// The most changes in one answer.
const MOST_CHANGES: usize = 4_000;

/// The most replicas whose positions a cursor or a follower keeps.
const MOST_REPLICAS: usize = 16;

/// The most contents that a follower keeps and names in a request.
const MOST_CONTENTS: usize = 4;
