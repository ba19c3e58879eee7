//! End-to-end tests: Doorward with real gateways and real databases around it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a test may panic at anything unexpected"
)]

#[path = "../harness/mod.rs"]
mod harness;

/// Defines tests, each an `async fn name<E: Engine>()`, for every database, including SQLite files.
macro_rules! on_each_database {
    ($($name:ident),+ $(,)?) => {
        on_each_database!(sqlite, crate::harness::Sqlite, $(super::$name),+);
        on_each_database!(mariadb, crate::harness::MariaDb, $(super::$name),+);
        on_each_database!(postgres, crate::harness::Postgres, $(super::$name),+);
        #[cfg(feature = "test-mysql")]
        on_each_database!(mysql, crate::harness::MySql, $(super::$name),+);
    };
    ($module:ident, $engine:ty, $(super::$name:ident),+) => {
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

/// Defines tests, each an `async fn name<S: Server>()`, for every database server: one that can be killed and frozen,
/// and that has users and grants.
macro_rules! on_each_server {
    ($($name:ident),+ $(,)?) => {
        mod servers {
            $(
                use super::$name;
            )+
            on_each_database!(mariadb, crate::harness::MariaDb, $(super::$name),+);
            on_each_database!(postgres, crate::harness::Postgres, $(super::$name),+);
            #[cfg(feature = "test-mysql")]
            on_each_database!(mysql, crate::harness::MySql, $(super::$name),+);
        }
    };
}

/// The same for what is promised about MySQL and MariaDB alone.
macro_rules! on_each_mysql_like {
    ($($name:ident),+ $(,)?) => {
        mod servers {
            $(
                use super::$name;
            )+
            on_each_database!(mariadb, crate::harness::MariaDb, $(super::$name),+);
            #[cfg(feature = "test-mysql")]
            on_each_database!(mysql, crate::harness::MySql, $(super::$name),+);
        }
    };
}

mod certificates;
mod cgi;
mod decision_series;
mod direct;
mod edges;
mod front;
mod http2;
mod load;

mod accounts;
mod addresses;
mod aliases;
mod assertion;
mod audit;
mod authorization;
mod borders;
mod checks;
mod circles;
mod clocks;
mod commands;
mod containers;
mod contract;
mod core_table;
mod crashes;
mod database;
mod docs;
mod endpoints;
mod fair_logins;
mod feed;
mod filter;
mod filter_differential;
mod filter_feed;
mod filter_living;
mod first_refusals;
mod flask;
mod floods;
mod fragments;
mod galera;
mod golden;
mod grpc_client;
mod hash_memory;
mod hosts;
mod http_port;
mod issuers;
mod jwt_authn;
mod jwt_rules;
mod keys;
mod keys_page;
mod kubernetes;
mod login;
mod machine_keys;
mod matrix;
mod metadata;
mod methods;
mod metrics;
mod monitoring;
#[cfg(feature = "test-mysql")]
mod mysql;
mod names;
mod next_rules;
mod openapi;
mod operations;
mod oracle;
mod overload;
mod packaging;
mod panics;
mod paths;
mod peers;
mod policy;
mod policy_coverage;
mod postgres;
mod preflights;
mod private_files;
mod probe;
mod proxies;
mod readings;
mod reload;
mod replay;
mod replicas;
mod request_ids;
mod rollout;
mod rotation;
mod services;
mod setup;
mod sign_in;
mod sign_in_chromium;
mod smoke;
mod spoofing;
mod streaming;
mod timing;
mod tls;
mod tracing;
mod transport;
mod validate;
mod weak_keys;
