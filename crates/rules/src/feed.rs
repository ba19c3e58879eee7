//! The feed: what a judge outside the program must know, as Doorward tells it and as a follower takes it.
//!
//! Doorward answers `GET /feed` from memory ([`Server`]); a follower asks again and again and keeps what it has learnt
//! ([`Known`]). Both are pure: no clock, no socket. No secret of HS256 and no private half is ever part of it.
//!
//! Revocations and generations are facts that are never taken back, so a follower may hear them from any replica, in any
//! order, and twice. A cursor names a position in the journal of each replica that was heard, and compares no clocks.

mod answer;
mod content;
mod cursor;
mod fault;
mod in_force;
mod known;
mod query;
mod server;
#[cfg(test)]
mod tests;

pub use self::{
    content::{
        Allow, Beside, Content, IssuerEntry, KeyEntry, Rendered, RuleEntry, Settings, TokenEntry,
    },
    fault::{ContentFault, FeedFault, QueryFault},
    in_force::{InForce, policy},
    known::{Instead, Known, Options, Taken},
    query::Query,
    server::{Answered, Kind, Server},
};

/// The path of the feed on the HTTP port.
pub const PATH: &str = "/feed";

/// The format that is written and read here. Another format is needed for every new member, and whenever a member, or a rule
/// of the same text, comes to mean something else: a follower must not judge by half of what is in force.
pub const FORMAT: u64 = 1;

/// The bytes of the longest answer that is read.
pub const LONGEST: usize = 16 * 1024 * 1024;

/// The most changes in one answer.
const MOST_CHANGES: usize = 4_000;

/// The most replicas of which a cursor or a follower knows positions.
const MOST_REPLICAS: usize = 16;

/// The most contents that a follower keeps, to say so.
const MOST_CONTENTS: usize = 4;
