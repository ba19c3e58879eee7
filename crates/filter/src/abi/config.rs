//! A configuration of the module, on Envoy's main thread: of an HTTP filter, or of a bootstrap extension.

use std::{marker::PhantomData, mem, time::Duration};

use super::{
    raw::{self, Buffer, Callbacks, ConfigPointer, Pair, SchedulerPointer},
    stream::{Header, milliseconds},
};

/// A counter, a gauge or a histogram of a filter configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metric(pub(super) usize);

/// A configuration, for as long as a hook runs.
#[derive(Debug)]
pub(crate) struct Config<'hook> {
    envoy: &'static Callbacks,
    kind: Kind,
    pointer: ConfigPointer,
    hook: PhantomData<&'hook ()>,
}

/// What a configuration belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An HTTP filter.
    Filter,
    /// A bootstrap extension.
    Bootstrap,
}

/// Identifies a configuration as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConfigId(usize);

type Callout =
    unsafe extern "C" fn(ConfigPointer, *mut u64, Buffer, *const Pair, usize, Buffer, u64) -> u32;

impl Config<'_> {
    /// # Safety
    ///
    /// The pointer must be of a configuration of this kind, the one that Envoy gave to the hook that runs, on its main
    /// thread, and the lifetime must end with the hook.
    pub(super) unsafe fn new(
        envoy: &'static Callbacks,
        kind: Kind,
        pointer: ConfigPointer,
    ) -> Self {
        Self {
            envoy,
            kind,
            pointer,
            hook: PhantomData,
        }
    }

    /// Whether Envoy only validates its configuration and exits.
    pub(crate) fn is_validated(&self) -> bool {
        // SAFETY: any thread may ask this at any time.
        unsafe { (self.envoy.is_validation_mode)() }
    }

    /// Whether it lives as long as Envoy.
    pub(crate) fn is_bootstrap(&self) -> bool {
        self.kind == Kind::Bootstrap
    }

    /// Distinguishes it from all others that live.
    pub(crate) fn id(&self) -> ConfigId {
        ConfigId(self.pointer.addr())
    }

    /// Defines a counter; only while a filter configuration is made.
    pub(crate) fn counter(&self, name: &str, labels: &[&str]) -> Option<Metric> {
        self.define(self.envoy.http_filter_config_define_counter, name, labels)
    }

    /// Defines a gauge; only while a filter configuration is made.
    pub(crate) fn gauge(&self, name: &str) -> Option<Metric> {
        self.define(self.envoy.http_filter_config_define_gauge, name, &[])
    }

    /// Defines a histogram; only while a filter configuration is made.
    pub(crate) fn histogram(&self, name: &str) -> Option<Metric> {
        let function = self.envoy.http_filter_config_define_histogram;
        self.define(function, name, &[])
    }

    fn define(
        &self,
        function: unsafe extern "C" fn(
            ConfigPointer,
            Buffer,
            *const Buffer,
            usize,
            *mut usize,
        ) -> u32,
        name: &str,
        labels: &[&str],
    ) -> Option<Metric> {
        if self.kind != Kind::Filter {
            return None;
        }
        let labels: Vec<_> = labels
            .iter()
            .map(|label| Buffer::of(label.as_bytes()))
            .collect();
        let mut id = 0;
        // SAFETY: the configuration is a filter's and lives while its hook runs, and Envoy copies the names.
        let result = unsafe {
            function(
                self.pointer,
                Buffer::of(name.as_bytes()),
                labels.as_ptr(),
                labels.len(),
                &raw mut id,
            )
        };
        (result == raw::SUCCESS).then_some(Metric(id))
    }

    /// Sends a request to a cluster; a hook gets the answer. Says whether it was sent.
    #[must_use]
    pub(crate) fn call(&self, cluster: &str, headers: &[Header<'_>], timeout: Duration) -> bool {
        let function: Callout = match self.kind {
            Kind::Filter => self.envoy.http_filter_config_http_callout,
            Kind::Bootstrap => self.envoy.bootstrap_extension_http_callout,
        };
        let pairs: Vec<Pair> = headers.iter().copied().map(Pair::of).collect();
        let mut id = 0;
        // SAFETY: the configuration is of the kind that the function takes and lives while its hook runs, and Envoy copies
        // everything. It does not call back from within.
        let result = unsafe {
            function(
                self.pointer,
                &raw mut id,
                Buffer::of(cluster.as_bytes()),
                pairs.as_ptr(),
                pairs.len(),
                Buffer::NONE,
                milliseconds(timeout),
            )
        };
        result == raw::SUCCESS
    }

    /// A scheduler that calls the module back on Envoy's main thread.
    pub(crate) fn scheduler(&self) -> Scheduler {
        let new = match self.kind {
            Kind::Filter => self.envoy.http_filter_config_scheduler_new,
            Kind::Bootstrap => self.envoy.bootstrap_extension_config_scheduler_new,
        };
        Scheduler {
            envoy: self.envoy,
            kind: self.kind,
            // SAFETY: the configuration is of the kind that the function takes and lives while its hook runs.
            pointer: unsafe { new(self.pointer) },
        }
    }

    /// Lets Envoy open its listeners. It waits until every bootstrap extension has said so.
    pub(crate) fn let_envoy_start(&self) {
        if self.kind == Kind::Bootstrap {
            // SAFETY: the configuration is a bootstrap extension's and lives while its hook runs.
            unsafe {
                (self.envoy.bootstrap_extension_config_signal_init_complete)(self.pointer);
            }
        }
    }
}

/// Schedules, from any thread, a call of a configuration's hook on Envoy's main thread. Does nothing if the configuration
/// is gone.
#[derive(Debug)]
pub(crate) struct Scheduler {
    envoy: &'static Callbacks,
    kind: Kind,
    pointer: SchedulerPointer,
}

// SAFETY: Envoy's schedulers hold a weak pointer to their configuration and the dispatcher of the main thread, whose `post`
// any thread may call; the header says so.
unsafe impl Send for Scheduler {}
// SAFETY: the same; committing does not change the scheduler.
unsafe impl Sync for Scheduler {}

impl Scheduler {
    /// Schedules a call of the hook.
    pub(crate) fn wake(&self) {
        let commit = match self.kind {
            Kind::Filter => self.envoy.http_filter_config_scheduler_commit,
            Kind::Bootstrap => self.envoy.bootstrap_extension_config_scheduler_commit,
        };
        // SAFETY: the scheduler is of the kind that the function takes, and lives until it is dropped.
        unsafe { commit(self.pointer, 0) }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let delete = match self.kind {
            Kind::Filter => self.envoy.http_filter_config_scheduler_delete,
            Kind::Bootstrap => self.envoy.bootstrap_extension_config_scheduler_delete,
        };
        let pointer = mem::replace(&mut self.pointer, std::ptr::null_mut());
        // SAFETY: the scheduler is of the kind that the function takes, and nobody uses it after this.
        unsafe { delete(pointer) }
    }
}
