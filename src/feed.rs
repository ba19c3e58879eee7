//! Answers followers of the feed: with what is in force, which is rendered once, and with revocations from memory.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use doorward_core::{
    assertion::Assertions, policy::Endpoint, revocation::Revocations, trust::Peer,
};
use doorward_rules::feed::{Beside, Content, Kind, Query, QueryFault, Rendered, Server};

use crate::{
    clock::unix_time,
    live::Rules,
    observe::metrics::{FeedResult, Metrics},
};

/// Answers followers.
pub(crate) struct Feed {
    server: Server,
    endpoints: Arc<[Endpoint]>,
    metadata: bool,
    written: ArcSwapOption<Written>,
    metrics: Metrics,
    logged: Logged,
}

/// When each kind of line was last logged, in seconds since 1970.
#[derive(Default)]
struct Logged {
    malformed: AtomicU64,
    refused: AtomicU64,
    whole: AtomicU64,
}

/// The content of some rules in the form in which it is sent.
struct Written {
    of: Weak<Rules>,
    /// How often the keys of issuers had changed by then.
    exchanges: u64,
    rendered: Rendered,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The request is malformed.
    Query(QueryFault),
    /// The content cannot be written, or there is no journal: a fault of the program.
    Internal,
}

/// The pause between two lines of one kind, in seconds.
const PAUSE: u64 = 60;

impl Feed {
    /// Answers from these revocations. They must have a journal.
    #[must_use]
    pub(crate) fn new(
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
            logged: Logged::default(),
        }
    }

    /// Answers the request of a gateway, with these rules in force.
    ///
    /// # Errors
    ///
    /// The request is malformed, or the program has a fault.
    pub(crate) fn answer(
        &self,
        rules: &Arc<Rules>,
        query: &str,
        peer: Peer,
    ) -> Result<Vec<u8>, NoAnswer> {
        let query = Query::parse(query).map_err(|fault| {
            self.metrics.feed(FeedResult::Malformed);
            if is_due(&self.logged.malformed) {
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
        if answered.kind == Kind::Whole && is_due(&self.logged.whole) {
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
        if is_due(&self.logged.refused) {
            tracing::warn!(
                peer = %Shown(peer),
                "the feed was refused to a peer that is not a gateway; if it is one, add its network to trusted_proxies"
            );
        }
    }

    /// The content of these rules. It is rendered again when they, or the keys of issuers, have changed.
    fn written(&self, rules: &Arc<Rules>) -> Option<Arc<Written>> {
        let issuers = rules.judge.verifier.issuers();
        // Read before the keys, so that a change in between is rendered at the next request.
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
                assertion_audience: rules.assertions.as_ref().map(Assertions::audience),
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
}

/// Whether a kind of line may be logged again, which is noted.
fn is_due(last: &AtomicU64) -> bool {
    let now = unix_time().0;
    let before = last.load(Ordering::Relaxed);
    now.abs_diff(before) >= PAUSE
        && (last.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)).is_ok()
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
