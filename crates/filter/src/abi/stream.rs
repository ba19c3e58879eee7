//! One request in the hands of one of Envoy's workers.

use std::{marker::PhantomData, net::IpAddr, time::Duration};

use super::raw::{self, Buffer, Callbacks, Pair, StreamPointer};

/// One request, for as long as a hook runs.
///
/// Envoy's header memory moves when a header is set, so whoever looks at headers borrows the stream, and setters want it
/// for themselves. Whoever answers gives the stream away: Envoy may destroy the filter meanwhile.
#[derive(Debug)]
pub(crate) struct Stream<'hook> {
    envoy: &'static Callbacks,
    pointer: StreamPointer,
    hook: PhantomData<&'hook ()>,
}

/// A header of Envoy's: its name in lower case, and its value.
pub(crate) type Header<'a> = (&'a [u8], &'a [u8]);

/// What may be read of a request while nothing is changed. No `Debug`: tokens are part of it.
pub(crate) struct Headers<'a> {
    pairs: &'a [Pair],
}

impl<'a> Headers<'a> {
    /// All headers in their order, those of the request line among them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        self.pairs.iter().map(|pair| {
            // SAFETY: Envoy filled the pair, and while this value lives, the stream is borrowed, so nothing moves.
            let name = unsafe { pair.name.bytes() };
            // SAFETY: the same.
            let value = unsafe { pair.value.bytes() };
            (name, value)
        })
    }
}

/// What a decision sets or takes off.
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

    /// Looks at all request headers, in one call of Envoy. The number of headers that most requests have needs no
    /// allocation.
    pub(crate) fn with_headers<T>(&self, look: impl FnOnce(&Headers<'_>) -> T) -> T {
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
        look(&Headers { pairs })
    }

    /// Sets a header, in place of all of its name.
    pub(crate) fn set(&mut self, of: Of, name: &str, value: &[u8]) {
        self.edit(of, name.as_bytes(), Buffer::of(value));
    }

    /// Removes all headers of a name.
    pub(crate) fn remove(&mut self, of: Of, name: &[u8]) {
        self.edit(of, name, Buffer::NONE);
    }

    fn edit(&mut self, of: Of, name: &[u8], value: Buffer) {
        // SAFETY: the stream lives while its hook runs, Envoy copies both texts, and nobody looks at headers now.
        unsafe {
            (self.envoy.http_set_header)(self.pointer, of.number(), Buffer::of(name), value);
        }
    }

    /// Answers the client in place of the service.
    pub(crate) fn respond(self, status: u16, headers: &[Header<'_>], body: &[u8], details: &str) {
        let mut pairs: Vec<Pair> = headers.iter().copied().map(Pair::of).collect();
        // Envoy answers a gRPC client with the status of the headers, and says OK for modules that name none.
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

    /// Whether the client reads the answer as gRPC, by the content type alone, as Envoy decides it.
    fn is_grpc(&self) -> bool {
        self.with_headers(|headers| {
            let mut types = headers.iter().filter(|(name, _)| *name == b"content-type");
            types.next().is_some_and(|(_, value)| {
                let rest = value.strip_prefix(b"application/grpc");
                rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
            })
        })
    }

    /// Lets a request go on that was stopped.
    pub(crate) fn go_on(self) {
        // SAFETY: the stream lives until this call, and is not used after it.
        unsafe {
            (self.envoy.http_filter_continue_decoding)(self.pointer);
        }
    }

    /// The part of the body that has just arrived.
    pub(crate) fn received(&self, mut take: impl FnMut(&[u8])) {
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

    /// Sends a request to a cluster, for this request; the answer comes to a hook. Says whether it could be sent.
    #[must_use]
    pub(crate) fn call(
        &mut self,
        cluster: &str,
        headers: &[Header<'_>],
        body: &[u8],
        patience: Duration,
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
                milliseconds(patience),
            )
        };
        result == raw::SUCCESS
    }

    /// Sets a text of the request's dynamic metadata.
    pub(crate) fn tell(&mut self, namespace: &str, key: &str, value: &str) {
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

    /// Adds a text to a list of the request's dynamic metadata.
    pub(crate) fn tell_also(&mut self, namespace: &str, key: &str, value: &str) {
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
    pub(crate) fn count(&self, counter: super::Metric, labels: &[&str], by: u64) {
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

    /// Sets a gauge without labels.
    pub(crate) fn show(&self, gauge: super::Metric, value: u64) {
        // SAFETY: the stream lives while its hook runs.
        unsafe {
            (self.envoy.http_filter_set_gauge)(self.pointer, gauge.0, std::ptr::null(), 0, value);
        }
    }
}

/// For Envoy, which takes 0 for no limit.
pub(super) fn milliseconds(patience: Duration) -> u64 {
    u64::try_from(patience.as_millis())
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
