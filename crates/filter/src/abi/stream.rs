//! One request, in one of Envoy's worker threads.

use std::{marker::PhantomData, net::IpAddr, time::Duration};

use super::raw::{self, Buffer, Callbacks, Pair, StreamPointer};

/// One request, for as long as a hook runs.
///
/// Envoy's header memory moves when a header is set. So reading headers borrows the stream, and setting one needs it
/// exclusively. Answering consumes it, because Envoy may then destroy the filter.
#[derive(Debug)]
pub(crate) struct Stream<'hook> {
    envoy: &'static Callbacks,
    pointer: StreamPointer,
    hook: PhantomData<&'hook ()>,
}

/// A header of Envoy's: its name in lower case, and its value.
pub(crate) type Header<'a> = (&'a [u8], &'a [u8]);

/// The headers of a request, valid as long as nothing changes. No `Debug`: they contain tokens.
pub(crate) struct Headers<'a> {
    pairs: &'a [Pair],
}

impl<'a> Headers<'a> {
    /// The headers of a request that is not Envoy's.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of<T>(headers: &[Header<'_>], read: impl FnOnce(&Headers<'_>) -> T) -> T {
        let pairs: Vec<Pair> = headers.iter().copied().map(Pair::of).collect();
        read(&Headers { pairs: &pairs })
    }

    /// All headers in their order, including the pseudo-headers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        self.pairs.iter().map(|pair| {
            // SAFETY: Envoy filled the pair, and while this value lives, the stream is borrowed, so nothing moves.
            unsafe { pair.bytes() }
        })
    }
}

/// The message whose headers are edited.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    /// The request on its way to the service.
    Request,
    /// The response on its way to the client.
    Response,
}

impl Of {
    fn number(self) -> u32 {
        match self {
            Self::Request => raw::REQUEST_HEADERS,
            Self::Response => raw::RESPONSE_HEADERS,
        }
    }
}

/// What Envoy does next with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The request continues.
    Continue,
    /// The request waits, or was answered.
    Stop,
    /// The request waits, and Envoy keeps the received part of the body for the service.
    Keep,
    /// The request waits, and Envoy reads no more of the body than its buffers hold.
    Pause,
}

impl Flow {
    /// `envoy_dynamic_module_type_on_http_filter_request_headers_status`, and of trailers and responses.
    pub(super) fn of_headers(self) -> u32 {
        match self {
            Self::Continue => 0,
            Self::Stop | Self::Keep | Self::Pause => 1,
        }
    }

    /// `envoy_dynamic_module_type_on_http_filter_request_body_status`.
    pub(super) fn of_body(self) -> u32 {
        match self {
            Self::Continue => 0,
            Self::Keep => 1,
            Self::Pause => 2,
            Self::Stop => 3,
        }
    }
}

impl<'hook> Stream<'hook> {
    /// # Safety
    ///
    /// The pointer must be the one that Envoy gave to the hook that runs, and `'hook` must end with the hook.
    pub(super) unsafe fn new(envoy: &'static Callbacks, pointer: StreamPointer) -> Self {
        Self {
            envoy,
            pointer,
            hook: PhantomData,
        }
    }

    /// Reads all request headers in one call of Envoy. Up to 48 headers need no allocation.
    pub(crate) fn with_headers<T>(&self, read: impl FnOnce(&Headers<'_>) -> T) -> T {
        const USUAL: usize = 48;
        // SAFETY: the stream lives while its hook runs.
        let count =
            unsafe { (self.envoy.http_get_headers_size)(self.pointer, raw::REQUEST_HEADERS) };
        let mut usual = [Pair::NONE; USUAL];
        let mut many;
        let room = match usual.get_mut(..count) {
            Some(room) => room,
            None => {
                many = vec![Pair::NONE; count];
                &mut many
            }
        };
        // SAFETY: `room` has as many places as Envoy has headers, and nothing has changed since it said how many.
        let is_filled = !room.is_empty()
            && unsafe {
                (self.envoy.http_get_headers)(self.pointer, raw::REQUEST_HEADERS, room.as_mut_ptr())
            };
        let pairs = if is_filled { &*room } else { &[] };
        read(&Headers { pairs })
    }

    /// Sets a header; replaces all headers of this name.
    pub(crate) fn set(&mut self, of: Of, name: &str, value: &[u8]) {
        self.edit(of, name.as_bytes(), Buffer::of(value));
    }

    /// Removes all headers of a name.
    pub(crate) fn remove(&mut self, of: Of, name: &[u8]) {
        self.edit(of, name, Buffer::NONE);
    }

    fn edit(&mut self, of: Of, name: &[u8], value: Buffer) {
        // SAFETY: the stream lives while its hook runs, Envoy copies both texts, and nothing borrows the headers now.
        unsafe {
            (self.envoy.http_set_header)(self.pointer, of.number(), Buffer::of(name), value);
        }
    }

    /// Answers the client in place of the service.
    pub(crate) fn respond(self, status: u16, headers: &[Header<'_>], body: &[u8], details: &str) {
        let mut pairs: Vec<Pair> = headers.iter().copied().map(Pair::of).collect();
        // For a gRPC client, Envoy takes the gRPC status from these headers. Without one it says OK.
        if self.is_grpc() {
            pairs.push(Pair::of((b"grpc-status", grpc_status(status))));
        }
        // SAFETY: the stream lives until this call, which copies everything, and is not used after it.
        unsafe {
            (self.envoy.http_send_response)(
                self.pointer,
                status.into(),
                pairs.as_ptr(),
                pairs.len(),
                Buffer::of(body),
                Buffer::of(details.as_bytes()),
            );
        }
    }

    /// Whether the client expects a gRPC answer, by the content type alone, as Envoy decides it.
    fn is_grpc(&self) -> bool {
        self.with_headers(|headers| {
            let mut types = headers.iter().filter(|(name, _)| *name == b"content-type");
            types.next().is_some_and(|(_, value)| {
                let rest = value.strip_prefix(b"application/grpc");
                rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
            })
        })
    }

    /// Continues a request that was stopped.
    pub(crate) fn resume(self) {
        // SAFETY: the stream lives until this call, and is not used after it.
        unsafe {
            (self.envoy.http_filter_continue_decoding)(self.pointer);
        }
    }

    /// The part of the body that has just arrived.
    pub(crate) fn received_body(&self, mut take: impl FnMut(&[u8])) {
        // SAFETY: the stream lives while its hook runs.
        let count = unsafe {
            (self.envoy.http_get_body_chunks_size)(self.pointer, raw::RECEIVED_REQUEST_BODY)
        };
        let mut chunks = vec![Buffer::NONE; count];
        // SAFETY: there is room for as many chunks as Envoy has.
        let is_filled = count > 0
            && unsafe {
                (self.envoy.http_get_body_chunks)(
                    self.pointer,
                    raw::RECEIVED_REQUEST_BODY,
                    chunks.as_mut_ptr(),
                )
            };
        if is_filled {
            for chunk in chunks {
                // SAFETY: Envoy filled the chunk, and nothing changes the body before this function ends.
                take(unsafe { chunk.bytes() });
            }
        }
    }

    /// The address of the client as Envoy knows it.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        let mut text = Buffer::NONE;
        // SAFETY: the stream lives while its hook runs, and `text` is written before it returns.
        let is_known = unsafe {
            (self.envoy.http_filter_get_attribute_string)(
                self.pointer,
                raw::SOURCE_ADDRESS,
                &raw mut text,
            )
        };
        // SAFETY: Envoy filled it, and nothing changes before this function ends.
        let text = is_known.then(|| unsafe { text.bytes() })?;
        let text = str::from_utf8(text).ok()?;
        let socket = text.parse::<std::net::SocketAddr>();
        socket.map_or_else(|_| text.parse().ok(), |socket| Some(socket.ip()))
    }

    /// Sends a request to a cluster, on behalf of this request; a hook gets the answer. Says whether it was sent.
    #[must_use]
    pub(crate) fn call(
        &mut self,
        cluster: &str,
        headers: &[Header<'_>],
        body: &[u8],
        timeout: Duration,
    ) -> bool {
        let pairs: Vec<Pair> = headers.iter().copied().map(Pair::of).collect();
        let mut id = 0;
        // SAFETY: the stream lives while its hook runs, and Envoy copies everything. It does not call back from within.
        let result = unsafe {
            (self.envoy.http_filter_http_callout)(
                self.pointer,
                &raw mut id,
                Buffer::of(cluster.as_bytes()),
                pairs.as_ptr(),
                pairs.len(),
                Buffer::of(body),
                milliseconds(timeout),
            )
        };
        result == raw::SUCCESS
    }

    /// Sets a string in the request's dynamic metadata.
    pub(crate) fn set_metadata(&mut self, namespace: &str, key: &str, value: &str) {
        // SAFETY: the stream lives while its hook runs, and Envoy copies everything.
        unsafe {
            (self.envoy.http_set_dynamic_metadata_string)(
                self.pointer,
                Buffer::of(namespace.as_bytes()),
                Buffer::of(key.as_bytes()),
                Buffer::of(value.as_bytes()),
            );
        }
    }

    /// Adds a string to a list in the request's dynamic metadata.
    pub(crate) fn add_metadata(&mut self, namespace: &str, key: &str, value: &str) {
        // SAFETY: the stream lives while its hook runs, and Envoy copies everything.
        unsafe {
            (self.envoy.http_add_dynamic_metadata_list_string)(
                self.pointer,
                Buffer::of(namespace.as_bytes()),
                Buffer::of(key.as_bytes()),
                Buffer::of(value.as_bytes()),
            );
        }
    }

    /// Adds to a counter with these values of its labels.
    pub(crate) fn increment(&self, counter: super::Metric, labels: &[&str], by: u64) {
        let labels: Vec<_> = labels
            .iter()
            .map(|label| Buffer::of(label.as_bytes()))
            .collect();
        // SAFETY: the stream lives while its hook runs, and Envoy copies the labels.
        unsafe {
            (self.envoy.http_filter_increment_counter)(
                self.pointer,
                counter.0,
                labels.as_ptr(),
                labels.len(),
                by,
            );
        }
    }

    /// Records a value in a histogram without labels.
    pub(crate) fn record(&self, histogram: super::Metric, value: u64) {
        // SAFETY: the stream lives while its hook runs.
        unsafe {
            (self.envoy.http_filter_record_histogram_value)(
                self.pointer,
                histogram.0,
                std::ptr::null(),
                0,
                value,
            );
        }
    }

    /// Sets a gauge without labels.
    pub(crate) fn set_gauge(&self, gauge: super::Metric, value: u64) {
        // SAFETY: the stream lives while its hook runs.
        unsafe {
            (self.envoy.http_filter_set_gauge)(self.pointer, gauge.0, std::ptr::null(), 0, value);
        }
    }
}

/// A timeout for Envoy: at least 1, because 0 means none.
pub(super) fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// The gRPC status that Envoy makes of the HTTP status of an ext_authz denial.
fn grpc_status(status: u16) -> &'static [u8] {
    match status {
        400 => b"13",
        401 => b"16",
        403 => b"7",
        404 => b"12",
        429 | 502..=504 => b"14",
        _ => b"2",
    }
}
