//! Plans which requests are sent for each rule; sends none.

use std::fmt;

use crate::domain::{
    decision::{Reason, Verdict},
    path::{Path, Tolerance},
    policy::{Access, Demand, Policy, Rule},
    request::{Host, Method},
};

/// All requests, and the rules for which none can be sent.
pub(super) struct Plan {
    pub(super) checks: Vec<Check>,
    /// The names of rules.
    pub(super) skipped: Vec<(String, Skipped)>,
}

/// One request.
pub(super) struct Check {
    /// The name of the rule.
    pub(super) rule: String,
    pub(super) kind: Kind,
    pub(super) method: String,
    pub(super) host: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    /// Doorward's decision on a request without a credential; `None` if it depends on more than the rule.
    pub(super) expected: Option<(Verdict, Reason)>,
}

/// What a request tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No credential.
    Anonymous,
    /// Identity headers that only Doorward may set.
    ForgedIdentity,
    /// A name that a service could read as an identity header.
    Alias,
    /// A dot segment before the path.
    DotSegment,
    /// An escaped letter.
    EscapedLetter,
    /// A parameter at the end of the path.
    Parameter,
    /// A CORS preflight.
    Preflight,
    /// Two `Authorization` headers.
    DoubledAuthorization,
}

/// Why no request is sent for a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    /// Only requests with unsafe methods reach it.
    UnsafeMethod,
    /// Other rules decide all its requests, or no request has its path.
    Unreachable,
}

/// Which methods are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Methods {
    Safe,
    All,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Anonymous,
        Self::ForgedIdentity,
        Self::Alias,
        Self::DotSegment,
        Self::EscapedLetter,
        Self::Parameter,
        Self::Preflight,
        Self::DoubledAuthorization,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::ForgedIdentity => "forged-identity",
            Self::Alias => "alias",
            Self::DotSegment => "dot-segment",
            Self::EscapedLetter => "escaped-letter",
            Self::Parameter => "parameter",
            Self::Preflight => "preflight",
            Self::DoubledAuthorization => "doubled-authorization",
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnsafeMethod => {
                "it is for methods that change something; --unsafe-methods sends them"
            }
            Self::Unreachable => {
                "more specific rules decide all requests that could be sent for it"
            }
        })
    }
}

impl Plan {
    /// Plans requests for all rules; `host` is that of the gateway.
    pub(super) fn new(policy: &Policy, identity: &[&str], host: &str, methods: Methods) -> Self {
        let mut plan = Self {
            checks: Vec::new(),
            skipped: Vec::new(),
        };
        for rule in policy.rules() {
            match Place::of(policy, rule, host, methods) {
                Ok(place) => {
                    let checks = Kind::ALL.map(|kind| place.check(rule, kind, identity));
                    plan.checks.extend(checks.into_iter().flatten());
                }
                Err(why) => plan.skipped.push((rule.name().to_string(), why)),
            }
        }
        plan
    }
}

/// A request that a rule decides.
struct Place {
    method: String,
    host: String,
    path: String,
}

const SAFE: [&str; 3] = ["GET", "HEAD", "OPTIONS"];
const UNSAFE: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];

/// A segment that no service is expected to have.
const SEGMENT: &str = "doorward-probe";

impl Place {
    fn of(policy: &Policy, rule: &Rule, host: &str, methods: Methods) -> Result<Self, Skipped> {
        let hosts: Vec<_> = rule.hosts().collect();
        let hosts = match hosts.is_empty() {
            true => vec![host.to_owned()],
            false => hosts
                .iter()
                .map(|own| own.replacen('*', SEGMENT, 1))
                .collect(),
        };
        let path = rule.path();
        let paths = match path.strip_suffix("/*") {
            Some("") => vec![format!("/{SEGMENT}"), "/".to_owned()],
            Some(prefix) => vec![prefix.to_owned(), format!("{prefix}/{SEGMENT}")],
            None => vec![path],
        };
        let own = rule.methods().iter().map(String::as_str);
        let all: Vec<&str> = SAFE.into_iter().chain(UNSAFE).chain(own).collect();
        let mut would_change = false;
        for method in all {
            for host in &hosts {
                for path in &paths {
                    if !decides(policy, rule, method, host, path) {
                        continue;
                    }
                    if methods == Methods::Safe && !SAFE.contains(&method) {
                        would_change = true;
                        continue;
                    }
                    return Ok(Self {
                        method: method.to_owned(),
                        host: host.clone(),
                        path: path.clone(),
                    });
                }
            }
        }
        match would_change {
            true => Err(Skipped::UnsafeMethod),
            false => Err(Skipped::Unreachable),
        }
    }

    fn check(&self, rule: &Rule, kind: Kind, identity: &[&str]) -> Option<Check> {
        let Self { method, host, path } = self;
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let (mut own_method, mut target) = (method.clone(), path.clone());
        let mut headers = Vec::new();
        match kind {
            Kind::Anonymous => {}
            Kind::ForgedIdentity => {
                headers.extend(identity.iter().map(|name| header(name, "admin")));
            }
            Kind::Alias => {
                let name = identity.first()?.replace('-', "_");
                headers.push(header(&name, "admin"));
            }
            Kind::DotSegment => target = format!("/{SEGMENT}/..{path}"),
            Kind::EscapedLetter => target = escaped(path)?,
            Kind::Parameter => target = format!("{path};v=1"),
            Kind::Preflight => {
                own_method = "OPTIONS".into();
                headers.push(header("origin", "https://doorward-probe.invalid"));
                headers.push(header("access-control-request-method", method));
            }
            Kind::DoubledAuthorization => {
                headers.push(header("authorization", "Bearer doorward-probe-1"));
                headers.push(header("authorization", "Bearer doorward-probe-2"));
            }
        }
        Some(Check {
            rule: rule.name().to_string(),
            kind,
            method: own_method,
            host: host.clone(),
            target,
            headers,
            expected: expected(rule),
        })
    }
}

/// Whether the rule decides this request.
fn decides(policy: &Policy, rule: &Rule, method: &str, host: &str, path: &str) -> bool {
    let (Ok(method), Some(host), Ok(path)) = (
        Method::parse(method.as_bytes()),
        Host::parse(host.as_bytes()),
        Path::parse(path.as_bytes(), Tolerance::default()),
    ) else {
        return false;
    };
    match policy.access(method, host, &path) {
        Access::Rule(found) => found.name() == rule.name(),
        Access::EndpointMethod(_)
        | Access::NoRule
        | Access::TwoReadings(_)
        | Access::NoHost
        | Access::MethodCase => false,
    }
}

/// The path with its last letter escaped.
fn escaped(path: &str) -> Option<String> {
    let (at, letter) = path
        .char_indices()
        .rfind(|(_, letter)| letter.is_ascii_alphanumeric())?;
    let (before, rest) = path.split_at_checked(at)?;
    let after = rest.get(letter.len_utf8()..)?;
    Some(format!("{before}%{:02x}{after}", u32::from(letter)))
}

fn expected(rule: &Rule) -> Option<(Verdict, Reason)> {
    match rule.demand() {
        Demand::Public => Some((Verdict::Allow, Reason::Anonymous)),
        Demand::SignedIn | Demand::Role(_) => Some((Verdict::Deny, Reason::MissingToken)),
        Demand::Nobody => Some((Verdict::Deny, Reason::NoRule)),
        Demand::Endpoint(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[(&str, &[&str], &[&str], &str)]) -> Policy {
        let list = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let rules = rules.iter().map(|(path, methods, hosts, allow)| {
            let demand = Demand::parse(allow).unwrap();
            Rule::new(path, &list(methods), &list(hosts), demand).unwrap()
        });
        Policy::new(rules.collect()).unwrap()
    }

    fn plan(policy: &Policy, methods: Methods) -> Plan {
        let identity = ["x-auth-user", "x-auth-roles"];
        Plan::new(policy, &identity, "gateway.example", methods)
    }

    #[test]
    fn each_rule_is_checked_with_requests_that_it_decides() {
        let policy = policy(&[
            ("/*", &[], &[], "signed-in"),
            ("/", &[], &[], "public"),
            ("/admin/*", &[], &[], "role:admin"),
            ("/items/*", &[], &[], "nobody"),
            ("/items/*", &["GET"], &[], "public"),
            ("/exact", &["HEAD"], &[], "public"),
            ("/*", &[], &["*.tenant.example"], "signed-in"),
            ("/login", &[], &[], "login"),
        ]);
        let plan = plan(&policy, Methods::Safe);
        let anonymous = plan
            .checks
            .iter()
            .filter(|check| check.kind == Kind::Anonymous);
        let mut asked: Vec<_> = anonymous
            .map(|check| {
                format!(
                    "{}: {} {}{}",
                    check.rule, check.method, check.host, check.target
                )
            })
            .collect();
        asked.sort();
        assert_eq!(
            asked,
            [
                "*.tenant.example/*: GET doorward-probe.tenant.example/doorward-probe",
                "/*: GET gateway.example/doorward-probe",
                "/: GET gateway.example/",
                "/admin/*: GET gateway.example/admin",
                "/items/*: OPTIONS gateway.example/items",
                "GET /items/*: GET gateway.example/items",
                "HEAD /exact: HEAD gateway.example/exact",
            ]
        );
        let skipped = [("POST /login".to_owned(), Skipped::UnsafeMethod)];
        assert_eq!(plan.skipped, skipped);
    }

    #[test]
    fn no_unsafe_method_is_sent_unless_asked() {
        let policy = policy(&[
            ("/orders", &["POST"], &[], "signed-in"),
            ("/orders/*", &["DELETE", "PURGE"], &[], "role:admin"),
            ("/login", &[], &[], "login"),
        ]);
        let safe = plan(&policy, Methods::Safe);
        assert!(safe.checks.is_empty());
        assert_eq!(safe.skipped.len(), 3);
        let all = plan(&policy, Methods::All);
        assert!(all.skipped.is_empty());
        let methods: Vec<_> = all.checks.iter().map(|check| &*check.method).collect();
        assert!(
            methods.contains(&"POST") && methods.contains(&"DELETE"),
            "{methods:?}"
        );
    }

    #[test]
    fn each_kind_changes_its_part_of_the_request() {
        let policy = policy(&[("/admin/*", &[], &[], "role:admin")]);
        let plan = plan(&policy, Methods::Safe);
        let target = |kind| {
            let check = plan.checks.iter().find(|check| check.kind == kind).unwrap();
            (&*check.method, &*check.target, check.headers.len())
        };
        assert_eq!(
            target(Kind::DotSegment),
            ("GET", "/doorward-probe/../admin", 0)
        );
        assert_eq!(target(Kind::EscapedLetter), ("GET", "/admi%6e", 0));
        assert_eq!(target(Kind::Parameter), ("GET", "/admin;v=1", 0));
        assert_eq!(target(Kind::Preflight), ("OPTIONS", "/admin", 2));
        assert_eq!(target(Kind::DoubledAuthorization), ("GET", "/admin", 2));
        assert_eq!(target(Kind::ForgedIdentity), ("GET", "/admin", 2));
        assert_eq!(target(Kind::Alias), ("GET", "/admin", 1));
        assert_eq!(plan.checks.len(), Kind::ALL.len());
    }
}
