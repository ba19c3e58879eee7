//! One case: asked of the judge, and compared with what is expected.

use std::collections::BTreeMap;

use anyhow::Context as _;
use doorward_rules::cases::{Case, Expected, Who};

use crate::{
    admin::{
        policy::trial::{Asked, Shows, Trial, Tried, explain},
        username,
    },
    config::Settings,
    domain::{
        account::{self, Identity},
        decision::{Decision, Reason},
        policy::{Access, Demand, Endpoint, Policy, Rule},
        request::RequestLine,
    },
};

/// Roles by user name.
pub(super) type Roles = BTreeMap<String, account::Roles>;

/// Who may send the requests of a file.
pub(super) struct Callers {
    pub(super) users: Roles,
    /// Keys for machines, by name.
    pub(super) keys: BTreeMap<String, String>,
}

/// What all cases gave.
pub(super) struct Results {
    pub(super) cases: Vec<Ran>,
    pub(super) rules: Vec<Shown>,
    /// Whether every rule must be shown.
    pub(super) strict: bool,
    policy: Policy,
}

/// One case that ran.
pub(super) struct Ran {
    pub(super) file: String,
    pub(super) case: Case,
    pub(super) was: String,
    /// The rule that decided, as it is written.
    pub(super) rule: Option<String>,
    pub(super) why: String,
    /// What is wrong.
    pub(super) faults: Vec<String>,
}

/// What cases show of one rule.
pub(super) struct Shown {
    pub(super) rule: String,
    pub(super) reached: bool,
    /// Whether a case shows whom it keeps out; also for a rule that keeps out nobody.
    pub(super) denied: bool,
}

impl Shown {
    /// What no case shows.
    pub(super) fn gap(&self) -> Option<&'static str> {
        match (self.reached, self.denied) {
            (false, _) => Some("no case reaches it"),
            (true, false) => Some("no case shows whom it keeps out"),
            (true, true) => None,
        }
    }
}

impl Results {
    pub(super) fn new(policy: Policy, strict: bool) -> Self {
        let rules = policy.rules().iter().map(|rule| Shown {
            rule: rule.to_string(),
            reached: false,
            denied: matches!(rule.demand(), Demand::Public),
        });
        Self {
            cases: Vec::new(),
            rules: rules.collect(),
            strict,
            policy,
        }
    }

    pub(super) fn passed(&self) -> bool {
        let shown = || self.rules.iter().all(|rule| rule.gap().is_none());
        self.cases.iter().all(|ran| ran.faults.is_empty()) && (!self.strict || shown())
    }

    pub(super) fn run(
        &mut self,
        trial: &Trial,
        settings: &Settings,
        file: &str,
        case: &Case,
        callers: &Callers,
    ) -> anyhow::Result<()> {
        let key = |name: &String| callers.keys.get(name).context("a key that was not made");
        let identity = |roles: &account::Roles| {
            anyhow::Ok(Identity {
                subject: "-".into(),
                username: username("somebody")?,
                roles: roles.clone(),
            })
        };
        let identity = match &case.who {
            Who::SignedIn(roles) => Some(identity(roles)?),
            Who::User(name) => Some(identity(
                callers.users.get(name).context("a user without roles")?,
            )?),
            Who::Anonymous | Who::Key(_) | Who::KeyAsPassword(_) => None,
        };
        let shows = match &case.who {
            Who::Key(name) => Shows::Key(key(name)?),
            Who::KeyAsPassword(name) => Shows::KeyAsPassword(key(name)?),
            Who::Anonymous | Who::SignedIn(_) | Who::User(_) => {
                identity.as_ref().map_or(Shows::Nothing, Shows::TokenOf)
            }
        };
        let tried = trial.ask(&Asked {
            line: RequestLine {
                method: case.method.as_bytes(),
                host: case.host.as_bytes(),
                target: case.target.as_bytes(),
            },
            shows,
        })?;
        let was = Was::of(&tried, settings);
        self.note(&tried);
        let (rule, why) = explain(&tried);
        let mut faults = Vec::new();
        if !was.is(&case.expected) {
            faults.push(format!("expected {}, was {was}", case.expected));
        }
        let decided = tried.rule().map(|rule| rule.name().to_string());
        if let Some(expected) = &case.rule
            && decided.as_ref() != Some(expected)
        {
            let decided = decided.unwrap_or_else(|| "none".into());
            faults.push(format!(
                "expected the rule {expected:?} to decide, was {decided:?}"
            ));
        }
        self.cases.push(Ran {
            file: file.to_owned(),
            case: case.clone(),
            was: was.to_string(),
            rule,
            why,
            faults,
        });
        Ok(())
    }

    /// Notes what a case shows of the rule that decided.
    fn note(&mut self, tried: &Tried<'_>) {
        let rule = tried.rule();
        let number = rule.and_then(|rule| self.policy.number_of(rule));
        let shown = number.and_then(|number| self.rules.get_mut(number));
        let (Some(rule), Some(shown)) = (rule, shown) else {
            return;
        };
        shown.reached = true;
        if let Decision::Deny(denial) = &tried.decision {
            // A request without a token does not show that a rule wants a role.
            shown.denied |= match rule.demand() {
                Demand::Role(_) => denial.reason() == Reason::MissingRole,
                Demand::Public | Demand::Endpoint(_) | Demand::SignedIn | Demand::Nobody => true,
            };
        }
    }
}

/// What became of a request.
enum Was {
    Passed,
    /// Answered by Doorward, because it has what the endpoint needs.
    Answered(Endpoint),
    Denied {
        status: u16,
        reason: Reason,
        /// The endpoint that it reached.
        endpoint: Option<Endpoint>,
    },
}

impl Was {
    fn of(tried: &Tried<'_>, settings: &Settings) -> Self {
        let endpoint = match tried.read {
            Ok((_, Access::Rule(rule))) => match rule.demand() {
                Demand::Endpoint(endpoint) => Some(*endpoint),
                Demand::Public | Demand::SignedIn | Demand::Role(_) | Demand::Nobody => None,
            },
            Ok(_) | Err(_) => None,
        };
        match (&tried.decision, endpoint) {
            (Decision::Deny(denial), endpoint) => Self::Denied {
                status: denial.answer(&settings.login.realm).status,
                reason: denial.reason(),
                endpoint,
            },
            (_, Some(endpoint)) => Self::Answered(endpoint),
            (Decision::Allow(_) | Decision::Issue(_) | Decision::Done(_), None) => Self::Passed,
        }
    }

    fn is(&self, expected: &Expected) -> bool {
        match (self, expected) {
            (Self::Passed, Expected::Pass) | (Self::Denied { .. }, Expected::Deny) => true,
            (Self::Answered(own), Expected::Endpoint(wanted)) => own == wanted,
            (Self::Denied { endpoint, .. }, Expected::Endpoint(wanted)) => {
                *endpoint == Some(*wanted)
            }
            (Self::Denied { status, reason, .. }, Expected::Denied(wanted, why)) => {
                status == wanted && why.is_none_or(|why| why == *reason)
            }
            (Self::Passed, _) | (Self::Answered(_), _) | (Self::Denied { .. }, Expected::Pass) => {
                false
            }
        }
    }
}

impl std::fmt::Display for Was {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed => f.write_str("pass"),
            Self::Answered(endpoint) => f.write_str(endpoint.name()),
            Self::Denied {
                status,
                reason,
                endpoint: None,
            } => write!(f, "{status} {reason}"),
            Self::Denied {
                status,
                reason,
                endpoint: Some(endpoint),
            } => write!(f, "{status} {reason} of {}", endpoint.name()),
        }
    }
}

impl Tried<'_> {
    /// The rule that decided.
    fn rule(&self) -> Option<&Rule> {
        match self.read {
            Ok((_, Access::Rule(rule) | Access::EndpointMethod(rule))) => Some(rule),
            Ok((
                _,
                Access::NoRule | Access::TwoReadings(_) | Access::NoHost | Access::MethodCase,
            ))
            | Err(_) => None,
        }
    }
}
