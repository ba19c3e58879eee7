//! Denials of requests that are not judged.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    Authorizer, Decided,
    logged::{Counts, logged},
    probed,
};
use crate::{
    clock::unix_time,
    domain::{
        decision::{Decision, Denial, Unavailable, Verdict},
        probe::Answered,
        request::RequestFault,
    },
    live::Rules,
    observe::{
        metrics::{CountedDecision, Work},
        request_log::{Door, Trace},
    },
};

/// Why a request is denied without being judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    Untrusted,
    Overloaded,
}

impl Authorizer {
    /// Denies a request that a door could not read.
    #[must_use]
    pub(crate) fn refuse(
        &self,
        rules: &Rules,
        fault: RequestFault,
        probe: Option<&[u8]>,
        trace: Trace<'_>,
    ) -> Decided<'static> {
        let denial = Denial::Malformed(fault);
        let answered = || Answered {
            decision: Verdict::Deny.name().to_owned(),
            reason: denial.reason().name().to_owned(),
            rule: None,
        };
        let probed = probed(rules, probe, answered);
        self.deny(probed.unwrap_or(denial), trace)
    }

    /// Denies a request that a door does not accept.
    #[must_use]
    pub(crate) fn deny(&self, denial: Denial, trace: Trace<'_>) -> Decided<'static> {
        let denied = Decision::Deny(denial).into();
        let rules = self.live().now();
        let counts = Counts::checked(&rules.counts, None);
        Decided {
            decision: logged(denied, None, trace, self.begin(&trace), counts),
            rule: None,
            otherwise: None,
        }
    }

    /// Denies a request that is not judged. Every such denial is counted, but each kind is logged at most once a
    /// second, because there can be any number of them.
    pub(crate) fn turn_away(&self, kind: TurnedAway, trace: Trace<'_>) -> Decision {
        static LAST: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
        let [untrusted, overloaded] = &LAST;
        let (denial, last) = match kind {
            TurnedAway::Untrusted => (Denial::UntrustedPeer, untrusted),
            TurnedAway::Overloaded => (Denial::Unavailable(Unavailable::Overloaded), overloaded),
        };
        let now = unix_time().0;
        if last.swap(now, Ordering::Relaxed) != now {
            return self.deny(denial, trace).decision;
        }
        let decision = Decision::Deny(denial);
        self.count(&decision, trace.door);
        decision
    }

    /// Denies a request whose decision panicked. The log or the audit trail may cause the panic, so the denial does not
    /// use them.
    pub(crate) fn deny_after_panic(&self, trace: Trace<'_>) -> Decided<'static> {
        let denial = Denial::Unavailable(Unavailable::Internal);
        let logged = AssertUnwindSafe(|| self.deny(denial.clone(), trace));
        catch_unwind(logged).unwrap_or_else(|_| {
            let decision = Decision::Deny(denial);
            self.count(&decision, trace.door);
            Decided {
                decision,
                rule: None,
                otherwise: None,
            }
        })
    }

    /// Counts a decision that is not logged.
    fn count(&self, decision: &Decision, door: Door) {
        self.live().now().counts.count(CountedDecision {
            door,
            verdict: decision.verdict(),
            reason: decision.reason(),
            rule: None,
            work: Work::Check,
            time: Duration::ZERO,
        });
    }
}
