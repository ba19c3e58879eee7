//! Finds the rules for a request by its host, the segments of its path and its method. The cost depends on the request
//! and on the longest rule, not on the number of rules.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    fmt,
};

use super::{
    Demand,
    pattern::{HostPattern, PathPattern, Reading},
    rule::Rule,
};
use crate::request::{Host, Method};

/// The index of a rule in its policy.
pub(super) type Number = usize;

/// How specific the match of a path is: exact before prefix, then the number of bytes of the rule's path.
pub(super) type PathRank = (bool, usize);

/// All rules, in one reading of their paths.
#[derive(Default)]
pub(super) struct Index {
    /// Rules without hosts.
    everywhere: Tree,
    hosts: HashMap<Box<str>, Tree>,
    /// Rules for all hosts below one.
    below: HashMap<Box<str>, Tree>,
    /// The length of the longest name in `below`; longer names are not looked up.
    longest_below: usize,
}

/// The rules of one host, by the segments of their paths.
#[derive(Default)]
struct Tree {
    root: Node,
}

#[derive(Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    /// The length of the longest segment in `children`.
    longest: usize,
    /// Rules for exactly this path.
    exact: Slot,
    /// Rules for this path and everything below.
    prefix: Slot,
}

/// The rules of one host and one path, by method.
#[derive(Default)]
struct Slot {
    /// Sorted by method.
    methods: Vec<(Box<str>, Number)>,
    /// The rule for all other methods.
    any: Option<Number>,
    /// The first rule for an endpoint.
    endpoint: Option<Number>,
}

/// What the rules of one host have for a request.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    /// The rule with the most specific path that covers the request.
    pub(super) best: Option<(PathRank, Number)>,
    /// The endpoint with the most specific path that matches but does not accept the method.
    pub(super) missed: Option<(PathRank, Number)>,
}

impl Index {
    /// Takes rules in the order of their numbers. Also returns the ties: pairs of rules that decide the same request with
    /// equal precedence. If more than two rules tie, each is paired with the first.
    pub(super) fn new(rules: &[Rule], reading: Reading) -> (Self, BTreeSet<(Number, Number)>) {
        let mut index = Self::default();
        let mut ties = BTreeSet::new();
        for (number, rule) in rules.iter().enumerate() {
            if rule.hosts.is_empty() {
                let slot = index.everywhere.slot(&rule.path, reading);
                slot.insert(number, rule, &mut ties);
            }
            for host in &rule.hosts {
                let tree = match host {
                    HostPattern::Exact(name) => index.hosts.entry(name.as_str().into()),
                    HostPattern::Below(name) => {
                        index.longest_below = index.longest_below.max(name.len());
                        index.below.entry(name.as_str().into())
                    }
                };
                let slot = tree.or_default().slot(&rule.path, reading);
                slot.insert(number, rule, &mut ties);
            }
        }
        (index, ties)
    }

    /// Finds the rules of the most specific host that has any for a request. With `extension`, the last segment of the
    /// path also matches without its extension.
    pub(super) fn find(
        &self,
        method: Method<'_>,
        host: Host<'_>,
        path: &str,
        extension: bool,
    ) -> Found {
        let ask = Ask {
            method,
            path,
            extension,
        };
        let of_host = match self.hosts.is_empty() && self.below.is_empty() {
            true => None,
            false => host.name().and_then(|name| self.of_host(name, &ask)),
        };
        of_host.unwrap_or_else(|| self.everywhere.find(&ask))
    }

    /// What every pattern that covers a host has for a request, each with the length of the pattern: the most for an exact
    /// one, 0 for the rules without hosts.
    pub(super) fn find_all(
        &self,
        method: Method<'_>,
        host: Host<'_>,
        path: &str,
        extension: bool,
    ) -> Vec<(usize, Found)> {
        let ask = Ask {
            method,
            path,
            extension,
        };
        let name = lowercase(host.name().unwrap_or_default());
        let parents = name
            .match_indices('.')
            .filter_map(|(dot, _)| name.get(dot + 1..));
        let below = parents.filter_map(|parent| Some((parent.len(), self.below.get(parent)?)));
        let exact = self.hosts.get(&*name).map(|tree| (usize::MAX, tree));
        [(0, &self.everywhere)]
            .into_iter()
            .chain(exact)
            .chain(below)
            .map(|(length, tree)| (length, tree.find(&ask)))
            .collect()
    }

    /// Tries every pattern that covers a host, the most specific one first, until one has rules for the request.
    fn of_host(&self, name: &str, ask: &Ask<'_>) -> Option<Found> {
        let name = lowercase(name);
        let parents = name
            .match_indices('.')
            .filter_map(|(dot, _)| name.get(dot + 1..));
        let below = parents
            .filter(|parent| parent.len() <= self.longest_below)
            .filter_map(|parent| self.below.get(parent));
        let trees = self.hosts.get(&*name).into_iter().chain(below);
        trees
            .map(|tree| tree.find(ask))
            .find(|found| found.best.is_some() || found.missed.is_some())
    }
}

fn lowercase(name: &str) -> Cow<'_, str> {
    match name.contains(|c: char| c.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Index(..)")
    }
}

/// The part of a request that is the same for every host pattern.
struct Ask<'a> {
    method: Method<'a>,
    path: &'a str,
    extension: bool,
}

impl Tree {
    fn slot(&mut self, path: &PathPattern, reading: Reading) -> &mut Slot {
        let (PathPattern::Exact { raw, loose } | PathPattern::Prefix { raw, loose }) = path;
        let mut node = &mut self.root;
        // The prefix `/*` has no segments.
        if let Some(segments) = reading.of(raw, loose).strip_prefix('/') {
            for segment in segments.split('/') {
                node.longest = node.longest.max(segment.len());
                node = node.children.entry(segment.into()).or_default();
            }
        }
        match path {
            PathPattern::Exact { .. } => &mut node.exact,
            PathPattern::Prefix { .. } => &mut node.prefix,
        }
    }

    /// Walks down the path, so that later matches are more specific than earlier ones.
    fn find(&self, ask: &Ask<'_>) -> Found {
        let (mut exact, mut prefix) = (Found::default(), Found::default());
        let mut node = &self.root;
        let mut length = 0;
        prefix.see(&node.prefix, ask.method, (false, length));
        let mut rest = ask.path.strip_prefix('/');
        while let Some(segments) = rest {
            let (segment, below) = match segments.split_once('/') {
                Some((segment, below)) => (segment, Some(below)),
                None => (segments, None),
            };
            let dots = match below {
                None if ask.extension => segment,
                None | Some(_) => "",
            };
            // A segment may have thousands of dots; names that no rule has are not looked up.
            let names = dots.match_indices('.').map(|(dot, _)| dot);
            let names = names.take_while(|dot| *dot <= node.longest);
            for name in names.filter_map(|dot| segment.get(..dot)) {
                if let Some(own) = node.children.get(name) {
                    let length = length + 1 + name.len();
                    prefix.see(&own.prefix, ask.method, (false, length));
                    exact.see(&own.exact, ask.method, (true, length));
                }
            }
            let Some(own) = node.children.get(segment) else {
                break;
            };
            node = own;
            length += 1 + segment.len();
            prefix.see(&node.prefix, ask.method, (false, length));
            if below.is_none() {
                exact.see(&node.exact, ask.method, (true, length));
            }
            rest = below;
        }
        exact.or(prefix)
    }
}

impl Slot {
    fn insert(&mut self, number: Number, rule: &Rule, ties: &mut BTreeSet<(Number, Number)>) {
        if rule.methods.is_empty() {
            match self.any {
                // The rule names one host twice.
                Some(first) if first == number => {}
                Some(first) => drop(ties.insert((first, number))),
                None => self.any = Some(number),
            }
        }
        for method in &rule.methods {
            match (self.named(method), self.position(method)) {
                (Some(first), _) if first == number => {}
                (Some(first), _) => drop(ties.insert((first, number))),
                (None, Ok(at) | Err(at)) => {
                    self.methods.insert(at, (method.as_str().into(), number));
                }
            }
        }
        if matches!(rule.demand, Demand::Endpoint(_)) {
            self.endpoint.get_or_insert(number);
        }
    }

    fn position(&self, method: &str) -> Result<usize, usize> {
        self.methods
            .binary_search_by(|(own, _)| (**own).cmp(method))
    }

    fn named(&self, method: &str) -> Option<Number> {
        let at = self.position(method).ok()?;
        self.methods.get(at).map(|(_, number)| *number)
    }
}

impl Found {
    /// Takes rules whose path is more specific than those of all earlier calls.
    fn see(&mut self, slot: &Slot, method: Method<'_>, path: PathRank) {
        // Services answer `HEAD` with the handler of `GET`.
        let as_get = || method.is_head().then(|| slot.named("GET")).flatten();
        let named = slot.named(method.as_str()).or_else(as_get);
        match (named.or(slot.any), slot.endpoint) {
            (Some(rule), _) => self.best = Some((path, rule)),
            (None, Some(endpoint)) => self.missed = Some((path, endpoint)),
            (None, None) => {}
        }
    }

    /// What was found here, and otherwise what the other has, which is less specific.
    fn or(self, other: Self) -> Self {
        let Self { best, missed } = self;
        let best = best.or(other.best);
        let missed = missed.or(other.missed);
        Self { best, missed }
    }
}
