//! What followers of the feed are told: what is in force, written once, and revocations from memory.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use doorward_core::{policy::Endpoint, revocation::Revocations, trust::Peer};
use doorward_rules::feed::{Beside, Content, Kind, Query, QueryFault, Rendered, Server};

use crate::{
    clock::unix_time,
    live::Rules,
    observe::metrics::{FeedResult, Metrics},
};

/// Answers followers.
pub struct Feed {
    server: Server,
    endpoints: Arc<[Endpoint]>,
    metadata: bool,
    written: ArcSwapOption<Written>,
    metrics: Metrics,
    /// When a peer was last said to be refused, to read everything, or to ask malformed questions.
    logged: [AtomicU64; 3],
}

/// The content of some rules, as it is sent.
struct Written {
    of: Weak<Rules>,
    /// How often issuers had other keys by then.
    exchanges: u64,
    rendered: Rendered,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The question is malformed.
    Query(QueryFault),
    /// The content cannot be written, or nobody keeps a journal: a fault of this program.
    Internal,
}

/// How often one kind of line is logged, in seconds.
const PAUSE: u64 = 60;

impl Feed {
    /// Answers from these revocations, which have a journal.
    #[must_use]
    pub fn new(
        revoked: Arc<Revocations>,
        endpoints: &[Endpoint],
        metadata: bool,
        metrics: Metrics,
    ) -> Self {
        Self {
            server: Server::new(revoked),
            endpoints: endpoints.into(),
            metadata,
            written: ArcSwapOption::empty(),
            metrics,
            logged: Default::default(),
        }
    }

    /// Answers the question of a gateway, where these rules are in force.
    ///
    /// # Errors
    ///
    /// The question is malformed.
    pub(crate) fn answer(
        &self,
        rules: &Arc<Rules>,
        query: &str,
        peer: Peer,
    ) -> Result<Vec<u8>, NoAnswer> {
        let query = Query::parse(query).map_err(|fault| {
            self.metrics.feed(FeedResult::Malformed);
            if self.is_time(1) {
                tracing::warn!(
                    peer = %Shown(peer),
                    cause = %fault,
                    "a question for the feed is malformed; is the follower of another version?"
                );
            }
            NoAnswer::Query(fault)
        })?;
        let written = self.written(rules).ok_or(NoAnswer::Internal)?;
        let answered = self.server.answer(&query, &written.rendered, unix_time());
        let answered = answered.ok_or(NoAnswer::Internal)?;
        let result = match answered.kind {
            Kind::Empty => FeedResult::Empty,
            Kind::Changes => FeedResult::Changes,
            Kind::Whole => FeedResult::Whole,
        };
        self.metrics.feed(result);
        if answered.kind == Kind::Whole && self.is_time(0) {
            tracing::info!(
                peer = %Shown(peer),
                bytes = answered.body.len(),
                "a follower of the feed reads everything"
            );
        } else {
            tracing::debug!(
                peer = %Shown(peer),
                bytes = answered.body.len(),
                kind = ?answered.kind,
                "the feed was read"
            );
        }
        Ok(answered.body)
    }

    /// Notes that a peer was refused.
    pub(crate) fn refused(&self, peer: Peer) {
        self.metrics.feed(FeedResult::Refused);
        if self.is_time(2) {
            tracing::warn!(
                peer = %Shown(peer),
                "the feed was refused to a peer that is not a gateway; if it is one, add its network to trusted_proxies"
            );
        }
    }

    /// The content of these rules; written again when they, or the keys of issuers, are others.
    fn written(&self, rules: &Arc<Rules>) -> Option<Arc<Written>> {
        let issuers = rules.judge.verifier.issuers();
        // Before the keys are read: a change in between is written again.
        let exchanges = issuers.iter().map(|issuer| issuer.exchanges()).sum();
        if let Some(written) = &*self.written.load()
            && Weak::as_ptr(&written.of) == Arc::as_ptr(rules)
            && written.exchanges == exchanges
        {
            return Some(Arc::clone(written));
        }
        let content = Content::of(
            &rules.judge,
            Beside {
                endpoints: &self.endpoints,
                realm: &rules.realm,
                identity: rules.identity,
                tolerance: rules.tolerance,
                trusted: &rules.trusted,
                client_address: rules.client_address,
                reply: rules.desk.reply,
                metadata: self.metadata,
            },
        );
        let written = Arc::new(Written {
            of: Arc::downgrade(rules),
            exchanges,
            rendered: content.render()?,
        });
        self.written.store(Some(Arc::clone(&written)));
        Some(written)
    }

    /// Whether one kind of line was not logged for a while.
    fn is_time(&self, kind: usize) -> bool {
        let Some(last) = self.logged.get(kind) else {
            return false;
        };
        let now = unix_time().0;
        let before = last.load(Ordering::Relaxed);
        now.abs_diff(before) >= PAUSE
            && (last.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)).is_ok()
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Feed({:?})", self.server)
    }
}

/// A peer in the log.
struct Shown(Peer);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.address() {
            Some(address) => IpAddr::fmt(&address, f),
            None => f.write_str("socket"),
        }
    }
}
