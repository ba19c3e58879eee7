//! The functions for configurations that the Envoy for tests gives to the module.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    super::{
        config::Kind,
        raw::{self, Buffer, ConfigPointer, Pair, SchedulerPointer},
    },
    FAILURE, Sent,
    config::Record as Config,
    read_labels,
};

/// The record of a configuration of this kind.
///
/// # Safety
///
/// The pointer must be one that a hook has got.
unsafe fn config<'a>(pointer: ConfigPointer, kind: Kind) -> &'a Config {
    // SAFETY: by the contract.
    let config = unsafe { &*pointer.cast_const().cast::<Config>() };
    if config.kind != kind {
        config.fault("a function for the other kind of configuration");
    }
    config
}

/// Defines a metric.
///
/// # Safety
///
/// The module must have given these to the function that runs.
unsafe fn define(
    pointer: ConfigPointer,
    kind: &'static str,
    labels: *const Buffer,
    count: usize,
    id: *mut usize,
) -> u32 {
    // SAFETY: a hook got this pointer.
    let config = unsafe { config(pointer, Kind::Filter) };
    if config.refuses_metrics {
        return FAILURE;
    }
    // SAFETY: by the contract.
    unsafe { read_labels(labels, count) };
    let mut metrics = config.metrics.borrow_mut();
    // SAFETY: the module has made room for it.
    unsafe { id.write(metrics.len()) };
    metrics.push((kind, count));
    raw::SUCCESS
}

pub(super) unsafe extern "C" fn http_filter_config_define_counter(
    config: ConfigPointer,
    _name: Buffer,
    labels: *const Buffer,
    count: usize,
    id: *mut usize,
) -> u32 {
    // SAFETY: the module gave these to this function.
    unsafe { define(config, "counter", labels, count, id) }
}

pub(super) unsafe extern "C" fn http_filter_config_define_gauge(
    config: ConfigPointer,
    _name: Buffer,
    labels: *const Buffer,
    count: usize,
    id: *mut usize,
) -> u32 {
    // SAFETY: the module gave these to this function.
    unsafe { define(config, "gauge", labels, count, id) }
}

pub(super) unsafe extern "C" fn http_filter_config_define_histogram(
    config: ConfigPointer,
    _name: Buffer,
    labels: *const Buffer,
    count: usize,
    id: *mut usize,
) -> u32 {
    // SAFETY: the module gave these to this function.
    unsafe { define(config, "histogram", labels, count, id) }
}

/// What a scheduler's pointer points to. It outlives its configuration.
struct Scheduler {
    kind: Kind,
    alive: Arc<AtomicUsize>,
    scheduled: Arc<AtomicUsize>,
}

impl Scheduler {
    fn pointer(kind: Kind, config: &Config) -> SchedulerPointer {
        config.schedulers.fetch_add(1, Ordering::Relaxed);
        let scheduler = Self {
            kind,
            alive: Arc::clone(&config.schedulers),
            scheduled: Arc::clone(&config.scheduled),
        };
        Box::into_raw(Box::new(scheduler)).cast()
    }

    /// # Safety
    ///
    /// The pointer must be one of `pointer` that was not deleted.
    unsafe fn commit(kind: Kind, pointer: SchedulerPointer) {
        // SAFETY: by the contract.
        let scheduler = unsafe { &*pointer.cast_const().cast::<Self>() };
        assert_eq!(scheduler.kind, kind);
        scheduler.scheduled.fetch_add(1, Ordering::Relaxed);
    }

    /// # Safety
    ///
    /// As for `commit`; nobody uses the pointer after this.
    unsafe fn delete(kind: Kind, pointer: SchedulerPointer) {
        // SAFETY: by the contract.
        let scheduler = unsafe { Box::from_raw(pointer.cast::<Self>()) };
        assert_eq!(scheduler.kind, kind);
        scheduler.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) unsafe extern "C" fn http_filter_config_scheduler_new(
    pointer: ConfigPointer,
) -> SchedulerPointer {
    // SAFETY: a hook got this pointer.
    Scheduler::pointer(Kind::Filter, unsafe { config(pointer, Kind::Filter) })
}

pub(super) unsafe extern "C" fn http_filter_config_scheduler_delete(scheduler: SchedulerPointer) {
    // SAFETY: the module got it from `new`, and has not deleted it before.
    unsafe { Scheduler::delete(Kind::Filter, scheduler) }
}

pub(super) unsafe extern "C" fn http_filter_config_scheduler_commit(
    scheduler: SchedulerPointer,
    _event: u64,
) {
    // SAFETY: the module got it from `new`, and has not deleted it.
    unsafe { Scheduler::commit(Kind::Filter, scheduler) }
}

pub(super) unsafe extern "C" fn bootstrap_extension_config_scheduler_new(
    pointer: ConfigPointer,
) -> SchedulerPointer {
    // SAFETY: a hook got this pointer.
    Scheduler::pointer(Kind::Bootstrap, unsafe { config(pointer, Kind::Bootstrap) })
}

pub(super) unsafe extern "C" fn bootstrap_extension_config_scheduler_delete(
    scheduler: SchedulerPointer,
) {
    // SAFETY: the module got it from `new`, and has not deleted it before.
    unsafe { Scheduler::delete(Kind::Bootstrap, scheduler) }
}

pub(super) unsafe extern "C" fn bootstrap_extension_config_scheduler_commit(
    scheduler: SchedulerPointer,
    _event: u64,
) {
    // SAFETY: the module got it from `new`, and has not deleted it.
    unsafe { Scheduler::commit(Kind::Bootstrap, scheduler) }
}

/// Sends a request of a configuration.
///
/// # Safety
///
/// The module must have given these to the function that runs.
unsafe fn call(config: &Config, id: *mut u64, sent: Sent, milliseconds: u64) -> u32 {
    if milliseconds == 0 {
        config.fault("a callout without a timeout");
    }
    if config.refuses_calls.get() {
        return FAILURE;
    }
    // SAFETY: the module has made room for it.
    unsafe { id.write(1) };
    config.sent.borrow_mut().push(sent);
    config.open.set(config.open.get() + 1);
    raw::SUCCESS
}

pub(super) unsafe extern "C" fn http_filter_config_http_callout(
    pointer: ConfigPointer,
    id: *mut u64,
    cluster: Buffer,
    headers: *const Pair,
    count: usize,
    body: Buffer,
    milliseconds: u64,
) -> u32 {
    // SAFETY: a hook got this pointer.
    let config = unsafe { config(pointer, Kind::Filter) };
    // SAFETY: the module gave these to this function.
    let sent = unsafe { Sent::new(cluster, headers, count, body) };
    // SAFETY: the same.
    unsafe { call(config, id, sent, milliseconds) }
}

pub(super) unsafe extern "C" fn bootstrap_extension_http_callout(
    pointer: ConfigPointer,
    id: *mut u64,
    cluster: Buffer,
    headers: *const Pair,
    count: usize,
    body: Buffer,
    milliseconds: u64,
) -> u32 {
    // SAFETY: a hook got this pointer.
    let config = unsafe { config(pointer, Kind::Bootstrap) };
    // SAFETY: the module gave these to this function.
    let sent = unsafe { Sent::new(cluster, headers, count, body) };
    // SAFETY: the same.
    unsafe { call(config, id, sent, milliseconds) }
}

pub(super) unsafe extern "C" fn bootstrap_extension_config_signal_init_complete(
    pointer: ConfigPointer,
) {
    // SAFETY: a hook got this pointer.
    let config = unsafe { config(pointer, Kind::Bootstrap) };
    config.starts.set(config.starts.get() + 1);
}
