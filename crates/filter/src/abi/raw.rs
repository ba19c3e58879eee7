//! The part of Envoy's `source/extensions/dynamic_modules/abi/abi.h` that the module uses. It is the same in Envoy 1.38,
//! 1.39 and 1.40. Functions are looked up by name when the module is loaded: an Envoy that lacks one logs its name, and
//! tests link without an Envoy.

use std::{
    ffi::{CStr, c_char, c_void},
    mem, ptr,
    sync::OnceLock,
};

/// `envoy_dynamic_module_type_http_filter_envoy_ptr`: one request.
pub(super) type StreamPointer = *mut c_void;
/// `envoy_dynamic_module_type_http_filter_config_envoy_ptr` and
/// `envoy_dynamic_module_type_bootstrap_extension_config_envoy_ptr`: one configuration.
pub(super) type ConfigPointer = *mut c_void;
/// `envoy_dynamic_module_type_*_config_scheduler_module_ptr`.
pub(super) type SchedulerPointer = *mut c_void;

/// `envoy_dynamic_module_type_envoy_buffer` and `envoy_dynamic_module_type_module_buffer`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    start: *const u8,
    length: usize,
}

impl Buffer {
    /// No bytes; as the value of a header, no header.
    pub(super) const NONE: Self = Self {
        start: ptr::null(),
        length: 0,
    };

    pub(super) const fn of(bytes: &[u8]) -> Self {
        Self {
            start: bytes.as_ptr(),
            length: bytes.len(),
        }
    }

    /// Whether it is [`Buffer::NONE`].
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn is_none(self) -> bool {
        self.start.is_null()
    }

    /// The bytes.
    ///
    /// # Safety
    ///
    /// Envoy filled this buffer, and its memory stays unchanged for `'a`.
    pub(super) unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.start.is_null() {
            return b"";
        }
        // SAFETY: by the contract of this function, it is a slice that lives for `'a`.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

/// `envoy_dynamic_module_type_envoy_http_header` and `envoy_dynamic_module_type_module_http_header`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub(super) name: Buffer,
    pub(super) value: Buffer,
}

impl Pair {
    pub(super) const NONE: Self = Self {
        name: Buffer::NONE,
        value: Buffer::NONE,
    };

    pub(super) fn of((name, value): (&[u8], &[u8])) -> Self {
        Self {
            name: Buffer::of(name),
            value: Buffer::of(value),
        }
    }

    /// Name and value.
    ///
    /// # Safety
    ///
    /// As for [`Buffer::bytes`], of both.
    pub(super) unsafe fn bytes<'a>(self) -> (&'a [u8], &'a [u8]) {
        // SAFETY: by the contract of this function.
        let name = unsafe { self.name.bytes() };
        // SAFETY: the same.
        let value = unsafe { self.value.bytes() };
        (name, value)
    }
}

/// `envoy_dynamic_module_type_http_header_type`.
pub(super) const REQUEST_HEADERS: u32 = 0;
/// The same.
pub(super) const RESPONSE_HEADERS: u32 = 2;
/// `envoy_dynamic_module_type_http_body_type`: what has just arrived.
pub(super) const RECEIVED_REQUEST_BODY: u32 = 0;
/// `envoy_dynamic_module_type_attribute_id`.
pub(super) const SOURCE_ADDRESS: u32 = 24;
/// The result of callouts and metrics.
pub(super) const SUCCESS: u32 = 0;

/// Declares functions of Envoy, and how they are looked up.
macro_rules! callbacks {
    ($(
        $(#[$meta:meta])*
        fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)?;
    )+) => {
        /// The functions of Envoy that the module calls.
        #[derive(Clone, Debug)]
        pub(super) struct Callbacks {
            $($(#[$meta])* pub(super) $name: unsafe extern "C" fn($($type),*) $(-> $result)?,)+
        }

        impl Callbacks {
            /// Looks all of them up in this process.
            fn load() -> Result<Self, Missing> {
                Ok(Self {
                    $($name: {
                        const NAME: &str = concat!("envoy_dynamic_module_callback_", stringify!($name), "\0");
                        let address = find(NAME).ok_or(Missing(NAME.trim_end_matches('\0')))?;
                        // SAFETY: a symbol of this name is Envoy's function, whose header declares it as it stands here.
                        unsafe { mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) $(-> $result)?>(address) }
                    },)+
                })
            }
        }
    };
}

callbacks! {
    fn log(level: u32, message: Buffer);
    fn is_validation_mode() -> bool;

    fn http_get_headers_size(stream: StreamPointer, kind: u32) -> usize;
    fn http_get_headers(stream: StreamPointer, kind: u32, out: *mut Pair) -> bool;
    fn http_set_header(stream: StreamPointer, kind: u32, name: Buffer, value: Buffer) -> bool;
    fn http_send_response(
        stream: StreamPointer,
        status: u32,
        headers: *const Pair,
        count: usize,
        body: Buffer,
        details: Buffer,
    );
    fn http_filter_continue_decoding(stream: StreamPointer);
    fn http_get_body_chunks_size(stream: StreamPointer, kind: u32) -> usize;
    fn http_get_body_chunks(stream: StreamPointer, kind: u32, out: *mut Buffer) -> bool;
    fn http_filter_get_attribute_string(
        stream: StreamPointer,
        attribute: u32,
        out: *mut Buffer,
    ) -> bool;
    fn http_filter_http_callout(
        stream: StreamPointer,
        id: *mut u64,
        cluster: Buffer,
        headers: *const Pair,
        count: usize,
        body: Buffer,
        milliseconds: u64,
    ) -> u32;
    fn http_set_dynamic_metadata_string(
        stream: StreamPointer,
        namespace: Buffer,
        key: Buffer,
        value: Buffer,
    );
    fn http_add_dynamic_metadata_list_string(
        stream: StreamPointer,
        namespace: Buffer,
        key: Buffer,
        value: Buffer,
    ) -> bool;
    fn http_filter_increment_counter(
        stream: StreamPointer,
        id: usize,
        labels: *const Buffer,
        count: usize,
        by: u64,
    ) -> u32;
    fn http_filter_set_gauge(
        stream: StreamPointer,
        id: usize,
        labels: *const Buffer,
        count: usize,
        value: u64,
    ) -> u32;
    fn http_filter_record_histogram_value(
        stream: StreamPointer,
        id: usize,
        labels: *const Buffer,
        count: usize,
        value: u64,
    ) -> u32;

    fn http_filter_config_define_counter(
        config: ConfigPointer,
        name: Buffer,
        labels: *const Buffer,
        count: usize,
        id: *mut usize,
    ) -> u32;
    fn http_filter_config_define_gauge(
        config: ConfigPointer,
        name: Buffer,
        labels: *const Buffer,
        count: usize,
        id: *mut usize,
    ) -> u32;
    fn http_filter_config_define_histogram(
        config: ConfigPointer,
        name: Buffer,
        labels: *const Buffer,
        count: usize,
        id: *mut usize,
    ) -> u32;
    fn http_filter_config_scheduler_new(config: ConfigPointer) -> SchedulerPointer;
    fn http_filter_config_scheduler_delete(scheduler: SchedulerPointer);
    fn http_filter_config_scheduler_commit(scheduler: SchedulerPointer, event: u64);
    fn http_filter_config_http_callout(
        config: ConfigPointer,
        id: *mut u64,
        cluster: Buffer,
        headers: *const Pair,
        count: usize,
        body: Buffer,
        milliseconds: u64,
    ) -> u32;

    fn bootstrap_extension_config_scheduler_new(config: ConfigPointer) -> SchedulerPointer;
    fn bootstrap_extension_config_scheduler_delete(scheduler: SchedulerPointer);
    fn bootstrap_extension_config_scheduler_commit(scheduler: SchedulerPointer, event: u64);
    fn bootstrap_extension_http_callout(
        config: ConfigPointer,
        id: *mut u64,
        cluster: Buffer,
        headers: *const Pair,
        count: usize,
        body: Buffer,
        milliseconds: u64,
    ) -> u32;
    fn bootstrap_extension_config_signal_init_complete(config: ConfigPointer);
}

/// A function that the module needs and this Envoy lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing(pub(super) &'static str);

/// The version of the interface, which `on_program_init` returns. Envoy only warns about another version; the right one
/// avoids that warning.
pub(super) fn version() -> &'static CStr {
    match find("envoy_dynamic_module_callback_http_set_dynamic_metadata_struct\0") {
        // 1.40.
        Some(_) => c"v0.2.0",
        // 1.38 and 1.39.
        None => c"v0.1.0",
    }
}

/// The functions of this process, after [`load`].
static LOADED: OnceLock<Callbacks> = OnceLock::new();

/// Looks all functions up.
pub(super) fn load() -> Result<&'static Callbacks, Missing> {
    let callbacks = Callbacks::load()?;
    Ok(LOADED.get_or_init(|| callbacks))
}

/// Takes these in place of Envoy's functions.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn replace(callbacks: Callbacks) {
    let _ = LOADED.set(callbacks);
}

/// The functions. They are loaded whenever Envoy calls a hook, because Envoy refuses a module whose `on_program_init` fails.
pub(super) fn loaded() -> Option<&'static Callbacks> {
    LOADED.get()
}

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The address of a function of this process; the name ends with a null byte.
fn find(name: &'static str) -> Option<*mut c_void> {
    let name = CStr::from_bytes_with_nul(name.as_bytes()).ok()?;
    // SAFETY: a null handle is RTLD_DEFAULT, and looking a symbol up has no other effect.
    let found = unsafe { dlsym(ptr::null_mut(), name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// The function that writes to the log. Older Envoys have it, too.
pub(super) fn log() -> Option<unsafe extern "C" fn(u32, Buffer)> {
    if let Some(callbacks) = loaded() {
        return Some(callbacks.log);
    }
    let address = find("envoy_dynamic_module_callback_log\0")?;
    // SAFETY: a symbol of this name is Envoy's function, which takes a level, an address and a length in every version.
    Some(unsafe { mem::transmute::<*mut c_void, unsafe extern "C" fn(u32, Buffer)>(address) })
}
