//! The hooks of bootstrap extensions, all of them on the main thread.

use std::{
    ffi::c_void,
    ptr::{self, NonNull},
};

use super::{Bootstrap, Buffer, Config, ConfigPointer, Level, Pair, Reply, log, quietly, raw};

/// A bootstrap extension is configured, before anything else is there.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_new(
    envoy: ConfigPointer,
    _name: Buffer,
    text: Buffer,
) -> *const c_void {
    let Some(callbacks) = raw::loaded() else {
        return ptr::null();
    };
    let made = quietly(|| {
        // SAFETY: Envoy gave this pointer to the hook, which runs on the main thread.
        let config = unsafe { Config::of_bootstrap(callbacks, envoy) };
        // SAFETY: Envoy filled it for this hook.
        Bootstrap::new(&config, unsafe { text.bytes() })
    });
    match made {
        Some(Ok(bootstrap)) => Box::into_raw(Box::new(bootstrap)).cast_const().cast(),
        Some(Err(fault)) => {
            log::write(Level::Error, &format!("doorward: {fault}"));
            ptr::null()
        }
        None => ptr::null(),
    }
}

/// The configuration of a bootstrap extension is gone.
///
/// # Safety
///
/// Envoy alone calls this, once.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_destroy(
    bootstrap: *const c_void,
) {
    let bootstrap = bootstrap.cast_mut().cast::<Bootstrap>();
    // SAFETY: it is the pointer that `config_new` made of a box, and Envoy gives it back once.
    quietly(|| drop(unsafe { Box::from_raw(bootstrap) }));
}

/// The extension itself, of which nothing is known but that it is there.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_new(
    _bootstrap: *const c_void,
    _envoy: *mut c_void,
) -> *const c_void {
    NonNull::<u8>::dangling().as_ptr().cast_const().cast()
}

/// Envoy shuts down, and waits until it is told to go on.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_shutdown(
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

/// A scheduler of a bootstrap extension was woken.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_scheduled(
    envoy: ConfigPointer,
    bootstrap: *const c_void,
    _event: u64,
) {
    let Some(callbacks) = raw::loaded() else {
        return;
    };
    quietly(|| {
        // SAFETY: Envoy gave this pointer to the hook, which runs on the main thread.
        let config = unsafe { Config::of_bootstrap(callbacks, envoy) };
        // SAFETY: it is the pointer that `config_new` made of a box; Envoy has not given it back yet.
        let bootstrap = unsafe { &*bootstrap.cast::<Bootstrap>() };
        bootstrap.woken(&config);
    });
}

/// A callout of a bootstrap extension has an answer, or none.
///
/// # Safety
///
/// Envoy alone calls this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_http_callout_done(
    envoy: ConfigPointer,
    bootstrap: *const c_void,
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
        let config = unsafe { Config::of_bootstrap(callbacks, envoy) };
        // SAFETY: Envoy gave these to the hook, which keeps none of it.
        let reply = unsafe { Reply::new(result, headers, count, chunks, chunk_count) };
        // SAFETY: it is the pointer that `config_new` made of a box; Envoy has not given it back yet.
        let bootstrap = unsafe { &*bootstrap.cast::<Bootstrap>() };
        bootstrap.fed(&config, reply);
    });
}
