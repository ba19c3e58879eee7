//! Judges from an answer whether Doorward decided the request.

use super::{
    client::Answer,
    plan::{Check, Kind},
};
use crate::domain::{decision::Verdict, probe::Answered};

/// What came back.
pub(super) enum Seen {
    /// The signed answer of Doorward, in an answer with this status.
    Doorward(u16, Answered),
    /// An answer of something else.
    Other(Other),
    /// No answer, and why.
    Nothing(String),
}

/// An answer without Doorward's signature.
#[derive(Clone, Copy)]
pub(super) struct Other {
    pub(super) status: u16,
    /// Whether it allows the origin of a preflight.
    pub(super) allows_origin: bool,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Doorward decided the request as its rules say.
    Guarded,
    /// The gateway itself refused or answered it.
    Gateway,
    /// Doorward decided the request, but not as the rules of these settings say.
    Differs(&'static str),
    /// Something else let it pass.
    Open,
    /// Something else refused it, and nothing says that Doorward was asked.
    Unproven,
    /// Nothing answered.
    Unreachable,
}

impl Seen {
    pub(super) fn of(answer: &Answer, read: impl Fn(&str) -> Option<Answered>) -> Self {
        match answer
            .challenges
            .iter()
            .find_map(|challenge| read(challenge))
        {
            Some(answered) => Self::Doorward(answer.status, answered),
            None => Self::Other(Other {
                status: answer.status,
                allows_origin: answer.allows_origin,
            }),
        }
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Doorward(status, _) => Some(*status),
            Self::Other(other) => Some(other.status),
            Self::Nothing(_) => None,
        }
    }

    pub(super) fn decision(&self) -> Option<&str> {
        self.answered().map(|answered| &*answered.decision)
    }

    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Doorward(_, answered) => Some(&answered.reason),
            Self::Nothing(why) => Some(why),
            Self::Other(_) => None,
        }
    }

    pub(super) fn rule(&self) -> Option<&str> {
        self.answered()
            .and_then(|answered| answered.rule.as_deref())
    }

    fn answered(&self) -> Option<&Answered> {
        match self {
            Self::Doorward(_, answered) => Some(answered),
            Self::Other(_) | Self::Nothing(_) => None,
        }
    }
}

impl Finding {
    pub(super) fn is_good(self) -> bool {
        match self {
            Self::Guarded | Self::Gateway => true,
            Self::Differs(_) | Self::Open | Self::Unproven | Self::Unreachable => false,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Guarded => "guarded",
            Self::Gateway => "gateway",
            Self::Differs(_) => "differs",
            Self::Open => "open",
            Self::Unproven => "unproven",
            Self::Unreachable => "unreachable",
        }
    }

    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Guarded => "Doorward decided as its rules say",
            Self::Gateway => "the gateway refused or answered it without the service",
            Self::Differs(why) => why,
            Self::Open => {
                "it passed without Doorward: the filter is missing or disabled there, comes too late, or lets requests pass when Doorward does not answer"
            }
            Self::Unproven => {
                "something other than this Doorward refused it: Doorward may be down, have another probe.key, or not be in the way"
            }
            Self::Unreachable => "the gateway does not answer",
        }
    }
}

const OTHER_RULE: &str = "another rule decided: Doorward has other rules in force, or the gateway asks about another host or path";
const OTHER_VERDICT: &str =
    "the verdict is not that of the rule: Doorward has other rules in force";
const ALLOWED: &str =
    "Doorward would let it pass: the gateway does not ask about the request that it received";

/// Judges what came back for a check.
pub(super) fn judge(check: &Check, seen: &Seen) -> Finding {
    match seen {
        Seen::Doorward(_, answered) => answered_by_doorward(check, answered),
        Seen::Other(other) => answered_by_another(check.kind, *other),
        Seen::Nothing(_) => Finding::Unreachable,
    }
}

fn answered_by_doorward(check: &Check, answered: &Answered) -> Finding {
    let allows = answered.decision == Verdict::Allow.name();
    let is_public = (check.expected).is_some_and(|(verdict, _)| verdict == Verdict::Allow);
    match check.kind {
        Kind::Anonymous | Kind::ForgedIdentity => {
            // The endpoints of the HTTP port have no rules.
            let is_endpoint = answered.rule.is_none() && answered.decision == "act";
            if answered.rule.as_deref() != Some(&*check.rule) && !is_endpoint {
                return Finding::Differs(OTHER_RULE);
            }
            match check.expected {
                Some((verdict, reason))
                    if answered.decision != verdict.name() || answered.reason != reason.name() =>
                {
                    Finding::Differs(OTHER_VERDICT)
                }
                Some(_) | None => Finding::Guarded,
            }
        }
        // Gateways may normalise paths and headers before they ask; what Doorward lets pass must be as public as the rule.
        Kind::Alias
        | Kind::DotSegment
        | Kind::EscapedLetter
        | Kind::Parameter
        | Kind::DoubledAuthorization => match allows && !is_public {
            true => Finding::Differs(ALLOWED),
            false => Finding::Guarded,
        },
        Kind::Preflight => Finding::Guarded,
    }
}

fn answered_by_another(
    kind: Kind,
    Other {
        status,
        allows_origin,
    }: Other,
) -> Finding {
    let is_of_gateway = match kind {
        Kind::Alias
        | Kind::DotSegment
        | Kind::EscapedLetter
        | Kind::Parameter
        | Kind::DoubledAuthorization => matches!(status, 301 | 302 | 307 | 308 | 400 | 431),
        Kind::Preflight => allows_origin && matches!(status, 200 | 204),
        Kind::Anonymous | Kind::ForgedIdentity => false,
    };
    match status {
        _ if is_of_gateway => Finding::Gateway,
        400..=599 => Finding::Unproven,
        _ => Finding::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::Reason;

    fn check(kind: Kind, expected: (Verdict, Reason)) -> Check {
        Check {
            rule: "/admin/*".into(),
            kind,
            method: "GET".into(),
            host: "gateway.example".into(),
            target: "/admin".into(),
            headers: Vec::new(),
            expected: Some(expected),
        }
    }

    fn doorward(decision: &str, reason: &str, rule: Option<&str>) -> Seen {
        Seen::Doorward(
            401,
            Answered {
                decision: decision.into(),
                reason: reason.into(),
                rule: rule.map(str::to_owned),
            },
        )
    }

    const CLOSED: (Verdict, Reason) = (Verdict::Deny, Reason::MissingToken);
    const PUBLIC: (Verdict, Reason) = (Verdict::Allow, Reason::Anonymous);

    #[test]
    fn doorwards_answer_must_be_that_of_the_rule() {
        use Kind::*;
        let (own, other) = (Some("/admin/*"), Some("/*"));
        let allow = |reason, rule| doorward("allow", reason, rule);
        let deny = |reason, rule| doorward("deny", reason, rule);
        for (kind, expected, seen, finding) in [
            (Anonymous, CLOSED, deny("missing-token", own), "guarded"),
            (Anonymous, CLOSED, deny("missing-token", other), "differs"),
            (Anonymous, CLOSED, allow("anonymous", own), "differs"),
            (Anonymous, CLOSED, deny("no-rule", None), "differs"),
            (ForgedIdentity, CLOSED, allow("token", own), "differs"),
            (Anonymous, PUBLIC, allow("anonymous", own), "guarded"),
            (Alias, CLOSED, deny("aliased-header", None), "guarded"),
            (Alias, CLOSED, deny("missing-token", own), "guarded"),
            (DotSegment, CLOSED, allow("anonymous", other), "differs"),
            (DotSegment, PUBLIC, allow("anonymous", own), "guarded"),
            (
                DoubledAuthorization,
                CLOSED,
                allow("anonymous", None),
                "differs",
            ),
        ] {
            assert_eq!(
                judge(&check(kind, expected), &seen).name(),
                finding,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn an_answer_without_a_signature_is_never_guarded() {
        let other = |status, allows_origin| {
            Seen::Other(Other {
                status,
                allows_origin,
            })
        };
        for (kind, seen, finding) in [
            (Kind::Anonymous, other(200, false), "open"),
            (Kind::Anonymous, other(302, false), "open"),
            (Kind::Anonymous, other(401, false), "unproven"),
            (Kind::Anonymous, other(404, false), "unproven"),
            (Kind::Anonymous, other(503, false), "unproven"),
            (Kind::DotSegment, other(400, false), "gateway"),
            (Kind::DotSegment, other(200, false), "open"),
            (Kind::DotSegment, other(404, false), "unproven"),
            (Kind::Preflight, other(200, false), "open"),
            (Kind::Preflight, other(204, true), "gateway"),
            (Kind::Preflight, other(403, true), "unproven"),
            (Kind::Alias, Seen::Nothing("reset".into()), "unreachable"),
        ] {
            assert_eq!(
                judge(&check(kind, CLOSED), &seen).name(),
                finding,
                "{kind:?}"
            );
        }
    }
}
