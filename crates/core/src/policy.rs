//! The rules: what a route demands. The order in the file does not matter; the most specific rule decides, by the
//! precedence of the Gateway API's HTTPRoute (host, exact path, longest prefix, method). A rule for `GET` also covers
//! `HEAD`, unless a rule for the same path and host names `HEAD`.

mod coverage;
mod diff;
mod index;
mod path_first;
mod pattern;
mod regions;
mod rule;
mod ruling;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

pub(crate) use self::pattern::PathPattern;
pub use self::{
    coverage::{PathTemplate, TemplateFault, cover},
    diff::{Change, DecidedBy, Direction, Example, Precedence, Side, diff, examples},
    regions::{HostClass, Hosts, MethodClass, Methods, PathSet, Paths},
    rule::{Rule, RuleFault},
    ruling::{Callers, Ruling},
};
use self::{
    index::{Found, Index},
    pattern::Reading,
};
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
    /// The page with the form of a name and a password, for a cookie.
    SignIn,
    /// A cookie, to end its token and to drop it.
    SignOut,
    /// The page that says who has signed in.
    SignedIn,
    /// A token, to list, make or end keys for machines.
    Keys,
    /// The cookie of a browser, to do the same on a page.
    KeysPage,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Login,
        Self::Logout,
        Self::Refresh,
        Self::Register,
        Self::Password,
        Self::SignIn,
        Self::SignOut,
        Self::SignedIn,
        Self::Keys,
        Self::KeysPage,
    ];

    /// The word in rules.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Logout => "logout",
            Self::Refresh => "refresh",
            Self::Register => "register",
            Self::Password => "password",
            Self::SignIn => "sign-in",
            Self::SignOut => "sign-out",
            // `signed-in` is a demand.
            Self::SignedIn => "signed-in-page",
            Self::Keys => "keys",
            Self::KeysPage => "keys-page",
        }
    }

    /// The path on the HTTP port, and in the rules if the settings have none.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Login => "/login",
            Self::Logout => "/logout",
            Self::Refresh => "/refresh",
            Self::Register => "/register",
            Self::Password => "/password",
            Self::SignIn => "/sign-in",
            Self::SignOut => "/sign-out",
            Self::SignedIn => "/signed-in",
            Self::Keys => "/keys",
            Self::KeysPage => "/my-keys",
        }
    }

    /// The endpoint at a path of the HTTP port.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|endpoint| match path.strip_prefix(endpoint.path()) {
            Some("") => true,
            // Behind the path of the keys there may be the ID of one.
            Some(id) => *endpoint == Self::Keys && id.rfind('/') == Some(0),
            None => false,
        })
    }

    /// The methods that it has. `GET` includes `HEAD`.
    #[must_use]
    pub fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Login
            | Self::Logout
            | Self::Refresh
            | Self::Register
            | Self::Password
            | Self::SignOut => &["POST"],
            Self::SignIn | Self::KeysPage => &["GET", "POST"],
            Self::SignedIn => &["GET"],
            Self::Keys => &["GET", "POST", "DELETE"],
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

/// All rules. A clone shares them.
#[derive(Clone, Debug)]
pub struct Policy(Arc<Indexed>);

#[derive(Debug, Default)]
struct Indexed {
    /// Most specific path first.
    rules: Vec<Rule>,
    /// The rules by their paths in the loose reading.
    loose: Index,
    /// The rules by their paths as they are written, if any of them reads differently.
    raw: Option<Index>,
    /// The methods of the rules that are not in IANA's registry, by their lower case.
    unregistered: HashMap<String, String>,
    names_hosts: bool,
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
    /// Every [`Conflict`] between them. If more than two rules tie, each is reported together with the first.
    pub fn new(rules: Vec<Rule>) -> Result<Self, Vec<Conflict>> {
        let mut unregistered = HashMap::new();
        let mut cases = Vec::new();
        for method in rules.iter().flat_map(Rule::unregistered_methods) {
            let spelled = unregistered
                .entry(method.to_ascii_lowercase())
                .or_insert_with(|| method.to_owned());
            if spelled != method {
                cases.push(Conflict::MethodCase(spelled.clone(), method.to_owned()));
            }
        }
        let mut placed: Vec<_> = rules.into_iter().enumerate().collect();
        placed.sort_by_key(|(_, rule)| Reverse(rule.path_rank()));
        let (places, rules): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
        let (loose, ties) = Index::new(&rules, Reading::Loose);
        let mut conflicts = named(&rules, &places, ties);
        conflicts.extend(cases);
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let reads_the_same = rules.iter().all(|rule| rule.path.reads_the_same());
        Ok(Self(Arc::new(Indexed {
            loose,
            raw: (!reads_the_same).then(|| Index::new(&rules, Reading::Raw).0),
            unregistered,
            names_hosts: rules.iter().any(|rule| !rule.hosts.is_empty()),
            rules,
        })))
    }

    /// The rules if the settings have none: these endpoints at their own names, and everything else for signed-in users.
    #[must_use]
    pub fn built_in(endpoints: &[Endpoint]) -> Self {
        let rule = |path: &str, demand| Rule::new(path, &[], &[], demand);
        let rules = endpoints
            .iter()
            .map(|endpoint| {
                // Below it are the IDs of keys.
                let below = if *endpoint == Endpoint::Keys {
                    "/*"
                } else {
                    ""
                };
                rule(
                    &format!("{}{below}", endpoint.path()),
                    Demand::Endpoint(*endpoint),
                )
            })
            .chain([rule("/*", Demand::SignedIn)]);
        let rules = rules.filter_map(Result::ok).collect();
        Self::new(rules).unwrap_or_else(|_| Self(Arc::default()))
    }

    /// All rules, most specific path first.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.0.rules
    }

    /// Whether both have the same rules, in any order.
    #[must_use]
    pub fn has_the_rules_of(&self, other: &Self) -> bool {
        let all = |policy: &Self| -> BTreeSet<String> {
            policy.rules().iter().map(ToString::to_string).collect()
        };
        self.rules().len() == other.rules().len() && all(self) == all(other)
    }

    /// The path at which browsers reach an endpoint: that of its only rule for an exact path, or its path on the HTTP port.
    #[must_use]
    pub fn place_of(&self, endpoint: Endpoint) -> String {
        let mut places: Vec<_> = (self.rules().iter())
            .filter(|rule| *rule.demand() == Demand::Endpoint(endpoint) && rule.path_rank().0)
            .map(Rule::path)
            .collect();
        places.dedup();
        match (places.pop(), places.is_empty()) {
            (Some(only), true) => only,
            (_, _) => endpoint.path().into(),
        }
    }

    /// The index of a rule in [`Policy::rules`]; `None` for a rule of another policy.
    #[must_use]
    pub fn number_of(&self, rule: &Rule) -> Option<usize> {
        self.rules().element_offset(rule)
    }

    /// Which rule decides a request.
    #[must_use]
    pub fn access(&self, method: Method<'_>, host: Host<'_>, path: &Path<'_>) -> Access<'_> {
        self.access_by(method, host, path, |index, path, extension| {
            index.find(method, host, path, extension)
        })
    }

    /// Which rule decides a request, with a search in an index: of a path, which may have an extension.
    fn access_by(
        &self,
        method: Method<'_>,
        host: Host<'_>,
        path: &Path<'_>,
        find: impl Fn(&Index, &str, bool) -> Found,
    ) -> Access<'_> {
        let all = &*self.0;
        if all.names_hosts && host.name().is_none() {
            return Access::NoHost;
        }
        if all.spells_otherwise(method) {
            return Access::MethodCase;
        }
        let raw = all.raw.as_ref().unwrap_or(&all.loose);
        let as_sent = all.access(find(raw, path.as_str(), false));
        let has_extension = path.has_extension();
        if all.raw.is_none() && path.as_str() == path.loose() && !has_extension {
            return as_sent;
        }
        let extensions = [false, true];
        for extension in extensions.iter().take(1 + usize::from(has_extension)) {
            let found = find(&all.loose, path.loose(), *extension);
            let generous = all.access(found);
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
}

impl Indexed {
    /// Whether the method differs only by case from one that rules name.
    fn spells_otherwise(&self, method: Method<'_>) -> bool {
        if self.unregistered.is_empty() || method.is_registered() {
            return false;
        }
        let spelled = self.unregistered.get(&method.as_str().to_ascii_lowercase());
        spelled.is_some_and(|spelled| spelled != method.as_str())
    }

    fn access(&self, Found { best, missed }: Found) -> Access<'_> {
        let rule = |number| self.rules.get(number);
        let best = best.and_then(|(path, best)| Some((path, rule(best)?)));
        let missed = missed.and_then(|(path, endpoint)| Some((path, rule(endpoint)?)));
        match (best, missed) {
            (Some((path, _)), Some((own, endpoint))) if own > path => {
                Access::EndpointMethod(endpoint)
            }
            (Some((_, best)), _) => Access::Rule(best),
            (None, Some((_, endpoint))) => Access::EndpointMethod(endpoint),
            (None, None) => Access::NoRule,
        }
    }
}

/// Ties as conflicts, in the order in which the rules were given.
fn named(
    rules: &[Rule],
    places: &[usize],
    ties: impl IntoIterator<Item = (usize, usize)>,
) -> Vec<Conflict> {
    let given = |number| Some((places.get(number)?, rules.get(number)?));
    let pairs = ties.into_iter().filter_map(|(first, other)| {
        let mut pair = [given(first)?, given(other)?];
        pair.sort_by_key(|(place, _)| **place);
        Some(pair)
    });
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_by_key(|[(first, _), (other, _)]| (**first, **other));
    let tie = |[(_, first), (_, other)]: [(&usize, &Rule); 2]| {
        Conflict::Tie(first.to_string(), other.to_string())
    };
    pairs.into_iter().map(tie).collect()
}

fn same_demand(left: Access<'_>, right: Access<'_>) -> bool {
    match (left, right) {
        (Access::Rule(left), Access::Rule(right)) => {
            left.demands_as(right) && left.audience() == right.audience()
        }
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
