//! The hooks of bootstrap extensions. Envoy calls all of them on its main thread.

use std::{ffi::c_void, ptr::NonNull};

use super::{
    super::config::{Config, Kind},
    Buffer, Pair, Reply,
    configuration::{destroy, make, with},
};
use crate::{abi::raw::ConfigPointer, bootstrap::Bootstrap};

/// A bootstrap extension is configured, before listeners and clusters exist.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(in crate::abi) unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_new(
    envoy: ConfigPointer,
    _name: Buffer,
    text: Buffer,
) -> *const c_void {
    // SAFETY: Envoy gave these to this hook.
    unsafe { make(Kind::Bootstrap, envoy, text, Bootstrap::new) }
}

/// The configuration of a bootstrap extension is gone.
///
/// # Safety
///
/// Envoy alone calls this, once.
#[unsafe(no_mangle)]
pub(in crate::abi) unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_destroy(
    bootstrap: *const c_void,
) {
    // SAFETY: it is the pointer that `config_new` returned, and Envoy gives it back once.
    unsafe { destroy::<Bootstrap>(bootstrap) }
}

/// The extension itself. The module keeps nothing for it; Envoy only needs a pointer that is not null.
#[unsafe(no_mangle)]
pub(in crate::abi) extern "C" fn envoy_dynamic_module_on_bootstrap_extension_new(
    _bootstrap: *const c_void,
    _envoy: *mut c_void,
) -> *const c_void {
    NonNull::<u8>::dangling().as_ptr().cast_const().cast()
}

/// Envoy shuts down, and waits until the module calls `go_on`.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(in crate::abi) unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_shutdown(
    _envoy: *mut c_void,
    _extension: *const c_void,
    go_on: Option<unsafe extern "C" fn(*mut c_void)>,
    context: *mut c_void,
) {
    if let Some(go_on) = go_on {
        // SAFETY: Envoy wants this called once, with its own context.
        unsafe { go_on(context) }
    }
}

/// A scheduled call of a bootstrap extension.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(in crate::abi) unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_scheduled(
    envoy: ConfigPointer,
    bootstrap: *const c_void,
    _event: u64,
) {
    // SAFETY: Envoy gave these to this hook; `config_new` returned the second one.
    unsafe { with(Kind::Bootstrap, envoy, bootstrap, Bootstrap::woken) }
}

/// A callout of a bootstrap extension has ended.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
pub(in crate::abi) unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_http_callout_done(
    envoy: ConfigPointer,
    bootstrap: *const c_void,
    _id: u64,
    result: u32,
    headers: *const Pair,
    count: usize,
    chunks: *const Buffer,
    chunk_count: usize,
) {
    let hook = |bootstrap: &Bootstrap, config: &Config<'_>| {
        // SAFETY: Envoy gave these to this hook.
        let reply = unsafe { Reply::new(result, headers, count, chunks, chunk_count) };
        bootstrap.fed(config, reply);
    };
    // SAFETY: Envoy gave these to this hook; `config_new` returned the second one.
    unsafe { with(Kind::Bootstrap, envoy, bootstrap, hook) }
}
