//! Envoy's interface for dynamic modules: the declarations, safe types around them, and the hooks that Envoy calls. The
//! only module that may hold unsafe code.
//!
//! Must not know: what a decision is.

mod config;
mod hooks;
mod log;
mod raw;
mod stream;

pub(crate) use self::{
    config::{Config, ConfigId, Metric, Scheduler},
    hooks::{Flow, Reply},
    log::{Level, write},
    stream::{Header, Headers, Of, Stream},
};
