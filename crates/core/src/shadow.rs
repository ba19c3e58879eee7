//! How the next rules would decide a request that the rules in force decide.
//!
//! Must not know: what is counted or logged.

use std::mem::discriminant;

use super::{
    decision::{Decision, Reason},
    judge::{Judge, Judged, Step},
    policy::{Access, Demand, Policy, Rule},
    request::Request,
    token::UnixTime,
};

/// What the next rules would do with a request instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// They would let it pass.
    WouldPass,
    /// They would deny it.
    WouldBeDenied,
    /// Another endpoint of Doorward would answer it, or an endpoint instead of the service.
    WouldBeAnswered,
}

impl Direction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WouldPass, Self::WouldBeDenied, Self::WouldBeAnswered];

    /// The word in log, metrics and metadata.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WouldPass => "would-pass",
            Self::WouldBeDenied => "would-be-denied",
            Self::WouldBeAnswered => "would-be-answered",
        }
    }

    fn of(step: &Step) -> Self {
        match step {
            Step::Done(Decision::Allow(_)) => Self::WouldPass,
            Step::Done(Decision::Deny(_)) => Self::WouldBeDenied,
            // Only the module inside Envoy defers, and Doorward answers then.
            Step::Done(Decision::Issue(_) | Decision::Done(_)) | Step::Act(_) | Step::Defer => {
                Self::WouldBeAnswered
            }
        }
    }
}

/// A request with another verdict by the next rules.
#[derive(Clone, Copy, Debug)]
pub struct Difference<'n> {
    /// What they would do.
    pub direction: Direction,
    /// The next rule that would decide, if there is one.
    pub rule: Option<&'n Rule>,
    /// Why; `None` for an endpoint, whose answer depends on more than rules.
    pub reason: Option<Reason>,
}

impl Judge {
    /// Compares what was judged with the verdict of the next rules. Costs one look-up of a rule, and reads the credential
    /// again only if the two rules demand something else.
    #[must_use]
    pub fn difference<'n>(
        &self,
        next: &'n Policy,
        judged: &Judged<'_>,
        request: &Request<'_>,
        now: UnixTime,
    ) -> Option<Difference<'n>> {
        let Judged { rule, step } = match request.preflight {
            Some(_) => self.judge_by(next, request, now),
            None => {
                let access = next.access(request.method, request.host, &request.path);
                if demand_the_same(judged.rule, access) {
                    return None;
                }
                self.judge_access(access, request, now)
            }
        };
        let (before, after) = (Direction::of(&judged.step), Direction::of(&step));
        let same_action = match (&judged.step, &step) {
            (Step::Act(before), Step::Act(after)) => discriminant(before) == discriminant(after),
            (Step::Act(_) | Step::Done(_) | Step::Defer, _) => true,
        };
        if before == after && same_action {
            return None;
        }
        Some(Difference {
            direction: after,
            rule,
            reason: match &step {
                Step::Done(decision) => Some(decision.reason()),
                Step::Act(_) | Step::Defer => None,
            },
        })
    }
}

/// Whether both rules demand the same, so that the credential need not be read again. Never for an endpoint: its rule also
/// denies methods that the endpoint does not accept.
fn demand_the_same(rule: Option<&Rule>, next: Access<'_>) -> bool {
    match (rule, next) {
        (Some(rule), Access::Rule(next)) => match rule.demand() {
            Demand::Endpoint(_) => false,
            Demand::Public | Demand::SignedIn | Demand::Role(_) | Demand::Nobody => {
                rule.demands_as(next)
            }
        },
        (
            _,
            Access::Rule(_)
            | Access::EndpointMethod(_)
            | Access::NoRule
            | Access::TwoReadings(_)
            | Access::NoHost
            | Access::MethodCase,
        ) => false,
    }
}

#[cfg(test)]
mod tests;
