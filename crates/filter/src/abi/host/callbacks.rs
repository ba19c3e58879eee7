//! The functions that the Envoy for tests gives to the module.

use std::cell::{Cell, RefCell};

use super::{
    super::raw::{self, Buffer, Callbacks, Pair, StreamPointer},
    Answered, FAILURE, Sent,
    config_callbacks::{
        bootstrap_extension_config_scheduler_commit, bootstrap_extension_config_scheduler_delete,
        bootstrap_extension_config_scheduler_new, bootstrap_extension_config_signal_init_complete,
        bootstrap_extension_http_callout, http_filter_config_define_counter,
        http_filter_config_define_gauge, http_filter_config_define_histogram,
        http_filter_config_http_callout, http_filter_config_scheduler_commit,
        http_filter_config_scheduler_delete, http_filter_config_scheduler_new,
    },
    owned, read_labels,
    request::{self, Record as Request},
};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static VALIDATES: Cell<bool> = const { Cell::new(false) };
}

/// Takes the lines that the module has written to the log on this thread.
pub(crate) fn lines() -> Vec<String> {
    LINES.with(RefCell::take)
}

/// Whether Envoy only validates its configuration, on this thread.
pub(crate) fn validate(validates: bool) {
    VALIDATES.set(validates);
}

/// Gives the module these functions.
pub(super) fn install() {
    raw::replace(Callbacks {
        log,
        is_validation_mode,
        http_get_headers_size,
        http_get_headers,
        http_set_header,
        http_send_response,
        http_filter_continue_decoding,
        http_get_body_chunks_size,
        http_get_body_chunks,
        http_filter_get_attribute_string,
        http_filter_http_callout,
        http_set_dynamic_metadata_string,
        http_add_dynamic_metadata_list_string,
        http_filter_increment_counter,
        http_filter_set_gauge,
        http_filter_record_histogram_value,
        http_filter_config_define_counter,
        http_filter_config_define_gauge,
        http_filter_config_define_histogram,
        http_filter_config_scheduler_new,
        http_filter_config_scheduler_delete,
        http_filter_config_scheduler_commit,
        http_filter_config_http_callout,
        bootstrap_extension_config_scheduler_new,
        bootstrap_extension_config_scheduler_delete,
        bootstrap_extension_config_scheduler_commit,
        bootstrap_extension_http_callout,
        bootstrap_extension_config_signal_init_complete,
    });
}

/// Text of the module.
///
/// # Safety
///
/// The module must have given it to the function that runs.
unsafe fn text(buffer: Buffer) -> String {
    // SAFETY: by the contract.
    String::from_utf8_lossy(unsafe { buffer.bytes() }).into_owned()
}

unsafe extern "C" fn log(_level: u32, message: Buffer) {
    // SAFETY: the module gave it to this function.
    let line = unsafe { text(message) };
    // Other threads, and this one at its end, may have no lines any more.
    let _ = LINES.try_with(|lines| lines.borrow_mut().push(line));
}

unsafe extern "C" fn is_validation_mode() -> bool {
    VALIDATES.get()
}

unsafe extern "C" fn http_get_headers_size(stream: StreamPointer, kind: u32) -> usize {
    // SAFETY: a hook got this pointer.
    let request = unsafe { Request::of(stream) };
    match kind {
        raw::REQUEST_HEADERS => request.inner.borrow().headers.len(),
        _ => 0,
    }
}

unsafe extern "C" fn http_get_headers(stream: StreamPointer, kind: u32, out: *mut Pair) -> bool {
    // SAFETY: a hook got this pointer.
    let request = unsafe { Request::of(stream) };
    if kind != raw::REQUEST_HEADERS || request.habits.get().hides_all {
        return false;
    }
    // SAFETY: the module has asked how many there are.
    unsafe { request::write(request, out) };
    true
}

unsafe extern "C" fn http_set_header(
    stream: StreamPointer,
    kind: u32,
    name: Buffer,
    value: Buffer,
) -> bool {
    // SAFETY: a hook got this pointer.
    let request = unsafe { Request::of(stream) };
    // SAFETY: the module gave it to this function.
    let name = unsafe { name.bytes() }.to_vec();
    // SAFETY: the same.
    let value = (!value.is_none()).then(|| unsafe { value.bytes() }.to_vec());
    if kind == raw::REQUEST_HEADERS && request.is_answered() {
        request.fault("a header is set after the answer");
    }
    {
        let mut inner = request.inner.borrow_mut();
        let headers = match kind {
            raw::REQUEST_HEADERS => &mut inner.headers,
            _ => &mut inner.outcome.response,
        };
        headers.retain(|(own, _)| *own != name);
        headers.extend(value.map(|value| (name, value)));
    }
    request.moves();
    true
}

unsafe extern "C" fn http_send_response(
    stream: StreamPointer,
    status: u32,
    headers: *const Pair,
    count: usize,
    body: Buffer,
    details: Buffer,
) {
    // SAFETY: a hook got this pointer.
    let request = unsafe { Request::of(stream) };
    let answer = Answered {
        status,
        // SAFETY: the module gave these to this function.
        headers: unsafe { owned(headers, count) },
        // SAFETY: the same.
        body: unsafe { body.bytes() }.into(),
        // SAFETY: the same.
        details: unsafe { text(details) },
    };
    if answer.details == "doorward_panicked" {
        request.fault("a hook panicked");
    }
    if request.is_answered() {
        request.fault("a second answer");
    }
    request.inner.borrow_mut().outcome.answer = Some(answer);
    request.moves();
    if request.habits.get().ends_in_answer {
        // Envoy passes its own answers through the filters, too.
        request.response_headers();
        request.end();
    }
}

unsafe extern "C" fn http_filter_continue_decoding(stream: StreamPointer) {
    // SAFETY: a hook got this pointer.
    let request = unsafe { Request::of(stream) };
    if request.is_answered() {
        request.fault("the request is resumed after the answer");
    }
    request.inner.borrow_mut().outcome.resumed += 1;
    request.moves();
    if request.habits.get().ends_in_resume {
        request.response_headers();
        request.end();
    }
}

unsafe extern "C" fn http_get_body_chunks_size(stream: StreamPointer, kind: u32) -> usize {
    // SAFETY: a hook got this pointer.
    let request = unsafe { Request::of(stream) };
    match kind {
        raw::RECEIVED_REQUEST_BODY => request.inner.borrow().body.len(),
        _ => 0,
    }
}

unsafe extern "C" fn http_get_body_chunks(
    stream: StreamPointer,
    kind: u32,
    out: *mut Buffer,
) -> bool {
    // SAFETY: a hook got this pointer.
    let request = unsafe { Request::of(stream) };
    if kind != raw::RECEIVED_REQUEST_BODY || request.habits.get().hides_all {
        return false;
    }
    let chunks = request.inner.borrow().body.clone();
    for (at, chunk) in chunks.iter().enumerate() {
        // SAFETY: the module has asked how many there are, and has made room for them.
        let place = unsafe { out.add(at) };
        // SAFETY: the same.
        unsafe { place.write(request.lend(chunk)) }
    }
    true
}

unsafe extern "C" fn http_filter_get_attribute_string(
    stream: StreamPointer,
    attribute: u32,
    out: *mut Buffer,
) -> bool {
    // SAFETY: a hook got this pointer.
    let request = unsafe { Request::of(stream) };
    let source = request
        .lend_source()
        .filter(|_| attribute == raw::SOURCE_ADDRESS);
    let Some(source) = source else {
        return false;
    };
    // SAFETY: the module has made room for it.
    unsafe { out.write(source) };
    true
}

unsafe extern "C" fn http_filter_http_callout(
    stream: StreamPointer,
    id: *mut u64,
    cluster: Buffer,
    headers: *const Pair,
    count: usize,
    body: Buffer,
    milliseconds: u64,
) -> u32 {
    // SAFETY: a hook got this pointer.
    let request = unsafe { Request::of(stream) };
    // SAFETY: the module gave these to this function.
    let sent = unsafe { Sent::new(cluster, headers, count, body) };
    if milliseconds == 0 {
        request.fault("a callout without a timeout");
    }
    if request.is_answered() {
        request.fault("a callout after the answer");
    }
    let habits = request.habits.get();
    if habits.refuses_calls {
        return FAILURE;
    }
    // SAFETY: the module has made room for it.
    unsafe { id.write(1) };
    {
        let mut inner = request.inner.borrow_mut();
        inner.outcome.sent.push(sent);
        inner.open += 1;
    }
    if habits.fails_in_call {
        request.inner.borrow_mut().open -= 1;
        request.fails();
    }
    raw::SUCCESS
}

unsafe extern "C" fn http_set_dynamic_metadata_string(
    stream: StreamPointer,
    namespace: Buffer,
    key: Buffer,
    value: Buffer,
) {
    // SAFETY: the module gave these to this function.
    unsafe { http_add_dynamic_metadata_list_string(stream, namespace, key, value) };
}

unsafe extern "C" fn http_add_dynamic_metadata_list_string(
    stream: StreamPointer,
    namespace: Buffer,
    key: Buffer,
    value: Buffer,
) -> bool {
    // SAFETY: a hook got this pointer.
    let request = unsafe { Request::of(stream) };
    // SAFETY: the module gave these to this function.
    let [namespace, key, value] = [namespace, key, value].map(|part| unsafe { text(part) });
    if namespace.is_empty() {
        request.fault("metadata without a namespace");
    }
    request
        .inner
        .borrow_mut()
        .outcome
        .metadata
        .push((key, value));
    true
}

/// Checks that a metric is defined, with as many labels, and reads them.
///
/// # Safety
///
/// The module must have given these to the function that runs.
unsafe fn measured(
    stream: StreamPointer,
    kind: &str,
    id: usize,
    labels: *const Buffer,
    count: usize,
) -> u32 {
    // SAFETY: a hook got this pointer.
    let request = unsafe { Request::of(stream) };
    if request.config.metrics.borrow().get(id) != Some(&(kind, count)) {
        request.fault(format!("no {kind} {id} with {count} labels is defined"));
    }
    // SAFETY: the module gave them to this function.
    unsafe { read_labels(labels, count) };
    raw::SUCCESS
}

unsafe extern "C" fn http_filter_increment_counter(
    stream: StreamPointer,
    id: usize,
    labels: *const Buffer,
    count: usize,
    _by: u64,
) -> u32 {
    // SAFETY: the module gave these to this function.
    unsafe { measured(stream, "counter", id, labels, count) }
}

unsafe extern "C" fn http_filter_set_gauge(
    stream: StreamPointer,
    id: usize,
    labels: *const Buffer,
    count: usize,
    _value: u64,
) -> u32 {
    // SAFETY: the module gave these to this function.
    unsafe { measured(stream, "gauge", id, labels, count) }
}

unsafe extern "C" fn http_filter_record_histogram_value(
    stream: StreamPointer,
    id: usize,
    labels: *const Buffer,
    count: usize,
    _value: u64,
) -> u32 {
    // SAFETY: the module gave these to this function.
    unsafe { measured(stream, "histogram", id, labels, count) }
}
