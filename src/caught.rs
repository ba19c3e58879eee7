//! Panics while a request is decided: each becomes an answer, so that the connection lives on.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

/// What comes of a future, or nothing if it panics. hyper would reset the call or the connection, which is no answer, and
/// Envoy with `failure_mode_allow` lets a request without an answer through.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(future).catch_unwind().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_no_end() {
        assert_eq!(caught(async { 7 }).await, Some(7));
        let panics = async {
            tokio::task::yield_now().await;
            panic!("as a fault of Doorward would");
        };
        assert_eq!(caught::<()>(panics).await, None);
    }
}
