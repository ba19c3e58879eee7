//! Bodies that the client still sends after the answer. An answer does not wait for an unread body, and must still arrive:
//! Envoy in its HTTP mode treats a reset connection as no answer, and with `failure_mode_allow` lets the request through.

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

/// The most bytes of the rest of a body that are read to keep its connection, and the time for that.
const MOST: usize = 64 * 1024;
const DRAIN: Duration = Duration::from_millis(500);

/// How long a peer may take to close its side of a closed connection.
const LINGER: Duration = Duration::from_secs(5);

/// A body that outlives its reader.
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

    /// Reads the rest if it is short and already there; says whether that was all. If not, the connection cannot be reused.
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
    /// Leaves nothing half done if a body panics.
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

/// A stream that closes in two steps (RFC 9112, 9.6): first it stops writing, then it reads and discards what still comes.
/// Closing a connection with unread bytes resets it, and the reset discards the answer: a gateway that is sending a long
/// body then has none, and Envoy with `failure_mode_allow` lets the request through.
pub(super) struct Lingering<S> {
    stream: S,
    /// The end of the second step, once it has begun.
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
