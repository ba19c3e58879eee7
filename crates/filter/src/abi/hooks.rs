//! The functions that Envoy calls. No panic leaves them: a request is answered with 503 instead.

pub(super) mod bootstrap;
pub(super) mod configuration;

use std::{
    ffi::{c_char, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use super::{
    log::{self, Level},
    raw::{self, Buffer, Missing, Pair, StreamPointer},
    reply::Reply,
    stream::{Flow, Stream},
};
use crate::filter::{Exchange, Filter};

/// What Envoy holds for one request: its filter, and the filter's state of it.
struct Slot {
    filter: *const Filter,
    exchange: Exchange,
}

impl Slot {
    fn filter(&self) -> &Filter {
        // SAFETY: Envoy destroys a filter configuration only after all requests of it.
        unsafe { &*self.filter }
    }
}

/// A reference to a slot. It keeps the slot alive if Envoy destroys the request while the hook runs.
///
/// # Safety
///
/// The pointer must be one that `on_http_filter_new` gave to Envoy, and that Envoy has not destroyed yet; on the thread of
/// the request.
unsafe fn slot(pointer: *const c_void) -> Rc<Slot> {
    let pointer = pointer.cast::<Slot>();
    // SAFETY: by the contract, Envoy holds a reference.
    unsafe { Rc::increment_strong_count(pointer) };
    // SAFETY: it was counted just now.
    unsafe { Rc::from_raw(pointer) }
}

/// Runs a hook of one request. If it panics, the client gets 503.
fn guard(
    envoy: StreamPointer,
    pointer: *const c_void,
    hook: impl FnOnce(&Filter, &Exchange, Stream<'_>) -> Flow,
) -> Flow {
    let Some(callbacks) = raw::loaded() else {
        return Flow::Stop;
    };
    let run = AssertUnwindSafe(|| {
        // SAFETY: Envoy gave this pointer to the hook.
        let slot = unsafe { slot(pointer) };
        // SAFETY: and this one; the stream is not kept.
        let stream = unsafe { Stream::new(callbacks, envoy) };
        hook(slot.filter(), &slot.exchange, stream)
    });
    catch_unwind(run).unwrap_or_else(|_| {
        // SAFETY: the same pointer; the hook has not answered, because that is always its last step.
        let stream = unsafe { Stream::new(callbacks, envoy) };
        crate::filter::refuse_after_panic(stream);
        Flow::Stop
    })
}

/// Runs a hook that is not of a request; `None` if it panics.
fn quietly<T>(hook: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(hook)).ok()
}

/// Envoy loads the module.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    let loaded = quietly(|| {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string);
            let place = place.unwrap_or_default();
            log::write(Level::Error, &format!("doorward: panicked at {place}"));
        }));
        raw::load().map(|_| raw::version())
    });
    match loaded {
        Some(Ok(version)) => version.as_ptr(),
        Some(Err(Missing(name))) => {
            log::write(
                Level::Error,
                &format!(
                    "doorward: this Envoy is too old or too new: it has no function {name}; the module needs Envoy 1.38, 1.39 or 1.40"
                ),
            );
            std::ptr::null()
        }
        None => std::ptr::null(),
    }
}

/// A request begins.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn envoy_dynamic_module_on_http_filter_new(
    filter: *const c_void,
    _envoy: StreamPointer,
) -> *const c_void {
    let slot = Slot {
        filter: filter.cast(),
        exchange: Exchange::default(),
    };
    Rc::into_raw(Rc::new(slot)).cast()
}

/// A request has ended.
///
/// # Safety
///
/// Envoy alone calls this, once for each request.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn envoy_dynamic_module_on_http_filter_destroy(
    request: *const c_void,
) {
    let request = request.cast::<Slot>();
    // SAFETY: it is the pointer that `new` made of an `Rc`, and Envoy gives it back once.
    quietly(|| drop(unsafe { Rc::from_raw(request) }));
}

/// Request headers were received.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    envoy: StreamPointer,
    request: *const c_void,
    is_last: bool,
) -> u32 {
    guard(envoy, request, |filter, exchange, stream| {
        filter.request_headers(exchange, stream, is_last)
    })
    .of_headers()
}

/// A part of a request body was received.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
    envoy: StreamPointer,
    request: *const c_void,
    is_last: bool,
) -> u32 {
    guard(envoy, request, |filter, exchange, stream| {
        filter.request_body(exchange, stream, is_last)
    })
    .of_body()
}

/// Request trailers were received.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_trailers(
    envoy: StreamPointer,
    request: *const c_void,
) -> u32 {
    guard(envoy, request, |filter, exchange, stream| {
        filter.request_trailers(exchange, stream)
    })
    .of_headers()
}

/// Response headers were received.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(
    envoy: StreamPointer,
    request: *const c_void,
    _is_last: bool,
) -> u32 {
    guard(envoy, request, |filter, exchange, stream| {
        filter.response_headers(exchange, stream)
    })
    .of_headers()
}

/// A callout of a request has ended.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn envoy_dynamic_module_on_http_filter_http_callout_done(
    envoy: StreamPointer,
    request: *const c_void,
    _id: u64,
    result: u32,
    headers: *const Pair,
    count: usize,
    chunks: *const Buffer,
    chunk_count: usize,
) {
    guard(envoy, request, |filter, exchange, stream| {
        // SAFETY: Envoy gave these to the hook, which keeps none of it.
        let reply = unsafe { Reply::new(result, headers, count, chunks, chunk_count) };
        filter.called(exchange, stream, reply);
        Flow::Stop
    });
}

/// Hooks that Envoy looks for and that do nothing here. They read no argument, so they declare none.
macro_rules! nothing_to_do {
    ($($name:ident),+ $(,)?) => { $(
        /// Nothing to do.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> u32 {
            Flow::Continue.of_headers()
        }
    )+ };
}

nothing_to_do! {
    envoy_dynamic_module_on_http_filter_response_body,
    envoy_dynamic_module_on_http_filter_response_trailers,
    envoy_dynamic_module_on_http_filter_stream_complete,
    envoy_dynamic_module_on_http_filter_scheduled,
    envoy_dynamic_module_on_http_filter_http_stream_headers,
    envoy_dynamic_module_on_http_filter_http_stream_data,
    envoy_dynamic_module_on_http_filter_http_stream_trailers,
    envoy_dynamic_module_on_http_filter_http_stream_complete,
    envoy_dynamic_module_on_http_filter_http_stream_reset,
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark,
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark,
    envoy_dynamic_module_on_http_filter_local_reply,
    envoy_dynamic_module_on_bootstrap_extension_server_initialized,
    envoy_dynamic_module_on_bootstrap_extension_worker_thread_initialized,
    envoy_dynamic_module_on_bootstrap_extension_drain_started,
    envoy_dynamic_module_on_bootstrap_extension_destroy,
    envoy_dynamic_module_on_bootstrap_extension_timer_fired,
    envoy_dynamic_module_on_bootstrap_extension_file_changed,
    envoy_dynamic_module_on_bootstrap_extension_admin_request,
    envoy_dynamic_module_on_bootstrap_extension_cluster_add_or_update,
    envoy_dynamic_module_on_bootstrap_extension_cluster_removal,
    envoy_dynamic_module_on_bootstrap_extension_listener_add_or_update,
    envoy_dynamic_module_on_bootstrap_extension_listener_removal,
}
