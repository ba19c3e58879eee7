//! Decides by a scan of all rules, as docs/rules.md describes it. Tests compare the index with it.

use super::super::{
    Access, Conflict, Demand, Policy, Rule,
    index::PathRank,
    pattern::{HostPattern, PathPattern},
};
use crate::{
    path::Path,
    request::{Host, Method},
};

/// How a pattern and a path are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Raw,
    Loose,
    /// As `Loose`, and the last segment has its extension or not.
    Extension,
}

pub(super) fn access<'p>(
    policy: &'p Policy,
    method: Method<'_>,
    host: Host<'_>,
    path: &Path<'_>,
) -> Access<'p> {
    let rules = policy.rules();
    if rules.iter().any(|rule| !rule.hosts.is_empty()) && host.name().is_none() {
        return Access::NoHost;
    }
    let sent = method.as_str();
    let mut named = rules.iter().flat_map(Rule::unregistered_methods);
    if named.any(|own| own != sent && own.eq_ignore_ascii_case(sent)) {
        return Access::MethodCase;
    }
    let as_sent = find(rules, method, host, path.as_str(), Reading::Raw);
    let mut readings = vec![Reading::Loose];
    if path.has_extension() {
        readings.push(Reading::Extension);
    }
    for reading in readings {
        let generous = find(rules, method, host, path.loose(), reading);
        match (as_sent, generous) {
            (Access::Rule(one), Access::Rule(other)) if one.demand == other.demand => {}
            (Access::EndpointMethod(_), Access::EndpointMethod(_)) => {}
            (Access::NoRule, Access::NoRule) => {}
            (_, Access::Rule(rule) | Access::EndpointMethod(rule)) => {
                return Access::TwoReadings(rule);
            }
            (_, _) => return Access::NoRule,
        }
    }
    as_sent
}

fn find<'p>(
    rules: &'p [Rule],
    method: Method<'_>,
    host: Host<'_>,
    path: &str,
    reading: Reading,
) -> Access<'p> {
    let here = rules.iter().filter_map(|rule| {
        let path = path_rank(&rule.path, path, reading)?;
        Some((path, host_rank(rule, host)?, rule))
    });
    let (covering, others): (Vec<_>, Vec<_>) =
        here.partition(|(_, _, rule)| covers_method(rule, method));
    let best = covering.into_iter().max_by_key(|(path, host, rule)| {
        let names_head = method.as_str() == "HEAD" && rule.names_method("HEAD");
        (*host, *path, !rule.methods.is_empty(), names_head)
    });
    let endpoints = others
        .into_iter()
        .filter(|(_, _, rule)| matches!(rule.demand, Demand::Endpoint(_)));
    // The first of several.
    let missed = endpoints.rev().max_by_key(|(path, host, _)| (*host, *path));
    match (best, missed) {
        (Some((path, host, _)), Some((own_path, own_host, endpoint)))
            if (own_host, own_path) > (host, path) =>
        {
            Access::EndpointMethod(endpoint)
        }
        (Some((_, _, rule)), _) => Access::Rule(rule),
        (None, Some((_, _, endpoint))) => Access::EndpointMethod(endpoint),
        (None, None) => Access::NoRule,
    }
}

/// Whether a rule covers a request whose path has only one reading.
pub(super) fn covers(rule: &Rule, method: Method<'_>, host: Host<'_>, path: &str) -> bool {
    path_rank(&rule.path, path, Reading::Raw).is_some()
        && host_rank(rule, host).is_some()
        && covers_method(rule, method)
}

fn path_rank(pattern: &PathPattern, path: &str, reading: Reading) -> Option<PathRank> {
    let (PathPattern::Exact { raw, loose } | PathPattern::Prefix { raw, loose }) = pattern;
    let own = match reading {
        Reading::Raw => raw,
        Reading::Loose | Reading::Extension => loose,
    };
    let rest = path.strip_prefix(own.as_str())?;
    let is_exact = matches!(pattern, PathPattern::Exact { .. });
    let matches = rest.is_empty()
        || (!is_exact && rest.starts_with('/'))
        || (reading == Reading::Extension && rest.starts_with('.') && !rest.contains('/'));
    matches.then_some((is_exact, own.len()))
}

fn host_rank(rule: &Rule, host: Host<'_>) -> Option<usize> {
    if rule.hosts.is_empty() {
        return Some(0);
    }
    let host = host.name()?.to_ascii_lowercase();
    let ranks = rule.hosts.iter().filter_map(|own| match own {
        HostPattern::Exact(own) => (host == *own).then_some(usize::MAX),
        HostPattern::Below(own) => host
            .strip_suffix(own.as_str())
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            .then_some(own.len()),
    });
    ranks.max()
}

fn covers_method(rule: &Rule, method: Method<'_>) -> bool {
    rule.methods.is_empty()
        || rule.names_method(method.as_str())
        || (method.as_str() == "HEAD" && rule.names_method("GET"))
}

/// Every pair of rules that decide some request with equal precedence.
pub(super) fn ties(rules: &[Rule]) -> Vec<Conflict> {
    let mut ties = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        for other in rules.iter().skip(index + 1) {
            if tie(rule, other) {
                ties.push(Conflict::Tie(rule.to_string(), other.to_string()));
            }
        }
    }
    ties
}

fn tie(rule: &Rule, other: &Rule) -> bool {
    let same_path = match (&rule.path, &other.path) {
        (PathPattern::Exact { loose: one, .. }, PathPattern::Exact { loose: other, .. })
        | (PathPattern::Prefix { loose: one, .. }, PathPattern::Prefix { loose: other, .. }) => {
            one == other
        }
        (PathPattern::Exact { .. }, PathPattern::Prefix { .. })
        | (PathPattern::Prefix { .. }, PathPattern::Exact { .. }) => false,
    };
    fn share<T: PartialEq>(one: &[T], other: &[T]) -> bool {
        match (one.is_empty(), other.is_empty()) {
            (true, true) => true,
            (false, false) => one.iter().any(|item| other.contains(item)),
            (true, false) | (false, true) => false,
        }
    }
    same_path && share(&rule.methods, &other.methods) && share(&rule.hosts, &other.hosts)
}
