//! The rules: what a route demands. The order in the file does not matter; the most specific rule decides, by the
//! precedence of the Gateway API's HTTPRoute (exact path, longest prefix, method, host). A rule for `GET` also covers
//! `HEAD`, unless a rule for the same path and host names `HEAD`.

mod pattern;
mod rule;

use std::{cmp::Reverse, fmt};

use self::pattern::Reading;
pub use self::rule::{Rule, RuleFault};
use super::{
    account::{Role, Roles},
    path::Path,
    request::{Host, Method},
};

/// What a rule demands of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing.
    Public,
    /// What one of Doorward's own endpoints needs.
    Endpoint(Endpoint),
    /// A token.
    SignedIn,
    /// A token of a user with one of these roles.
    Role(Roles),
    /// No request passes.
    Nobody,
}

/// What Doorward itself answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A user name and a password, for a token.
    Login,
    /// A token, to revoke it.
    Logout,
    /// A refresh token, for a new token.
    Refresh,
    /// A new name and a new password.
    Register,
    /// A token, the current password and a new one.
    Password,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Login,
        Self::Logout,
        Self::Refresh,
        Self::Register,
        Self::Password,
    ];

    /// The word in rules; with a slash before it, the path on the HTTP port.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Logout => "logout",
            Self::Refresh => "refresh",
            Self::Register => "register",
            Self::Password => "password",
        }
    }

    /// The endpoint of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|endpoint| endpoint.name() == word)
    }
}

impl Demand {
    /// Reads the word of a rule: `public`, `signed-in`, `nobody`, `role:NAME` or the name of an [`Endpoint`].
    ///
    /// # Errors
    ///
    /// [`RuleFault::Allow`].
    pub fn parse(word: &str) -> Result<Self, RuleFault> {
        match word {
            "public" => Ok(Self::Public),
            "signed-in" => Ok(Self::SignedIn),
            "nobody" => Ok(Self::Nobody),
            _ => match (Endpoint::parse(word), word.strip_prefix("role:")) {
                (Some(endpoint), _) => Ok(Self::Endpoint(endpoint)),
                (None, Some(role)) => Self::roles([role]),
                (None, None) => Err(RuleFault::Allow(word.into())),
            },
        }
    }

    /// Any one of several roles.
    ///
    /// # Errors
    ///
    /// [`RuleFault::Roles`].
    pub fn roles<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, RuleFault> {
        let roles = Roles::parse(names).map_err(|fault| RuleFault::Roles(fault.to_string()))?;
        if roles.iter().next().is_none() {
            return Err(RuleFault::Roles("the list of roles is empty".into()));
        }
        Ok(Self::Role(roles))
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::Endpoint(endpoint) => f.write_str(endpoint.name()),
            Self::SignedIn => f.write_str("signed-in"),
            Self::Nobody => f.write_str("nobody"),
            Self::Role(roles) => {
                let names: Vec<_> = roles.iter().map(Role::as_str).collect();
                write!(f, "role:{}", names.join(" or role:"))
            }
        }
    }
}

/// All rules.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Most specific path first.
    rules: Vec<Rule>,
    /// The methods of the rules that are not in IANA's registry.
    unregistered: Vec<String>,
    names_hosts: bool,
    reads_the_same: bool,
}

/// What the rules say about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access<'p> {
    /// This rule decides.
    Rule(&'p Rule),
    /// The path is an endpoint's, but the method is not.
    EndpointMethod(&'p Rule),
    /// No rule matches this request.
    NoRule,
    /// The two readings of the path fall under rules with different demands.
    TwoReadings(&'p Rule),
    /// Some rules name hosts, and the request has no trusted host.
    NoHost,
    /// The method differs only by case from one that rules name.
    MethodCase,
}

/// Why rules conflict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Two rules decide the same request with equal precedence.
    #[error("two rules decide the same request: {0} and {1}; drop one, or make one more specific")]
    Tie(String, String),
    /// Two rules spell a method that is not in IANA's registry in two cases.
    #[error(
        "the methods {0:?} and {1:?} differ only by case, and services may read them as the same; write one of them"
    )]
    MethodCase(String, String),
}

impl Policy {
    /// Takes rules in any order.
    ///
    /// # Errors
    ///
    /// Every [`Conflict`] between them.
    pub fn new(mut rules: Vec<Rule>) -> Result<Self, Vec<Conflict>> {
        let mut conflicts = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for other in rules.iter().skip(index + 1) {
                if rule.ties_with(other) {
                    conflicts.push(Conflict::Tie(rule.to_string(), other.to_string()));
                }
            }
        }
        let mut unregistered: Vec<String> = Vec::new();
        for method in rules.iter().flat_map(Rule::unregistered_methods) {
            match unregistered
                .iter()
                .find(|own| own.eq_ignore_ascii_case(method))
            {
                Some(own) if own == method => {}
                Some(own) => {
                    conflicts.push(Conflict::MethodCase(own.clone(), method.to_owned()));
                }
                None => unregistered.push(method.to_owned()),
            }
        }
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        rules.sort_by_key(|rule| Reverse(rule.path_rank()));
        Ok(Self {
            unregistered,
            names_hosts: rules.iter().any(|rule| !rule.hosts.is_empty()),
            reads_the_same: rules.iter().all(|rule| rule.path.reads_the_same()),
            rules,
        })
    }

    /// The rules if the settings have none: these endpoints at their own names, and everything else for signed-in users.
    #[must_use]
    pub fn built_in(endpoints: &[Endpoint]) -> Self {
        let rule = |path: &str, demand| Rule::new(path, &[], &[], demand);
        let rules = endpoints
            .iter()
            .map(|endpoint| {
                rule(
                    &format!("/{}", endpoint.name()),
                    Demand::Endpoint(*endpoint),
                )
            })
            .chain([rule("/*", Demand::SignedIn)]);
        let rules = rules.filter_map(Result::ok).collect();
        Self::new(rules).unwrap_or(Self {
            rules: Vec::new(),
            unregistered: Vec::new(),
            names_hosts: false,
            reads_the_same: true,
        })
    }

    /// All rules, most specific path first.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The index of a rule in [`Policy::rules`]; `None` for a rule of another policy.
    #[must_use]
    pub fn number_of(&self, rule: &Rule) -> Option<usize> {
        self.rules.element_offset(rule)
    }

    /// Which rule decides a request.
    #[must_use]
    pub fn access(&self, method: Method<'_>, host: Host<'_>, path: &Path<'_>) -> Access<'_> {
        if self.names_hosts && host.name().is_none() {
            return Access::NoHost;
        }
        let sent = method.as_str();
        if (self.unregistered.iter()).any(|own| own != sent && own.eq_ignore_ascii_case(sent)) {
            return Access::MethodCase;
        }
        let as_sent = self.find(method, host, path.as_str(), Reading::Raw);
        let has_extension = path.has_extension();
        if self.reads_the_same && path.as_str() == path.loose() && !has_extension {
            return as_sent;
        }
        let readings = [Reading::Loose, Reading::Extension];
        for reading in readings.iter().take(1 + usize::from(has_extension)) {
            let generous = self.find(method, host, path.loose(), *reading);
            if same_demand(as_sent, generous) {
                continue;
            }
            return match generous {
                Access::Rule(rule) | Access::EndpointMethod(rule) => Access::TwoReadings(rule),
                Access::NoRule | Access::TwoReadings(_) | Access::NoHost | Access::MethodCase => {
                    Access::NoRule
                }
            };
        }
        as_sent
    }

    fn find(&self, method: Method<'_>, host: Host<'_>, path: &str, reading: Reading) -> Access<'_> {
        let mut login = None;
        let mut best: Option<(&Rule, (bool, usize, bool))> = None;
        for rule in &self.rules {
            if best.is_some_and(|(best, _)| best.path_rank() > rule.path_rank()) {
                break;
            }
            if !rule.path.matches(path, reading) {
                continue;
            }
            let Some(host_rank) = rule.host_rank(host) else {
                continue;
            };
            if !rule.covers_method(method) {
                if matches!(rule.demand, Demand::Endpoint(_)) {
                    login = login.or(Some(rule));
                }
                continue;
            }
            // Of two rules with equal precedence, one for `GET` and one that names `HEAD`, the latter decides `HEAD`.
            let names_method = !method.is_head() || rule.names_method("HEAD");
            let rank = (!rule.methods.is_empty(), host_rank, names_method);
            if best.is_none_or(|(_, best_rank)| rank > best_rank) {
                best = Some((rule, rank));
            }
        }
        match (best, login) {
            (Some((best, _)), Some(login)) if login.path_rank() > best.path_rank() => {
                Access::EndpointMethod(login)
            }
            (Some((best, _)), _) => Access::Rule(best),
            (None, Some(login)) => Access::EndpointMethod(login),
            (None, None) => Access::NoRule,
        }
    }
}

fn same_demand(left: Access<'_>, right: Access<'_>) -> bool {
    match (left, right) {
        (Access::Rule(left), Access::Rule(right)) => left.demand == right.demand,
        (Access::EndpointMethod(_), Access::EndpointMethod(_))
        | (Access::NoRule, Access::NoRule) => true,
        (
            Access::Rule(_)
            | Access::EndpointMethod(_)
            | Access::NoRule
            | Access::TwoReadings(_)
            | Access::NoHost
            | Access::MethodCase,
            _,
        ) => false,
    }
}

#[cfg(test)]
mod tests;
