//! A connection of either door while it is served.

use std::pin::Pin;

use hyper_util::server::graceful::GracefulConnection;

/// A connection that ends by itself, or soon after it is asked to.
pub(crate) trait Connection: Future {
    /// Takes no further call; the connection ends when the open ones are answered.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

// hyper-util's trait is sealed, and a connection of the gRPC door is more than hyper's.
impl<C: GracefulConnection> Connection for C {
    fn graceful_shutdown(self: Pin<&mut Self>) {
        GracefulConnection::graceful_shutdown(self);
    }
}
