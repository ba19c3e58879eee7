//! Decides whether other rules change the verdict on a logged request, for every caller who may have sent it.

use super::lines::{End, Who};
use crate::domain::{
    account::{Role, Roles},
    policy::{Access, Demand, Policy, Rule},
    shadow::Direction,
};

/// How the verdict changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The verdict is the same for everybody who may have sent it.
    Same,
    /// The verdict changes for everybody who may have sent it.
    Certain(Direction),
    /// The verdict changes for some of those who may have sent it.
    Possible(Direction),
}

/// Callers whom rules can tell apart.
#[derive(Clone, Copy, Debug)]
enum Caller<'a> {
    Anonymous,
    /// A user with no role, with this one, or with every role.
    User(Roled<'a>),
}

#[derive(Clone, Copy, Debug)]
enum Roled<'a> {
    Nothing,
    One(&'a Role),
    Everything,
}

/// All callers that the two rules could tell apart: nobody, and users with no role, each single role, or all roles.
fn callers<'a>(rules: &[&'a Roles]) -> Vec<Caller<'a>> {
    let mut all = vec![
        Caller::Anonymous,
        Caller::User(Roled::Nothing),
        Caller::User(Roled::Everything),
    ];
    let roles = rules.iter().flat_map(|roles| roles.iter());
    all.extend(roles.map(|role| Caller::User(Roled::One(role))));
    all
}

/// The effect of exchanging rules, for a request that these rules decide.
pub(super) fn effect(before: Access<'_>, after: Access<'_>, end: End, who: Who) -> Effect {
    let roles: Vec<&Roles> = [before, after].into_iter().filter_map(roles).collect();
    let all = callers(&roles);
    let known = all.iter().copied().filter(|caller| match (who, caller) {
        (Who::Unknown, _) | (Who::Anonymous, Caller::Anonymous) => true,
        (Who::SignedIn, Caller::User(_)) => true,
        (Who::Anonymous, Caller::User(_)) | (Who::SignedIn, Caller::Anonymous) => false,
    });
    let known: Vec<_> = known.collect();
    let ended = |caller: &Caller<'_>| match (end, course(before, *caller)) {
        (End::Unknown, _) => true,
        (End::Passed, course) => course != Direction::WouldBeDenied,
        (End::Refused, course) => course == Direction::WouldBeDenied,
    };
    let likely: Vec<_> = known.iter().copied().filter(ended).collect();
    // The service itself may have refused it, or other rules were in force when the log was written.
    let likely = match likely.is_empty() {
        true => known,
        false => likely,
    };
    let mut changes = Vec::new();
    for caller in &likely {
        let now = course(after, *caller);
        let is_other_endpoint =
            now == Direction::WouldBeAnswered && endpoint(before) != endpoint(after);
        if now != course(before, *caller) || is_other_endpoint {
            changes.push(now);
        }
    }
    match changes.first() {
        None => Effect::Same,
        Some(first) if changes.len() == likely.len() && changes.iter().all(|one| one == first) => {
            Effect::Certain(*first)
        }
        Some(first) => Effect::Possible(*first),
    }
}

fn demand(access: Access<'_>) -> Option<&Demand> {
    match access {
        Access::Rule(rule) => Some(rule.demand()),
        Access::EndpointMethod(_)
        | Access::NoRule
        | Access::TwoReadings(_)
        | Access::NoHost
        | Access::MethodCase => None,
    }
}

fn roles(access: Access<'_>) -> Option<&Roles> {
    match demand(access)? {
        Demand::Role(roles) => Some(roles),
        Demand::Public | Demand::Endpoint(_) | Demand::SignedIn | Demand::Nobody => None,
    }
}

fn endpoint(access: Access<'_>) -> Option<&'static str> {
    match demand(access)? {
        Demand::Endpoint(endpoint) => Some(endpoint.name()),
        Demand::Public | Demand::SignedIn | Demand::Role(_) | Demand::Nobody => None,
    }
}

/// The verdict on a request of this caller.
fn course(access: Access<'_>, caller: Caller<'_>) -> Direction {
    let passes = match (demand(access), caller) {
        (None | Some(Demand::Nobody), _) => false,
        (Some(Demand::Endpoint(_)), _) => return Direction::WouldBeAnswered,
        (Some(Demand::Public), _) => true,
        (Some(Demand::SignedIn), Caller::User(_)) => true,
        (Some(Demand::SignedIn | Demand::Role(_)), Caller::Anonymous) => false,
        (Some(Demand::Role(wanted)), Caller::User(own)) => match own {
            Roled::Nothing => false,
            Roled::Everything => true,
            Roled::One(role) => wanted.contains(role),
        },
    };
    match passes {
        true => Direction::WouldPass,
        false => Direction::WouldBeDenied,
    }
}

/// The number of the rule that decides, or a number beyond all rules if none does.
pub(super) fn number(policy: &Policy, access: Access<'_>) -> usize {
    let rules = policy.rules().len();
    let of = |rule: &Rule| policy.number_of(rule).unwrap_or(rules);
    match access {
        Access::Rule(rule) => of(rule),
        Access::NoRule => rules,
        Access::EndpointMethod(_) => rules + 1,
        Access::TwoReadings(_) => rules + 2,
        Access::NoHost => rules + 3,
        Access::MethodCase => rules + 4,
    }
}

/// The name of the rule with this number, or why no rule decides.
pub(super) fn name(policy: &Policy, number: usize) -> &str {
    let beyond = number.checked_sub(policy.rules().len());
    match (policy.rules().get(number), beyond) {
        (Some(rule), _) => rule.name(),
        (None, Some(1)) => "(method of an endpoint)",
        (None, Some(2)) => "(two readings)",
        (None, Some(3)) => "(no host)",
        (None, Some(4)) => "(case of a method)",
        (None, _) => "(no rule)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The effect of a change of one demand.
    fn changed(before: &str, after: &str, end: End, who: Who) -> Effect {
        let rule = |allow: &str| {
            let demand = match allow.split_once(',') {
                Some((one, other)) => Demand::roles([one, other]),
                None => Demand::parse(allow),
            };
            Rule::new("/x", &[], &[], demand.unwrap()).unwrap()
        };
        let rules = [before, after].map(|allow| (allow != "none").then(|| rule(allow)));
        let access =
            |rule: &'static Option<Rule>| rule.as_ref().map_or(Access::NoRule, Access::Rule);
        let [before, after]: &'static [Option<Rule>; 2] = Box::leak(Box::new(rules));
        effect(access(before), access(after), end, who)
    }

    #[test]
    fn outcome_and_caller_in_the_log_limit_the_effect() {
        use Direction::*;
        use Effect::*;
        for (before, after, end, who, expected) in [
            ("signed-in", "signed-in", End::Passed, Who::Unknown, Same),
            (
                "signed-in",
                "public",
                End::Refused,
                Who::Unknown,
                Certain(WouldPass),
            ),
            ("signed-in", "public", End::Passed, Who::Unknown, Same),
            (
                "signed-in",
                "public",
                End::Unknown,
                Who::Unknown,
                Possible(WouldPass),
            ),
            (
                "signed-in",
                "nobody",
                End::Passed,
                Who::Unknown,
                Certain(WouldBeDenied),
            ),
            (
                "signed-in",
                "none",
                End::Passed,
                Who::Unknown,
                Certain(WouldBeDenied),
            ),
            ("signed-in", "none", End::Refused, Who::Unknown, Same),
            // The log does not say which roles they had.
            (
                "signed-in",
                "role:admin",
                End::Passed,
                Who::Unknown,
                Possible(WouldBeDenied),
            ),
            (
                "public",
                "signed-in",
                End::Passed,
                Who::Unknown,
                Possible(WouldBeDenied),
            ),
            (
                "public",
                "signed-in",
                End::Passed,
                Who::Anonymous,
                Certain(WouldBeDenied),
            ),
            ("public", "signed-in", End::Passed, Who::SignedIn, Same),
            // Whoever passed had the role.
            ("role:admin", "signed-in", End::Passed, Who::Unknown, Same),
            (
                "role:admin",
                "admin,editor",
                End::Passed,
                Who::Unknown,
                Same,
            ),
            (
                "role:admin",
                "admin,editor",
                End::Refused,
                Who::SignedIn,
                Possible(WouldPass),
            ),
            (
                "role:admin",
                "role:editor",
                End::Passed,
                Who::Unknown,
                Possible(WouldBeDenied),
            ),
            (
                "role:admin",
                "signed-in",
                End::Refused,
                Who::Anonymous,
                Same,
            ),
            (
                "role:admin",
                "signed-in",
                End::Refused,
                Who::SignedIn,
                Certain(WouldPass),
            ),
            (
                "login",
                "public",
                End::Passed,
                Who::Unknown,
                Certain(WouldPass),
            ),
            (
                "login",
                "logout",
                End::Passed,
                Who::Unknown,
                Certain(WouldBeAnswered),
            ),
            (
                "none",
                "login",
                End::Refused,
                Who::Unknown,
                Certain(WouldBeAnswered),
            ),
            // The service refused it, not the rule.
            (
                "public",
                "nobody",
                End::Refused,
                Who::Unknown,
                Certain(WouldBeDenied),
            ),
        ] {
            let found = changed(before, after, end, who);
            assert_eq!(found, expected, "{before} -> {after}, {end:?} {who:?}");
        }
    }
}
