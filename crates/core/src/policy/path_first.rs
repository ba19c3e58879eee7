//! The precedence that rules had before the host came first: path, method, host. `doorward policy diff` shows what the new
//! order changes; no request is decided by it.

use super::{
    Access, Policy, Rule,
    index::{Found, Index, PathRank},
};
use crate::{
    path::Path,
    request::{Host, Method},
};

impl Policy {
    /// Which rule decided a request.
    pub(super) fn access_path_first(
        &self,
        method: Method<'_>,
        host: Host<'_>,
        path: &Path<'_>,
    ) -> Access<'_> {
        let rules = self.rules();
        self.access_by(method, host, path, |index, path, extension| {
            find(index, rules, method, host, path, extension)
        })
    }
}

fn find(
    index: &Index,
    rules: &[Rule],
    method: Method<'_>,
    host: Host<'_>,
    path: &str,
    extension: bool,
) -> Found {
    let all = index.find_all(method, host, path, extension);
    let best = all.iter().filter_map(|(host, found)| {
        let (path, number) = found.best?;
        let rule = rules.get(number)?;
        let names_method = !rule.methods.is_empty();
        let names_head = method.is_head() && rule.names_method("HEAD");
        let precedence: (PathRank, _, _, _) = (path, names_method, *host, names_head);
        Some((precedence, (path, number)))
    });
    // The first of several endpoints.
    let missed = all.iter().filter_map(|(_, found)| found.missed);
    let missed = missed.reduce(|one, other| {
        match other.0 > one.0 || (other.0 == one.0 && other.1 < one.1) {
            true => other,
            false => one,
        }
    });
    Found {
        best: best.max().map(|(_, best)| best),
        missed,
    }
}
