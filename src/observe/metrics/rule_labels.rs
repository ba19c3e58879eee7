//! The labels of rules: reloads that bring ever new rules must not bring ever new series.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The most rules that have series of their own.
pub(super) const MOST_RULES: usize = 1000;

/// The label of what follows from no rule.
pub(super) const NONE: &str = "none";

/// The label of rules beyond the limit.
pub(super) const OTHER: &str = "other";

/// The rules that have series of their own.
#[derive(Debug, Default)]
pub(super) struct RuleLabels(Mutex<HashSet<Arc<str>>>);

impl RuleLabels {
    /// The label of a rule; `None` beyond the limit.
    pub(super) fn own(&self, name: &Arc<str>) -> Option<Arc<str>> {
        // Every change is complete before anything can panic.
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rules.len() >= MOST_RULES && !rules.contains(name) {
            return None;
        }
        rules.insert(Arc::clone(name));
        Some(Arc::clone(name))
    }
}
