//! The value in force, replaced as a whole, so that no request sees a mix of old and new.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

/// A value that is replaced while it is used.
#[derive(Debug)]
pub struct Current<T>(Arc<ArcSwap<T>>);

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Current<T> {
    /// Puts the first value in force.
    #[must_use]
    pub fn new(first: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// The current value, for one request; takes no lock.
    #[must_use]
    pub fn now(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// The current value, for work that takes longer than one request.
    #[must_use]
    pub fn keep(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Replaces the value for all later requests.
    pub fn exchange(&self, next: T) {
        self.0.store(Arc::new(next));
    }
}
