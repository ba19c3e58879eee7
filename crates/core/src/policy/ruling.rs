//! What becomes of a request for each kind of caller, if it is known what the rules say about it.

use std::{fmt, iter};

use super::{Access, Demand, Endpoint};
use crate::{
    account::{Role, Roles},
    decision::Reason,
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The service gets it.
    Pass,
    /// Doorward answers it.
    Endpoint(Endpoint),
    /// It is denied with this status, for this reason.
    Denied(u16, Reason),
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Endpoint(endpoint) => f.write_str(endpoint.name()),
            Self::Denied(status, reason) => write!(f, "{status} {reason}"),
        }
    }
}

/// Callers that two policies do not distinguish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Everybody.
    Anybody,
    /// Callers that show no valid token.
    WithoutToken,
    /// Callers with a valid token.
    Users {
        /// They have one of these roles; empty for users with any roles.
        any_of: Vec<Role>,
        /// They have none of these roles.
        none_of: Vec<Role>,
    },
}

impl Callers {
    /// Whether a caller is one of them; without roles, the caller shows no valid token.
    #[must_use]
    pub fn include(&self, caller: Option<&Roles>) -> bool {
        match (self, caller) {
            (Self::Anybody, _) | (Self::WithoutToken, None) => true,
            (Self::WithoutToken, Some(_)) | (Self::Users { .. }, None) => false,
            (Self::Users { any_of, none_of }, Some(roles)) => {
                let has = |wanted: &Role| roles.contains(wanted);
                (any_of.is_empty() || any_of.iter().any(has)) && !none_of.iter().any(has)
            }
        }
    }

    /// The roles of one of them; `None` for a caller without a token.
    #[must_use]
    pub fn example(&self) -> Option<Vec<Role>> {
        match self {
            Self::Anybody | Self::WithoutToken => None,
            Self::Users { any_of, .. } => Some(any_of.first().cloned().into_iter().collect()),
        }
    }
}

impl fmt::Display for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anybody => f.write_str("anybody"),
            Self::WithoutToken => f.write_str("without a valid token"),
            Self::Users { any_of, none_of } => {
                let list = |roles: &[Role], word: &str| {
                    let names: Vec<_> = roles.iter().map(Role::as_str).collect();
                    names.join(word)
                };
                match (any_of.is_empty(), none_of.is_empty()) {
                    (true, true) => f.write_str("any user"),
                    (false, true) => write!(f, "users with {}", list(any_of, " or ")),
                    (true, false) => write!(f, "users without {}", list(none_of, " and ")),
                    (false, false) => write!(
                        f,
                        "users with {} and without {}",
                        list(any_of, " or "),
                        list(none_of, " and ")
                    ),
                }
            }
        }
    }
}

/// What callers need to get past a rule.
#[derive(Clone, Copy)]
enum Need<'p> {
    /// Nothing helps, or nothing is needed.
    Fixed(Ruling),
    Token,
    Role(&'p Roles),
}

impl<'p> Need<'p> {
    fn of(access: Access<'p>) -> Self {
        let denied = |status, reason| Self::Fixed(Ruling::Denied(status, reason));
        match access {
            Access::Rule(rule) => match &rule.demand {
                Demand::Public => Self::Fixed(Ruling::Pass),
                Demand::Endpoint(endpoint) => Self::Fixed(Ruling::Endpoint(*endpoint)),
                Demand::SignedIn => Self::Token,
                Demand::Role(roles) => Self::Role(roles),
                Demand::Nobody => denied(403, Reason::NoRule),
            },
            Access::NoRule => denied(403, Reason::NoRule),
            Access::EndpointMethod(_) => denied(405, Reason::EndpointMethod),
            Access::TwoReadings(_) => denied(400, Reason::TwoReadings),
            Access::NoHost => denied(400, Reason::NoHost),
            Access::MethodCase => denied(400, Reason::MethodCase),
        }
    }

    fn without_token(self) -> Ruling {
        match self {
            Self::Fixed(ruling) => ruling,
            Self::Token | Self::Role(_) => Ruling::Denied(401, Reason::MissingToken),
        }
    }

    fn with_token(self, has_role: bool) -> Ruling {
        match self {
            Self::Fixed(ruling) => ruling,
            Self::Token => Ruling::Pass,
            Self::Role(_) if has_role => Ruling::Pass,
            Self::Role(_) => Ruling::Denied(403, Reason::MissingRole),
        }
    }

    fn roles(self) -> impl Iterator<Item = &'p Role> {
        let roles = match self {
            Self::Role(roles) => Some(roles),
            Self::Fixed(_) | Self::Token => None,
        };
        roles.into_iter().flat_map(Roles::iter)
    }
}

impl Access<'_> {
    /// What becomes of a request of this caller; without roles, the caller shows no valid token.
    #[must_use]
    pub fn ruling(self, caller: Option<&Roles>) -> Ruling {
        let need = Need::of(self);
        match caller {
            None => need.without_token(),
            Some(roles) => need.with_token(need.roles().any(|wanted| roles.contains(wanted))),
        }
    }
}

/// The callers for whom two answers of rules differ, with what becomes of their requests.
pub(super) fn differences(old: Access<'_>, new: Access<'_>) -> Vec<(Callers, Ruling, Ruling)> {
    let (old, new) = (Need::of(old), Need::of(new));
    let only = |own: Need<'_>, other: Need<'_>| -> Vec<Role> {
        let others: Vec<_> = other.roles().collect();
        let own = own.roles().filter(|role| !others.contains(role));
        own.cloned().collect()
    };
    let all = |need: Need<'_>| -> Vec<Role> { need.roles().cloned().collect() };
    let users = |any_of, none_of| Callers::Users { any_of, none_of };
    // Each with whether they have a role that the old and the new rule want. Of two rules with roles, users who have one
    // that each wants pass both, and users who have none pass neither.
    let kinds = match (old, new) {
        (Need::Role(_), Need::Role(_)) => {
            let mut kinds = vec![
                (users(only(old, new), all(new)), true, false),
                (users(only(new, old), all(old)), false, true),
            ];
            kinds.retain(|(kind, _, _)| kind.example().is_some_and(|roles| !roles.is_empty()));
            kinds
        }
        (Need::Role(_), _) | (_, Need::Role(_)) => {
            let wanted: Vec<_> = all(old).into_iter().chain(all(new)).collect();
            vec![
                (users(wanted.clone(), Vec::new()), true, true),
                (users(Vec::new(), wanted), false, false),
            ]
        }
        (_, _) => vec![(users(Vec::new(), Vec::new()), false, false)],
    };
    let without = (
        Callers::WithoutToken,
        old.without_token(),
        new.without_token(),
    );
    let kinds = kinds.into_iter();
    let mut differing: Vec<_> = iter::once(without)
        .chain(kinds.map(|(kind, had, has)| (kind, old.with_token(had), new.with_token(has))))
        .filter(|(_, old, new)| old != new)
        .collect();
    if let [
        (Callers::WithoutToken, before, after),
        (Callers::Users { any_of, none_of }, user_before, user_after),
    ] = &*differing
        && any_of.is_empty()
        && none_of.is_empty()
        && (before, after) == (user_before, user_after)
    {
        differing = vec![(Callers::Anybody, *before, *after)];
    }
    differing
}
