//! One check on the wire: one gRPC message in, one out. Does not know what a check says.
//!
//! tonic answers a message that is too large, compressed or malformed with a gRPC error, which lets the request through
//! where Envoy has `failure_mode_allow`. So a check is read here, and every fault of it becomes a denial.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Response,
    body::{Body, Frame, SizeHint},
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use tokio::time::timeout;

use super::answer::{Encoded, PREFIX};
use crate::domain::decision::CheckFault;

/// How long the body of a call may take. Gateways send a check at once, and wait for its answer far less long.
pub(super) const BODY_TIME: Duration = Duration::from_secs(10);

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");
const PERMISSION_DENIED: HeaderValue = HeaderValue::from_static("7");
const INTERNAL: HeaderValue = HeaderValue::from_static("13");

/// Reads the bytes of a message, of which there are at most `most`.
///
/// A larger one is read to its end, though nothing of it is kept: HTTP/2 streams that are reset before their end count
/// against the connection, and a connection that ends takes the other checks on it along.
///
/// # Errors
///
/// Why there is no message.
pub(super) async fn read<B>(body: B, most: usize) -> Result<Bytes, CheckFault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let bytes = timeout(BODY_TIME, whole(body, most)).await;
    let mut bytes = bytes.map_err(|_| CheckFault::TooSlow)??;
    if bytes.remaining() < PREFIX || bytes.get_u8() != 0 {
        return Err(CheckFault::Malformed);
    }
    let length = usize::try_from(bytes.get_u32()).unwrap_or(usize::MAX);
    match length == bytes.remaining() {
        true => Ok(bytes),
        false if length > most => Err(CheckFault::TooLarge),
        false => Err(CheckFault::Malformed),
    }
}

/// Reads the rest of a check that is not looked at, for the same reason, and keeps nothing of it.
pub(super) async fn skip<B>(body: B)
where
    B: Body<Data = Bytes> + Unpin,
{
    // What the body says, and whether it ends in time, makes no difference.
    let _ = timeout(BODY_TIME, whole(body, 0)).await;
}

/// The whole body. One that came in one piece, as most do, is not copied.
async fn whole<B>(mut body: B, most: usize) -> Result<Bytes, CheckFault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (mut first, mut rest, mut length) = (Bytes::new(), BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| CheckFault::Malformed)?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        length = length.saturating_add(piece.len());
        if length > most.saturating_add(PREFIX) {
            (first, rest) = (Bytes::new(), BytesMut::new());
        } else if first.is_empty() {
            first = piece;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&piece);
        }
    }
    match rest.is_empty() {
        _ if length > most.saturating_add(PREFIX) => Err(CheckFault::TooLarge),
        true => Ok(first),
        false => Ok(rest.freeze()),
    }
}

/// What is answered: one message and the status of the call, or the status alone.
#[derive(Debug)]
pub(super) struct Reply {
    message: Option<Bytes>,
    has_trailers: bool,
}

/// A good answer.
pub(super) fn reply(answer: Encoded) -> Response<Reply> {
    respond(Reply {
        message: Some(answer.into_frame()),
        has_trailers: true,
    })
}

/// The answer to a peer that may not call this.
pub(super) fn not_permitted() -> Response<Reply> {
    failed(PERMISSION_DENIED)
}

/// The answer to a call of another service that panicked.
pub(super) fn internal() -> Response<Reply> {
    failed(INTERNAL)
}

fn failed(status: HeaderValue) -> Response<Reply> {
    let mut response = respond(Reply {
        message: None,
        has_trailers: false,
    });
    response.headers_mut().insert(GRPC_STATUS, status);
    response
}

fn respond(reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(match self.message.take() {
            Some(message) => Some(Ok(Frame::data(message))),
            None if self.has_trailers => {
                self.has_trailers = false;
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(GRPC_STATUS, OK);
                Some(Ok(Frame::trailers(trailers)))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && !self.has_trailers
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use prost::Message as _;

    use super::{super::answer::any_answer, *};
    use crate::doors::wire::envoy::service::auth::v3::{
        AttributeContext, CheckRequest,
        attribute_context::{self, HttpRequest},
    };

    /// A body in pieces, which perhaps never ends.
    struct Pieces {
        pieces: VecDeque<Bytes>,
        ends: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.pieces.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn check(path: &[u8]) -> CheckRequest {
        let http = HttpRequest {
            method: "GET".into(),
            path: Bytes::copy_from_slice(path),
            ..HttpRequest::default()
        };
        CheckRequest {
            attributes: Some(AttributeContext {
                source: None,
                request: Some(attribute_context::Request { http: Some(http) }),
            }),
        }
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&[flag], &length.to_be_bytes()[..], message].concat()
    }

    async fn read_pieces(bytes: &[u8], size: usize, ends: bool) -> Result<Vec<u8>, CheckFault> {
        let pieces = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
        let read = read(Pieces { pieces, ends }, 1000).await;
        read.map(|message| message.to_vec())
    }

    #[tokio::test]
    async fn a_check_is_exactly_one_complete_message() {
        let good = check(b"/a").encode_to_vec();
        let large = check(&[b'/'; 1001]).encode_to_vec();
        let whole = framed(0, &good);
        for size in [1, 5, 7, 4096] {
            assert_eq!(read_pieces(&whole, size, true).await, Ok(good.clone()));
            for (bytes, expected) in [
                (Vec::new(), CheckFault::Malformed),
                (vec![0; 4], CheckFault::Malformed),
                // A stream that ends early.
                (whole[..whole.len() - 1].to_vec(), CheckFault::Malformed),
                // Compressed.
                (framed(1, &good), CheckFault::Malformed),
                // Two messages.
                ([&whole[..], &whole].concat(), CheckFault::Malformed),
                ([&whole[..], b"x"].concat(), CheckFault::Malformed),
                (framed(0, &large), CheckFault::TooLarge),
                // A large length is announced, but not all bytes are sent.
                (framed(0, &large)[..100].to_vec(), CheckFault::TooLarge),
            ] {
                let read = read_pieces(&bytes, size, true).await;
                assert_eq!(read, Err(expected), "{bytes:?} in pieces of {size}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_times_out() {
        let whole = framed(0, &check(b"/a").encode_to_vec());
        for bytes in [&whole[..], &whole[..3], b""] {
            let read = read_pieces(bytes, 2, false).await;
            assert_eq!(read, Err(CheckFault::TooSlow));
        }
    }

    #[tokio::test]
    async fn an_answer_is_one_message_and_a_status() {
        let answer = any_answer();
        let message = answer.message().to_vec();
        let body = reply(answer).into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), framed(0, &message));
    }

    proptest! {
        /// Arbitrary bytes give a check or a fault, and a body above the limit is never decoded.
        #[test]
        fn every_body_is_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..1200),
            is_framed in any::<bool>(),
            size in 1..1200_usize,
        ) {
            let bytes = if is_framed { framed(0, &bytes) } else { bytes };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            let read = runtime.block_on(read_pieces(&bytes, size, true));
            prop_assert!(read.is_err() || bytes.len() <= 1005);
            prop_assert_eq!(
                bytes.len() > 1005,
                matches!(read, Err(CheckFault::TooLarge)) && bytes.len() > 1005
            );
        }
    }
}
