//! A configuration in the Envoy for tests.

use std::{
    cell::{Cell, RefCell},
    ffi::c_void,
    ptr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    super::{
        config::Kind,
        hooks::{
            bootstrap::{
                envoy_dynamic_module_on_bootstrap_extension_config_destroy,
                envoy_dynamic_module_on_bootstrap_extension_config_new,
                envoy_dynamic_module_on_bootstrap_extension_config_scheduled,
                envoy_dynamic_module_on_bootstrap_extension_http_callout_done,
                envoy_dynamic_module_on_bootstrap_extension_new,
                envoy_dynamic_module_on_bootstrap_extension_shutdown,
            },
            configuration::{
                envoy_dynamic_module_on_http_filter_config_destroy,
                envoy_dynamic_module_on_http_filter_config_http_callout_done,
                envoy_dynamic_module_on_http_filter_config_new,
                envoy_dynamic_module_on_http_filter_config_scheduled,
            },
        },
        raw::{self, Buffer, ConfigPointer},
    },
    Reply, Sent, install,
};

/// What the Envoy for tests knows of a configuration. Its address is the pointer that the module gets.
pub(super) struct Record {
    pub(super) kind: Kind,
    /// The kinds and the labels of the metrics.
    pub(super) metrics: RefCell<Vec<(&'static str, usize)>>,
    /// How many schedulers the module has not deleted.
    pub(super) schedulers: Arc<AtomicUsize>,
    /// How many calls are scheduled.
    pub(super) scheduled: Arc<AtomicUsize>,
    pub(super) sent: RefCell<Vec<Sent>>,
    /// How many requests have no answer yet.
    pub(super) open: Cell<usize>,
    /// Whether no cluster can be reached.
    pub(super) refuses_calls: Cell<bool>,
    pub(super) refuses_metrics: bool,
    /// How often the module has let Envoy start.
    pub(super) starts: Cell<usize>,
    pub(super) faults: RefCell<Vec<String>>,
}

impl Record {
    pub(super) fn fault(&self, text: impl Into<String>) {
        self.faults.borrow_mut().push(text.into());
    }
}

/// A configuration of the module, until it is dropped.
pub(crate) struct FakeConfig {
    pub(super) record: Rc<Record>,
    pub(super) own: *const c_void,
}

impl FakeConfig {
    /// Configures a filter; `None` if the module refuses.
    pub(crate) fn filter(text: &[u8]) -> Option<Self> {
        Self::new(Kind::Filter, text, false)
    }

    /// Configures a filter in an Envoy that defines no metrics.
    pub(crate) fn without_metrics(text: &[u8]) -> Option<Self> {
        Self::new(Kind::Filter, text, true)
    }

    /// Configures a bootstrap extension; `None` if the module refuses.
    pub(crate) fn bootstrap(text: &[u8]) -> Option<Self> {
        Self::new(Kind::Bootstrap, text, false)
    }

    fn new(kind: Kind, text: &[u8], refuses_metrics: bool) -> Option<Self> {
        install();
        let record = Rc::new(Record {
            kind,
            metrics: RefCell::default(),
            schedulers: Arc::default(),
            scheduled: Arc::default(),
            sent: RefCell::default(),
            open: Cell::default(),
            refuses_calls: Cell::default(),
            refuses_metrics,
            starts: Cell::default(),
            faults: RefCell::default(),
        });
        let new = match kind {
            Kind::Filter => envoy_dynamic_module_on_http_filter_config_new,
            Kind::Bootstrap => envoy_dynamic_module_on_bootstrap_extension_config_new,
        };
        let text: Box<[u8]> = text.into();
        let name: Box<[u8]> = (*b"doorward").into();
        let envoy = Rc::as_ptr(&record).cast_mut().cast::<c_void>();
        // SAFETY: the record and both texts live until the hook returns.
        let own = unsafe { new(envoy, Buffer::of(&name), Buffer::of(&text)) };
        let config = Self { record, own };
        (!own.is_null()).then_some(config)
    }

    fn envoy(&self) -> ConfigPointer {
        Rc::as_ptr(&self.record).cast_mut().cast()
    }

    /// Runs what is scheduled, as Envoy's main thread does; says how many calls that were.
    pub(crate) fn run(&self) -> usize {
        let scheduled = match self.record.kind {
            Kind::Filter => envoy_dynamic_module_on_http_filter_config_scheduled,
            Kind::Bootstrap => envoy_dynamic_module_on_bootstrap_extension_config_scheduled,
        };
        let count = self.record.scheduled.swap(0, Ordering::Relaxed);
        for _ in 0..count {
            // SAFETY: the record lives, and the module made `own`.
            unsafe { scheduled(self.envoy(), self.own, 0) }
        }
        count
    }

    /// Answers a request, whether or not there is one; `None` is a failure.
    pub(crate) fn answer(&self, answer: Option<(&[u8], &[u8])>) {
        let done = match self.record.kind {
            Kind::Filter => envoy_dynamic_module_on_http_filter_config_http_callout_done,
            Kind::Bootstrap => envoy_dynamic_module_on_bootstrap_extension_http_callout_done,
        };
        let open = self.record.open.get();
        self.record.open.set(open.saturating_sub(1));
        let Some((status, body)) = answer else {
            // SAFETY: the record lives, the module made `own`, and a failure has no headers.
            return unsafe { done(self.envoy(), self.own, 1, 1, ptr::null(), 0, ptr::null(), 0) };
        };
        let reply = Reply::new(status, body, 7);
        // SAFETY: the record lives, the module made `own`, and the reply lives until the hook returns.
        unsafe {
            done(
                self.envoy(),
                self.own,
                1,
                raw::SUCCESS,
                reply.pairs.as_ptr(),
                reply.pairs.len(),
                reply.chunks.as_ptr(),
                reply.chunks.len(),
            );
        }
    }

    /// The requests that the module sent.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.record.sent.borrow().clone()
    }

    /// From now on, no cluster can be reached, or each can.
    pub(crate) fn refuse_calls(&self, refuses: bool) {
        self.record.refuses_calls.set(refuses);
    }

    /// How often the module has let Envoy start.
    pub(crate) fn starts(&self) -> usize {
        self.record.starts.get()
    }

    /// Shuts a bootstrap extension down; says how often the module has let Envoy go on.
    pub(crate) fn shut_down(&self) -> usize {
        unsafe extern "C" fn go_on(context: *mut c_void) {
            // SAFETY: the context is this counter.
            let count = unsafe { &*context.cast::<Cell<usize>>() };
            count.set(count.get() + 1);
        }
        let count = Cell::new(0);
        let context = ptr::from_ref(&count).cast_mut().cast();
        let extension = envoy_dynamic_module_on_bootstrap_extension_new(self.own, self.envoy());
        assert!(
            !extension.is_null(),
            "Envoy refuses an extension without a pointer"
        );
        // SAFETY: the module made `extension`, and the counter lives until the hook returns.
        unsafe {
            envoy_dynamic_module_on_bootstrap_extension_shutdown(
                self.envoy(),
                extension,
                Some(go_on),
                context,
            );
        }
        count.get()
    }
}

impl Drop for FakeConfig {
    fn drop(&mut self) {
        if !self.own.is_null() {
            let destroy = match self.record.kind {
                Kind::Filter => envoy_dynamic_module_on_http_filter_config_destroy,
                Kind::Bootstrap => envoy_dynamic_module_on_bootstrap_extension_config_destroy,
            };
            // SAFETY: the module made it, and gets it back once.
            unsafe { destroy(self.own) }
        }
        if std::thread::panicking() {
            return;
        }
        let faults = self.record.faults.borrow();
        assert!(faults.is_empty(), "{faults:?}");
        // Each belongs to one configuration, whose memory Envoy frees now.
        assert_eq!(self.record.schedulers.load(Ordering::Relaxed), 0);
    }
}
