//! What a client still sends when it is answered. An answer does not wait for a body that nobody reads, and must arrive all the
//! same: Envoy in its HTTP mode takes a connection that is reset for no answer, and lets the request through where it has
//! `failure_mode_allow`.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Request,
    body::{Body, Frame, Incoming, SizeHint},
    header::EXPECT,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep, timeout},
};

/// The most bytes that are read of the rest of a body so that its connection can be used again, and how long that may take.
const MOST: usize = 64 * 1024;
const DRAIN: Duration = Duration::from_millis(500);

/// How long a peer may take to close a connection that was closed here.
const LINGER: Duration = Duration::from_secs(5);

/// A body that outlives whoever reads it.
#[derive(Clone)]
pub(crate) struct Kept(Option<Arc<Mutex<Incoming>>>);

/// The rest of a body.
pub(super) struct Unread {
    body: Kept,
    /// Reading would ask the client to send a body that it holds back (RFC 9110, 10.1.1).
    is_held_back: bool,
}

impl Unread {
    pub(super) fn of(request: Request<Incoming>) -> (Request<Kept>, Self) {
        let is_held_back = request.headers().contains_key(EXPECT);
        let request = request.map(|body| {
            let has_ended = body.is_end_stream();
            Kept((!has_ended).then(|| Arc::new(Mutex::new(body))))
        });
        let unread = Self {
            body: request.body().clone(),
            is_held_back,
        };
        (request, unread)
    }

    /// Reads the rest, if it is short and there, and says whether that was all. If not, the next request cannot be found.
    pub(super) async fn ends(mut self) -> bool {
        if self.body.is_end_stream() {
            return true;
        }
        let long = u64::try_from(MOST).unwrap_or(u64::MAX);
        if self.is_held_back || self.body.size_hint().lower() > long {
            return false;
        }
        let rest = async {
            let mut length = 0;
            while let Some(frame) = self.body.frame().await {
                let Ok(frame) = frame else {
                    return false;
                };
                length += frame.data_ref().map_or(0, Bytes::len);
                if length > MOST {
                    return false;
                }
            }
            true
        };
        timeout(DRAIN, rest).await.unwrap_or(false)
    }
}

impl Kept {
    /// Nothing is left half done where a body panics.
    fn body(&self) -> Option<MutexGuard<'_, Incoming>> {
        let body = self.0.as_ref()?;
        Some(body.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Body for Kept {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.body() {
            Some(mut body) => Pin::new(&mut *body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self.body() {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// A stream that is closed in two steps (RFC 9112, 9.6): first nothing more is written, then what still comes is read and
/// thrown away. A connection that is closed with bytes unread is reset, and a reset takes the answer with it: a gateway in
/// the middle of a long body has none then, and Envoy with `failure_mode_allow` lets the request through.
pub(super) struct Lingering<S> {
    stream: S,
    /// When to wait no longer, from the time on when nothing more is written.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, end: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    crate::doors::write_through!();

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let end = match &mut me.end {
            Some(end) => end,
            end @ None => {
                ready!(Pin::new(&mut me.stream).poll_shutdown(context))?;
                end.insert(Box::pin(sleep(LINGER)))
            }
        };
        let mut bytes = [MaybeUninit::uninit(); 8 * 1024];
        while end.as_mut().poll(context).is_pending() {
            let mut rest = ReadBuf::uninit(&mut bytes);
            match ready!(Pin::new(&mut me.stream).poll_read(context, &mut rest)) {
                Ok(()) if !rest.filled().is_empty() => {}
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
