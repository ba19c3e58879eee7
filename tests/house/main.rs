//! The house as a whole: Doorward with real gateways and real databases around it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a test that meets something unexpected ends there"
)]

#[path = "../harness/mod.rs"]
mod harness;

/// Runs tests, each of them an `async fn name<E: Engine>()`, on every database server.
macro_rules! on_each_database {
    ($($name:ident),+ $(,)?) => {
        on_each_database!(mariadb, crate::harness::MariaDb, $($name),+);
        #[cfg(feature = "test-mysql")]
        on_each_database!(mysql, crate::harness::MySql, $($name),+);
    };
    ($module:ident, $engine:ty, $($name:ident),+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name::<$engine>().await;
                }
            )+
        }
    };
}

mod front;

mod borders;
mod commands;
mod contract;
mod core_table;
mod database;
mod docs;
mod endpoints;
mod flask;
mod golden;
mod grpc_client;
mod http_port;
mod login;
#[cfg(feature = "test-mysql")]
mod mysql;
mod paths;
mod proxies;
mod reload;
mod smoke;
mod spoofing;
mod streaming;
