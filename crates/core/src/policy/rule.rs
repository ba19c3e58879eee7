//! One rule.

use std::{fmt, sync::Arc};

use super::{
    Demand,
    pattern::{HostPattern, PathPattern},
};
use crate::request::{Method, RequestFault};

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) path: PathPattern,
    pub(super) methods: Vec<String>,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) demand: Demand,
    /// Whether a key may be shown as the password of Basic.
    pub(super) basic_keys: bool,
    /// The audience of the signed assertion; `None` for the one of the settings.
    audience: Option<Arc<str>>,
    name: Arc<str>,
}

/// Why a rule is invalid.
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
    /// A registered method in another case.
    #[error(
        "{0:?} is no method that clients send, and services may take it for {1:?}; write {1:?}"
    )]
    MethodCase(String, String),
    /// Not a host.
    #[error("{0:?} is not a host; write \"api.example.com\" or \"*.example.com\", without a port")]
    Host(String),
    /// An unknown word.
    #[error(
        "{0:?} is not a demand; write \"public\", \"signed-in\", \"nobody\", \"role:NAME\", a list of roles, or an endpoint: \"login\", \"logout\", \"refresh\", \"register\", \"password\", \"keys\", \"sign-in\", \"sign-out\", \"signed-in-page\", \"keys-page\""
    )]
    Allow(String),
    /// Invalid roles.
    #[error("{0}")]
    Roles(String),
    /// Keys where none is accepted.
    #[error(
        "basic-keys: keys are accepted only where allow is \"public\", \"signed-in\" or a role"
    )]
    BasicKeys,
    /// An audience where no request passes to a service.
    #[error(
        "audience: services get an assertion only where allow is \"public\", \"signed-in\" or a role"
    )]
    Audience,
}

impl Rule {
    /// Makes a rule. Without methods it covers all methods, or those of its endpoint; without hosts it covers all hosts.
    ///
    /// # Errors
    ///
    /// All faults of the rule.
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
            match Method::parse(method.as_bytes()) {
                Ok(_) => {}
                Err(RequestFault::MethodCase) => {
                    let registered = method.to_ascii_uppercase();
                    faults.push(RuleFault::MethodCase(method.clone(), registered));
                }
                Err(_) => faults.push(RuleFault::Method(method.clone())),
            }
        }
        if methods.is_empty()
            && let Demand::Endpoint(endpoint) = demand
        {
            methods.extend(endpoint.methods().iter().map(|&method| method.into()));
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
                basic_keys: false,
                audience: None,
            }),
            Ok(_) | Err(()) => Err(faults),
        }
    }

    /// The same rule, which takes keys as the password of Basic.
    ///
    /// # Errors
    ///
    /// The rule is one of an endpoint, or lets nobody pass.
    pub fn taking_basic_keys(self) -> Result<Self, RuleFault> {
        match self.demand {
            Demand::Public | Demand::SignedIn | Demand::Role(_) => Ok(Self {
                basic_keys: true,
                ..self
            }),
            Demand::Endpoint(_) | Demand::Nobody => Err(RuleFault::BasicKeys),
        }
    }

    /// Whether the rule takes keys as the password of Basic.
    #[must_use]
    pub fn takes_basic_keys(&self) -> bool {
        self.basic_keys
    }

    /// The same rule, whose service gets assertions for this audience.
    ///
    /// # Errors
    ///
    /// The rule is for an endpoint, or allows nobody.
    pub fn asserting_to(self, audience: &str) -> Result<Self, RuleFault> {
        match self.demand {
            Demand::Public | Demand::SignedIn | Demand::Role(_) => Ok(Self {
                audience: Some(audience.into()),
                ..self
            }),
            Demand::Endpoint(_) | Demand::Nobody => Err(RuleFault::Audience),
        }
    }

    /// The audience of the signed assertion, if the rule names one.
    #[must_use]
    pub fn audience(&self) -> Option<&Arc<str>> {
        self.audience.as_ref()
    }

    /// Whether both rules give the same credential the same verdict.
    pub(crate) fn demands_as(&self, other: &Self) -> bool {
        self.demand == other.demand && self.basic_keys == other.basic_keys
    }

    /// What the rule demands.
    #[must_use]
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// The name of the rule in logs and metrics: its methods, hosts and path, such as `GET,PUT api.example.com/users/*`. It
    /// is unique in a policy.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The path or the prefix, as it was written.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.to_string()
    }

    /// The hosts of the rule, as they were written; empty for all.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        self.hosts.iter().map(ToString::to_string)
    }

    /// The methods of the rule; empty for all.
    #[must_use]
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// The methods for the header `Allow` (RFC 9110, 10.2.1).
    #[must_use]
    pub fn allowed_methods(&self) -> Vec<String> {
        let mut allowed = self.methods.clone();
        if self.names_method("GET") && !self.names_method("HEAD") {
            allowed.push("HEAD".into());
        }
        allowed
    }

    /// Whether the rule names this method.
    #[must_use]
    pub fn names_method(&self, method: &str) -> bool {
        self.methods.iter().any(|own| own == method)
    }

    pub(super) fn unregistered_methods(&self) -> impl Iterator<Item = &str> {
        self.methods
            .iter()
            .map(String::as_str)
            .filter(|method| Method::parse(method.as_bytes()).is_ok_and(|own| !own.is_registered()))
    }

    pub(super) fn path_rank(&self) -> (bool, usize) {
        match &self.path {
            PathPattern::Exact { raw, .. } => (true, raw.len()),
            PathPattern::Prefix { raw, .. } => (false, raw.len()),
        }
    }
}

fn name(path: &PathPattern, methods: &[String], hosts: &[HostPattern]) -> String {
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    let blank = if methods.is_empty() { "" } else { " " };
    format!("{}{blank}{}{path}", methods.join(","), hosts.join(","))
}

/// The rule as written in the settings.
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
        write!(f, ", allow = \"{}\"", self.demand)?;
        if self.basic_keys {
            f.write_str(", basic-keys = true")?;
        }
        match &self.audience {
            Some(audience) => write!(f, ", audience = {audience:?}"),
            None => Ok(()),
        }
    }
}
