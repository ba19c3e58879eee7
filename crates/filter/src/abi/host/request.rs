//! A request in the Envoy for tests.

use std::{
    cell::{Cell, RefCell},
    ffi::c_void,
    ptr,
    rc::Rc,
};

use super::{
    super::{
        hooks::{
            envoy_dynamic_module_on_http_filter_destroy,
            envoy_dynamic_module_on_http_filter_http_callout_done,
            envoy_dynamic_module_on_http_filter_new,
            envoy_dynamic_module_on_http_filter_request_body,
            envoy_dynamic_module_on_http_filter_request_headers,
            envoy_dynamic_module_on_http_filter_request_trailers,
            envoy_dynamic_module_on_http_filter_response_headers,
        },
        raw::{self, Buffer, Pair, StreamPointer},
        stream::Header,
    },
    FakeConfig, Owned, Reply, Sent, config,
};

/// What the Envoy for tests knows of a request. Its address is the pointer that the module gets.
pub(super) struct Record {
    pub(super) config: Rc<config::Record>,
    pub(super) inner: RefCell<Inner>,
    pub(super) habits: Cell<Habits>,
    own: Cell<*const c_void>,
    source: Option<Box<[u8]>>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) headers: Vec<Owned>,
    /// The part of the body that has just arrived.
    pub(super) body: Vec<Vec<u8>>,
    /// Memory that the module may read until the request changes or the hook returns.
    lent: Vec<Box<[u8]>>,
    pub(super) outcome: Outcome,
    /// How many callouts have no answer yet.
    pub(super) open: usize,
    /// Whether the response has arrived.
    has_response: bool,
    is_over: bool,
}

/// What became of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) answer: Option<Answered>,
    pub(crate) resumed: usize,
    pub(crate) sent: Vec<Sent>,
    /// Headers of the response that the module set.
    pub(crate) response: Vec<Owned>,
    pub(crate) metadata: Vec<(String, String)>,
    faults: Vec<String>,
}

/// An answer to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) status: u32,
    pub(crate) headers: Vec<Owned>,
    pub(crate) body: Vec<u8>,
    pub(crate) details: String,
}

/// What Envoy does inside of a function that the module calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    /// The request ends inside of the function that answers it.
    pub(crate) ends_in_answer: bool,
    /// The response arrives, and the request ends, inside of the function that resumes it.
    pub(crate) ends_in_resume: bool,
    /// No cluster can be reached.
    pub(crate) refuses_calls: bool,
    /// A callout fails inside of the function that sends it. No known Envoy does that.
    pub(crate) fails_in_call: bool,
    /// Reading the headers and the body fails.
    pub(crate) hides_all: bool,
}

impl Record {
    /// The record of a request.
    ///
    /// # Safety
    ///
    /// The pointer must be one that a hook has got and that its [`FakeRequest`] has not dropped.
    pub(super) unsafe fn of<'a>(stream: StreamPointer) -> &'a Self {
        // SAFETY: by the contract.
        let record = unsafe { &*stream.cast_const().cast::<Self>() };
        if record.inner.borrow().is_over {
            record.fault("a function is called after the request");
        }
        record
    }

    pub(super) fn fault(&self, text: impl Into<String>) {
        self.inner.borrow_mut().outcome.faults.push(text.into());
    }

    fn envoy(&self) -> StreamPointer {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// Copies bytes to memory of their own, which ends at the next change.
    pub(super) fn lend(&self, bytes: &[u8]) -> Buffer {
        let own: Box<[u8]> = bytes.into();
        let buffer = Buffer::of(&own);
        self.inner.borrow_mut().lent.push(own);
        buffer
    }

    pub(super) fn lend_source(&self) -> Option<Buffer> {
        self.source.as_ref().map(|source| self.lend(source))
    }

    /// Everything moves that the module could have read.
    pub(super) fn moves(&self) {
        self.inner.borrow_mut().lent.clear();
    }

    pub(super) fn is_answered(&self) -> bool {
        self.inner.borrow().outcome.answer.is_some()
    }

    /// Ends the request, as Envoy does when the client has its response or is gone.
    pub(super) fn end(&self) {
        if self.inner.borrow().is_over {
            return;
        }
        // SAFETY: the module made it, and gets it back once.
        unsafe { envoy_dynamic_module_on_http_filter_destroy(self.own.get()) }
        let mut inner = self.inner.borrow_mut();
        inner.is_over = true;
        inner.lent.clear();
    }

    fn hook<T>(&self, hook: impl FnOnce(StreamPointer, *const c_void) -> T) -> Option<T> {
        if self.inner.borrow().is_over {
            return None;
        }
        let result = hook(self.envoy(), self.own.get());
        self.moves();
        Some(result)
    }

    pub(super) fn response_headers(&self) -> Option<u32> {
        self.inner.borrow_mut().has_response = true;
        self.hook(|envoy, own| {
            // SAFETY: the record lives, and the module made `own`.
            unsafe { envoy_dynamic_module_on_http_filter_response_headers(envoy, own, true) }
        })
    }

    pub(super) fn fails(&self) {
        self.hook(|envoy, own| {
            // SAFETY: the record lives, the module made `own`, and a failure has no headers.
            unsafe {
                envoy_dynamic_module_on_http_filter_http_callout_done(
                    envoy,
                    own,
                    1,
                    1,
                    ptr::null(),
                    0,
                    ptr::null(),
                    0,
                );
            }
        });
    }
}

/// A request, until it is dropped. Its hooks return what the module returns, and `None` where Envoy cannot call them: after
/// the end, and those of the request after an answer or the response.
pub(crate) struct FakeRequest<'config> {
    pub(super) record: Rc<Record>,
    _config: &'config FakeConfig,
}

impl FakeConfig {
    /// A request with these headers, from an address.
    pub(crate) fn request(&self, headers: &[Header<'_>], source: Option<&str>) -> FakeRequest<'_> {
        let record = Rc::new(Record {
            config: Rc::clone(&self.record),
            inner: RefCell::default(),
            habits: Cell::default(),
            own: Cell::new(ptr::null()),
            source: source.map(|source| source.as_bytes().into()),
        });
        let owned = headers
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()));
        record.inner.borrow_mut().headers = owned.collect();
        // SAFETY: the module made its configuration, and the record lives as long as the request.
        let own = unsafe { envoy_dynamic_module_on_http_filter_new(self.own, record.envoy()) };
        assert!(!own.is_null(), "Envoy refuses a filter without a pointer");
        record.own.set(own);
        FakeRequest {
            record,
            _config: self,
        }
    }
}

impl FakeRequest<'_> {
    /// Changes what Envoy does from now on.
    pub(crate) fn behave(&self, change: impl FnOnce(&mut Habits)) {
        let mut habits = self.record.habits.get();
        change(&mut habits);
        self.record.habits.set(habits);
    }

    fn decoding<T>(&self, hook: impl FnOnce(StreamPointer, *const c_void) -> T) -> Option<T> {
        let has_response = self.record.inner.borrow().has_response;
        match has_response || self.record.is_answered() {
            true => None,
            false => self.record.hook(hook),
        }
    }

    pub(crate) fn headers(&self, is_last: bool) -> Option<u32> {
        self.decoding(|envoy, own| {
            // SAFETY: the record lives, and the module made `own`.
            unsafe { envoy_dynamic_module_on_http_filter_request_headers(envoy, own, is_last) }
        })
    }

    pub(crate) fn body(&self, chunks: &[&[u8]], is_last: bool) -> Option<u32> {
        let owned = chunks.iter().map(|chunk| chunk.to_vec()).collect();
        self.record.inner.borrow_mut().body = owned;
        self.decoding(|envoy, own| {
            // SAFETY: the record lives, and the module made `own`.
            unsafe { envoy_dynamic_module_on_http_filter_request_body(envoy, own, is_last) }
        })
    }

    pub(crate) fn trailers(&self) -> Option<u32> {
        self.decoding(|envoy, own| {
            // SAFETY: the record lives, and the module made `own`.
            unsafe { envoy_dynamic_module_on_http_filter_request_trailers(envoy, own) }
        })
    }

    pub(crate) fn response_headers(&self) -> Option<u32> {
        self.record.response_headers()
    }

    /// Answers a callout, whether or not there is one.
    pub(crate) fn reply(&self, status: &[u8], body: &[u8]) {
        self.is_answered_now();
        let reply = Reply::new(status, body, 7);
        self.record.hook(|envoy, own| {
            // SAFETY: the record lives, the module made `own`, and the reply lives until the hook returns.
            unsafe {
                envoy_dynamic_module_on_http_filter_http_callout_done(
                    envoy,
                    own,
                    1,
                    raw::SUCCESS,
                    reply.pairs.as_ptr(),
                    reply.pairs.len(),
                    reply.chunks.as_ptr(),
                    reply.chunks.len(),
                );
            }
        });
    }

    /// Lets a callout fail, whether or not there is one.
    pub(crate) fn fails(&self) {
        self.is_answered_now();
        self.record.fails();
    }

    fn is_answered_now(&self) {
        let mut inner = self.record.inner.borrow_mut();
        inner.open = inner.open.saturating_sub(1);
    }

    /// Ends the request.
    pub(crate) fn end(&self) {
        self.record.end();
    }

    /// What has become of it.
    pub(crate) fn outcome(&self) -> Outcome {
        self.record.inner.borrow().outcome.clone()
    }

    /// Whether a callout has no answer yet.
    pub(crate) fn waits(&self) -> bool {
        self.record.inner.borrow().open > 0
    }

    /// The headers that the service would get.
    pub(crate) fn forwarded(&self) -> Vec<Owned> {
        self.record.inner.borrow().headers.clone()
    }
}

impl Drop for FakeRequest<'_> {
    fn drop(&mut self) {
        self.record.end();
        if std::thread::panicking() {
            return;
        }
        let faults = &self.record.inner.borrow().outcome.faults;
        assert!(faults.is_empty(), "{faults:?}");
    }
}

/// Writes headers of a request to the array of the module.
///
/// # Safety
///
/// The module must have made room for all of them.
pub(super) unsafe fn write(record: &Record, out: *mut Pair) {
    let headers = record.inner.borrow().headers.clone();
    for (at, (name, value)) in headers.iter().enumerate() {
        let [name, value] = [name, value].map(|text| record.lend(text));
        // SAFETY: by the contract, the array has as many places.
        let place = unsafe { out.add(at) };
        // SAFETY: the same.
        unsafe { place.write(Pair { name, value }) }
    }
}
