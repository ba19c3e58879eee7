//! The rules: what a route demands. Order in the file means nothing; the most specific rule decides, by the
//! precedence of the Gateway API's HTTPRoute (exact path, longest prefix, method, host).

mod pattern;

use std::{cmp::Reverse, fmt, sync::Arc};

use self::pattern::{HostPattern, PathPattern, Reading};
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
    /// Whatever an endpoint of Doorward's own takes.
    Endpoint(Endpoint),
    /// A token.
    SignedIn,
    /// A token of somebody with one of these roles.
    Role(Roles),
    /// Nobody passes.
    Nobody,
}

/// What Doorward itself answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A user name and a password, for a token.
    Login,
    /// A token, to end it.
    Logout,
    /// A refresh token, for a new token.
    Refresh,
    /// A name and a password that are to be.
    Register,
    /// A token and two passwords, to have the second in place of the first.
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

    /// The word by which rules name it; with a slash before it, its path on the HTTP port.
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

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    path: PathPattern,
    methods: Vec<String>,
    hosts: Vec<HostPattern>,
    demand: Demand,
    name: Arc<str>,
}

/// Why a rule cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// A path that no unambiguous request can have.
    #[error(
        "path {0:?} cannot be matched: {1}; write a path such as \"/docs\" or a prefix such as \"/docs/*\""
    )]
    Path(String, String),
    /// Not a method.
    #[error("{0:?} is not a method; write one such as \"GET\"")]
    Method(String),
    /// Not a host.
    #[error("{0:?} is not a host; write \"api.example.com\" or \"*.example.com\", without a port")]
    Host(String),
    /// An unknown word.
    #[error(
        "{0:?} is not a demand; write \"public\", \"signed-in\", \"nobody\", \"role:NAME\", a list of roles, or an endpoint: \"login\", \"logout\", \"refresh\", \"register\", \"password\""
    )]
    Allow(String),
    /// Roles that cannot be.
    #[error("{0}")]
    Roles(String),
}

impl Rule {
    /// Makes a rule. No methods are all methods, but for an endpoint, where they are `POST`; no hosts are all hosts.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn new(
        path: &str,
        methods: &[String],
        hosts: &[String],
        demand: Demand,
    ) -> Result<Self, Vec<RuleFault>> {
        let mut faults = Vec::new();
        let pattern = PathPattern::parse(path).map_err(|fault| faults.push(fault));
        let mut methods = methods.to_vec();
        for method in &methods {
            if Method::parse(method.as_bytes()).is_none() {
                faults.push(RuleFault::Method(method.clone()));
            }
        }
        if methods.is_empty() && matches!(demand, Demand::Endpoint(_)) {
            methods.push("POST".into());
        }
        let mut patterns = Vec::new();
        for host in hosts {
            match HostPattern::parse(host) {
                Some(pattern) => patterns.push(pattern),
                None => faults.push(RuleFault::Host(host.clone())),
            }
        }
        match pattern {
            Ok(path) if faults.is_empty() => Ok(Self {
                name: name(&path, &methods, &patterns).into(),
                path,
                methods,
                hosts: patterns,
                demand,
            }),
            Ok(_) | Err(()) => Err(faults),
        }
    }

    /// What the rule demands.
    #[must_use]
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// What logs and metrics call the rule: its methods, hosts and path, such as `GET,PUT api.example.com/users/*`. No two
    /// rules of a policy have the same.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The methods the rule is for; empty for all.
    #[must_use]
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    fn path_rank(&self) -> (bool, usize) {
        match &self.path {
            PathPattern::Exact { raw, .. } => (true, raw.len()),
            PathPattern::Prefix { raw, .. } => (false, raw.len()),
        }
    }

    fn covers_method(&self, method: Method<'_>) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|own| own == method.as_str())
    }

    /// How specific the rule is for this host, or nothing where it is for others.
    fn host_rank(&self, host: Host<'_>) -> Option<usize> {
        if self.hosts.is_empty() {
            return Some(0);
        }
        let host = host.name()?;
        self.hosts
            .iter()
            .filter_map(|own| own.matches(host).then_some(own.rank()))
            .max()
    }

    /// Whether some request would be decided by both rules with equal right.
    fn ties_with(&self, other: &Self) -> bool {
        let share_method =
            self.methods.is_empty() || self.methods.iter().any(|own| other.methods.contains(own));
        let share_host =
            self.hosts.is_empty() || self.hosts.iter().any(|own| other.hosts.contains(own));
        self.path.loosely_equals(&other.path)
            && self.methods.is_empty() == other.methods.is_empty()
            && self.hosts.is_empty() == other.hosts.is_empty()
            && share_method
            && share_host
    }
}

fn name(path: &PathPattern, methods: &[String], hosts: &[HostPattern]) -> String {
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    let blank = if methods.is_empty() { "" } else { " " };
    format!("{}{blank}{}{path}", methods.join(","), hosts.join(","))
}

/// As the settings write it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path = \"{}\"", self.path)?;
        if !self.methods.is_empty() {
            write!(f, ", methods = {:?}", self.methods)?;
        }
        if !self.hosts.is_empty() {
            let hosts: Vec<_> = self.hosts.iter().map(ToString::to_string).collect();
            write!(f, ", hosts = {hosts:?}")?;
        }
        write!(f, ", allow = \"{}\"", self.demand)
    }
}

/// All rules.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Most specific path first.
    rules: Vec<Rule>,
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
    /// No rule is for this request.
    NoRule,
    /// As sent and as the most generous service reads it, the path falls under rules with different demands.
    TwoReadings(&'p Rule),
    /// There are rules for hosts, and the request names none.
    NoHost,
}

/// Two rules that decide the same request with equal right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two rules decide the same request: {0} and {1}; drop one, or make one more specific")]
pub struct Tie(pub String, pub String);

impl Policy {
    /// Takes rules in any order.
    ///
    /// # Errors
    ///
    /// Every pair of rules that decide the same request with equal right.
    pub fn new(mut rules: Vec<Rule>) -> Result<Self, Vec<Tie>> {
        let mut ties = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for other in rules.iter().skip(index + 1) {
                if rule.ties_with(other) {
                    ties.push(Tie(rule.to_string(), other.to_string()));
                }
            }
        }
        if !ties.is_empty() {
            return Err(ties);
        }
        rules.sort_by_key(|rule| Reverse(rule.path_rank()));
        Ok(Self {
            names_hosts: rules.iter().any(|rule| !rule.hosts.is_empty()),
            reads_the_same: rules.iter().all(|rule| rule.path.reads_the_same()),
            rules,
        })
    }

    /// What is in force without a rule in the settings: these endpoints at their own names, and everything else for
    /// people who are signed in.
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
            names_hosts: false,
            reads_the_same: true,
        })
    }

    /// All rules, most specific path first.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Where a rule stands among [`Policy::rules`]; nothing for a rule of another policy.
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
        let as_sent = self.find(method, host, path.as_str(), Reading::Raw);
        if self.reads_the_same && path.as_str() == path.loose() {
            return as_sent;
        }
        let generous = self.find(method, host, path.loose(), Reading::Loose);
        if same_demand(as_sent, generous) {
            return as_sent;
        }
        match generous {
            Access::Rule(rule) | Access::EndpointMethod(rule) => Access::TwoReadings(rule),
            Access::NoRule | Access::TwoReadings(_) | Access::NoHost => Access::NoRule,
        }
    }

    fn find(&self, method: Method<'_>, host: Host<'_>, path: &str, reading: Reading) -> Access<'_> {
        let mut login = None;
        let mut best: Option<(&Rule, (bool, usize))> = None;
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
            let rank = (!rule.methods.is_empty(), host_rank);
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
            | Access::NoHost,
            _,
        ) => false,
    }
}

#[cfg(test)]
mod tests;
