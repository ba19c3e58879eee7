//! The hooks of filter configurations, and what they share with those of bootstrap extensions. Envoy calls all of them on
//! its main thread, and holds a box for each configuration.

use std::{ffi::c_void, fmt, ptr};

use super::{
    super::config::{Config, Kind},
    Buffer, Filter, Level, Pair, Reply, log, quietly, raw,
};
use crate::abi::raw::ConfigPointer;

/// Reads a configuration. If it is refused, Envoy gets null, and its log says why.
///
/// # Safety
///
/// Envoy must have given the pointer, of this kind, and the text to the hook that runs.
pub(super) unsafe fn make<T, F: fmt::Display>(
    kind: Kind,
    envoy: ConfigPointer,
    text: Buffer,
    new: impl FnOnce(&Config<'_>, &[u8]) -> Result<T, F>,
) -> *const c_void {
    let Some(callbacks) = raw::loaded() else {
        return ptr::null();
    };
    let made = quietly(|| {
        // SAFETY: by the contract of this function; the configuration is not kept.
        let config = unsafe { Config::new(callbacks, kind, envoy) };
        // SAFETY: by the contract, Envoy filled it for this hook.
        new(&config, unsafe { text.bytes() })
    });
    match made {
        Some(Ok(own)) => Box::into_raw(Box::new(own)).cast_const().cast(),
        Some(Err(fault)) => {
            log::write(Level::Error, &format!("doorward: {fault}"));
            ptr::null()
        }
        None => ptr::null(),
    }
}

/// Drops a configuration.
///
/// # Safety
///
/// The pointer must be one that [`make`] returned for the same type, and Envoy must give it back only once.
pub(super) unsafe fn destroy<T>(own: *const c_void) {
    let own = own.cast_mut().cast::<T>();
    // SAFETY: by the contract, it is the pointer of a box.
    quietly(|| drop(unsafe { Box::from_raw(own) }));
}

/// Runs a hook of a configuration.
///
/// # Safety
///
/// Envoy must have given both pointers to the hook that runs: its own, of this kind, and one that [`make`] returned for the
/// same type.
pub(super) unsafe fn with<T>(
    kind: Kind,
    envoy: ConfigPointer,
    own: *const c_void,
    hook: impl FnOnce(&T, &Config<'_>),
) {
    let Some(callbacks) = raw::loaded() else {
        return;
    };
    quietly(|| {
        // SAFETY: by the contract of this function; the configuration is not kept.
        let config = unsafe { Config::new(callbacks, kind, envoy) };
        // SAFETY: by the contract, it is the pointer of a box that Envoy has not given back yet.
        let own = unsafe { &*own.cast::<T>() };
        hook(own, &config);
    });
}

/// A filter configuration is created.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(in crate::abi) unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    envoy: ConfigPointer,
    _name: Buffer,
    text: Buffer,
) -> *const c_void {
    // SAFETY: Envoy gave these to this hook.
    unsafe { make(Kind::Filter, envoy, text, Filter::new) }
}

/// A filter configuration is gone, with all of its requests.
///
/// # Safety
///
/// Envoy alone calls this, once.
#[unsafe(no_mangle)]
pub(in crate::abi) unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(
    filter: *const c_void,
) {
    // SAFETY: it is the pointer that `config_new` returned, and Envoy gives it back once.
    unsafe { destroy::<Filter>(filter) }
}

/// A scheduled call of a filter configuration.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(in crate::abi) unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(
    envoy: ConfigPointer,
    filter: *const c_void,
    _event: u64,
) {
    // SAFETY: Envoy gave these to this hook; `config_new` returned the second one.
    unsafe { with(Kind::Filter, envoy, filter, Filter::woken) }
}

/// A callout of a filter configuration has ended.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(in crate::abi) unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_http_callout_done(
    envoy: ConfigPointer,
    filter: *const c_void,
    _id: u64,
    result: u32,
    headers: *const Pair,
    count: usize,
    chunks: *const Buffer,
    chunk_count: usize,
) {
    let hook = |filter: &Filter, config: &Config<'_>| {
        // SAFETY: Envoy gave these to this hook.
        let reply = unsafe { Reply::new(result, headers, count, chunks, chunk_count) };
        filter.fed(config, reply);
    };
    // SAFETY: Envoy gave these to this hook; `config_new` returned the second one.
    unsafe { with(Kind::Filter, envoy, filter, hook) }
}
