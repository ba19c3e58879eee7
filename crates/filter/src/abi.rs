//! Envoy's interface for dynamic modules: the declarations, safe types around them, and the hooks that Envoy calls. The
//! only module that may hold unsafe code.
//!
//! Must not know: what a decision is.

mod config;
mod hooks;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod host;
mod log;
mod raw;
mod reply;
mod stream;

pub(crate) use self::{
    config::{Config, ConfigId, Metric, Scheduler},
    log::{Level, write},
    reply::Reply,
    stream::{Flow, Header, Headers, Of, Stream},
};
