//! The functions that Envoy calls. No panic leaves them: a request is answered with 503 instead.

mod bootstrap;

use std::{
    ffi::{c_char, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use super::{
    config::Config,
    log::{self, Level},
    raw::{self, Buffer, ConfigPointer, Missing, Pair, StreamPointer},
    stream::{Header, Stream},
};
use crate::{
    bootstrap::Bootstrap,
    filter::{Exchange, Filter},
};

/// What Envoy does next with a request, as each hook has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It goes on.
    Continue,
    /// It waits, or has been answered.
    Stop,
    /// It waits, and Envoy keeps what has come of the body, for the service.
    Keep,
    /// It waits, and Envoy reads no more of the body than its buffers take.
    Pause,
}

impl Flow {
    /// `envoy_dynamic_module_type_on_http_filter_request_headers_status`, and of trailers and responses.
    fn of_headers(self) -> u32 {
        match self {
            Self::Continue => 0,
            Self::Stop | Self::Keep | Self::Pause => 1,
        }
    }

    /// `envoy_dynamic_module_type_on_http_filter_request_body_status`.
    fn of_body(self) -> u32 {
        match self {
            Self::Continue => 0,
            Self::Keep => 1,
            Self::Pause => 2,
            Self::Stop => 3,
        }
    }
}

/// The answer to a callout. No `Debug`: it may contain tokens.
pub(crate) struct Reply<'a> {
    /// The status; 0 where there is none.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
    headers: &'a [Pair],
}

impl<'a> Reply<'a> {
    /// # Safety
    ///
    /// Envoy must have given these to the hook that runs, and `'a` must end with the hook.
    unsafe fn new(
        result: u32,
        headers: *const Pair,
        count: usize,
        chunks: *const Buffer,
        chunk_count: usize,
    ) -> Option<Self> {
        if result != raw::SUCCESS || headers.is_null() {
            return None;
        }
        // SAFETY: by the contract, these are as many headers.
        let headers = unsafe { std::slice::from_raw_parts(headers, count) };
        let mut body = Vec::new();
        if !chunks.is_null() {
            // SAFETY: by the contract, these are as many chunks.
            let chunks = unsafe { std::slice::from_raw_parts(chunks, chunk_count) };
            for chunk in chunks {
                // SAFETY: Envoy filled the chunk, which lives as long as the hook.
                body.extend_from_slice(unsafe { chunk.bytes() });
            }
        }
        let mut reply = Self {
            status: 0,
            body,
            headers,
        };
        let status = reply.headers().find(|(name, _)| *name == b":status");
        let status = status.and_then(|(_, value)| str::from_utf8(value).ok()?.parse().ok());
        reply.status = status.unwrap_or(0);
        Some(reply)
    }

    /// All headers.
    pub(crate) fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        self.headers.iter().map(|pair| {
            // SAFETY: Envoy filled the pair, which lives as long as the hook.
            let name = unsafe { pair.name.bytes() };
            // SAFETY: the same.
            let value = unsafe { pair.value.bytes() };
            (name, value)
        })
    }
}

/// What Envoy holds for one request: the filter that it was made by, and what the filter knows of it.
struct Slot {
    filter: *const Filter,
    exchange: Exchange,
}

impl Slot {
    /// Its filter.
    fn filter(&self) -> &Filter {
        // SAFETY: Envoy destroys a filter configuration only after all requests of it.
        unsafe { &*self.filter }
    }
}

/// Another reference to a slot, which lives on if Envoy destroys the request while the hook runs.
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

/// Runs a hook of one request. If it panics, the client gets a 503.
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
        // SAFETY: the same pointer; the hook has ended without an answer, which would have been its last step.
        let stream = unsafe { Stream::new(callbacks, envoy) };
        crate::filter::refuse_after_panic(stream);
        Flow::Stop
    })
}

/// Runs a hook that answers nobody.
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

/// A filter configuration is made, on the main thread.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    envoy: ConfigPointer,
    _name: Buffer,
    text: Buffer,
) -> *const c_void {
    let Some(callbacks) = raw::loaded() else {
        return std::ptr::null();
    };
    let made = quietly(|| {
        // SAFETY: Envoy gave this pointer to the hook, which runs on the main thread.
        let config = unsafe { Config::of_filter(callbacks, envoy) };
        // SAFETY: Envoy filled it for this hook.
        Filter::new(&config, unsafe { text.bytes() })
    });
    match made {
        Some(Ok(filter)) => Box::into_raw(Box::new(filter)).cast_const().cast(),
        Some(Err(fault)) => {
            log::write(Level::Error, &format!("doorward: {fault}"));
            std::ptr::null()
        }
        None => std::ptr::null(),
    }
}

/// A filter configuration is gone, with all of its requests.
///
/// # Safety
///
/// Envoy alone calls this, once.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(filter: *const c_void) {
    let filter = filter.cast_mut().cast::<Filter>();
    // SAFETY: it is the pointer that `config_new` made of a box, and Envoy gives it back once.
    quietly(|| drop(unsafe { Box::from_raw(filter) }));
}

/// A request begins.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_new(
    filter: *const c_void,
    _envoy: StreamPointer,
) -> *const c_void {
    let slot = Slot {
        filter: filter.cast(),
        exchange: Exchange::default(),
    };
    Rc::into_raw(Rc::new(slot)).cast()
}

/// A request is over.
///
/// # Safety
///
/// Envoy alone calls this, once for each request.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_destroy(request: *const c_void) {
    let request = request.cast::<Slot>();
    // SAFETY: it is the pointer that `new` made of an `Rc`, and Envoy gives it back once.
    quietly(|| drop(unsafe { Rc::from_raw(request) }));
}

/// The headers of a request have come.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    envoy: StreamPointer,
    request: *const c_void,
    is_last: bool,
) -> u32 {
    guard(envoy, request, |filter, exchange, stream| {
        filter.request_headers(exchange, stream, is_last)
    })
    .of_headers()
}

/// A part of the body of a request has come.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
    envoy: StreamPointer,
    request: *const c_void,
    is_last: bool,
) -> u32 {
    guard(envoy, request, |filter, exchange, stream| {
        filter.request_body(exchange, stream, is_last)
    })
    .of_body()
}

/// The trailers of a request have come.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_trailers(
    envoy: StreamPointer,
    request: *const c_void,
) -> u32 {
    guard(envoy, request, |filter, exchange, stream| {
        filter.request_trailers(exchange, stream)
    })
    .of_headers()
}

/// The headers of a response have come.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(
    envoy: StreamPointer,
    request: *const c_void,
    _is_last: bool,
) -> u32 {
    guard(envoy, request, |filter, exchange, stream| {
        filter.response_headers(exchange, stream)
    })
    .of_headers()
}

/// A callout of a request has an answer, or none.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_http_callout_done(
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

/// A scheduler of a filter configuration was woken, on the main thread.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(
    envoy: ConfigPointer,
    filter: *const c_void,
    _event: u64,
) {
    let Some(callbacks) = raw::loaded() else {
        return;
    };
    quietly(|| {
        // SAFETY: Envoy gave this pointer to the hook, which runs on the main thread.
        let config = unsafe { Config::of_filter(callbacks, envoy) };
        // SAFETY: it is the pointer that `config_new` made of a box; Envoy has not given it back yet.
        let filter = unsafe { &*filter.cast::<Filter>() };
        filter.woken(&config);
    });
}

/// A callout of a filter configuration has an answer, or none; on the main thread.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_http_callout_done(
    envoy: ConfigPointer,
    filter: *const c_void,
    _id: u64,
    result: u32,
    headers: *const Pair,
    count: usize,
    chunks: *const Buffer,
    chunk_count: usize,
) {
    let Some(callbacks) = raw::loaded() else {
        return;
    };
    quietly(|| {
        // SAFETY: Envoy gave this pointer to the hook, which runs on the main thread.
        let config = unsafe { Config::of_filter(callbacks, envoy) };
        // SAFETY: Envoy gave these to the hook, which keeps none of it.
        let reply = unsafe { Reply::new(result, headers, count, chunks, chunk_count) };
        // SAFETY: it is the pointer that `config_new` made of a box; Envoy has not given it back yet.
        let filter = unsafe { &*filter.cast::<Filter>() };
        filter.fed(&config, reply);
    });
}

/// Hooks that Envoy looks for, and that have nothing to do here. Their arguments are not read, so they need not be named.
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
