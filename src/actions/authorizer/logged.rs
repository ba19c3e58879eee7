//! Counting and logging a decision: once each, wherever it was made.

use std::time::Instant;

use tracing::Level;
use uuid::Uuid;

use crate::{
    actions::run::Concluded,
    domain::decision::{Decision, Denial, Reason},
    observe::{
        audit, causes,
        metrics::{CountedDecision, DecisionCounts, Work},
        request_log::{Trace, new_request_id, shown},
        spans::Span,
    },
};

/// A request that is being decided.
pub(super) struct Started {
    pub(super) started: Instant,
    pub(super) span: Span,
}

/// How a decision is counted.
pub(super) struct Counts<'a> {
    pub(super) decisions: &'a DecisionCounts,
    /// The number of the rule that decided.
    pub(super) rule: Option<usize>,
    pub(super) work: Work,
}

impl<'a> Counts<'a> {
    pub(super) fn checked(decisions: &'a DecisionCounts, rule: Option<usize>) -> Self {
        Self {
            decisions,
            rule,
            work: Work::Check,
        }
    }
}

/// Counts a decision, and writes it to log, audit trail and span.
pub(super) fn logged(
    concluded: Concluded,
    rule: Option<&str>,
    trace: Trace<'_>,
    begun: Started,
    counts: Counts<'_>,
) -> Decision {
    let Concluded {
        decision, cause, ..
    } = concluded;
    let Started { started, span } = begun;
    let (verdict, reason, subject) = (decision.verdict(), decision.reason(), decision.subject());
    let is_told = match &decision {
        Decision::Allow(_) => tracing::enabled!(Level::DEBUG) || span.is_some(),
        Decision::Issue(_) | Decision::Done(_) | Decision::Deny(_) => true,
    };
    let new;
    let trace = match trace.request_id {
        "" if is_told => {
            new = new_request_id();
            Trace {
                request_id: &new,
                ..trace
            }
        }
        _ => trace,
    };
    counts.decisions.count(CountedDecision {
        door: trace.door,
        verdict,
        reason,
        rule: counts.rule,
        work: counts.work,
        time: started.elapsed(),
    });
    let id = match &decision {
        Decision::Allow(_) => None,
        Decision::Issue(_) | Decision::Done(_) | Decision::Deny(_) => Some(Uuid::now_v7()),
    };
    macro_rules! write {
        ($level:expr) => {
            tracing::event!(
                $level,
                door = trace.door.name(),
                client = trace.client.ok().map(tracing::field::display),
                method = %shown(trace.line.method),
                host = %shown(trace.line.host),
                path = %shown(trace.line.target),
                rule,
                reason = reason.name(),
                sub = subject,
                key = decision.key().map(tracing::field::display),
                request_id = trace.request_id,
                decision = id.map(tracing::field::display),
                micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
                cause = cause.as_ref().map(|cause| tracing::field::display(causes(cause))),
                "{verdict}"
            )
        };
    }
    match &decision {
        Decision::Allow(_) => write!(Level::DEBUG),
        Decision::Deny(denial) if matches!(denial.plain(), Denial::Unavailable(_)) => {
            write!(Level::WARN);
        }
        Decision::Deny(_) | Decision::Issue(_) | Decision::Done(_) if cause.is_some() => {
            write!(Level::WARN);
        }
        Decision::Deny(_) | Decision::Issue(_) | Decision::Done(_) => write!(Level::INFO),
    }
    // Looking at a page changes nothing.
    if let Some(id) = id
        && !matches!(reason, Reason::Page | Reason::RenewalDue)
    {
        audit::decided(verdict, reason, (subject, decision.key()), &trace, id);
    }
    span.end(&decision, rule, &trace);
    decision
}
