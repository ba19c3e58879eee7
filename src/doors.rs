//! How gateways and people ask: gRPC, HTTP and its dialects, and the connections below them. A door turns a message into a
//! request, and a decision into an answer.
//!
//! Must not know: rules, SQL, settings.

/// The methods of `AsyncWrite` that write and flush, forwarded to the field `stream`.
macro_rules! write_through {
    () => {
        fn poll_write(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
            bytes: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::pin::Pin::new(&mut self.stream).poll_write(context, bytes)
        }

        fn poll_write_vectored(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
            pieces: &[std::io::IoSlice<'_>],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::pin::Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
        }

        fn is_write_vectored(&self) -> bool {
            self.stream.is_write_vectored()
        }

        fn poll_flush(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.stream).poll_flush(context)
        }
    };
}
use write_through;

pub(crate) mod connection;
pub mod grpc;
pub(crate) mod http;
pub(crate) mod layers;
pub(crate) mod listen;
pub(crate) mod tls;
pub mod wire;
