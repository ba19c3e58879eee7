//! How gateways and people ask: gRPC, HTTP and its dialects, and the connections below them. A door turns a message into a
//! request, and a decision into an answer.
//!
//! Must not know: rules, SQL, settings.

pub mod grpc;
pub mod headers;
pub mod http;
pub(crate) mod layers;
pub mod listen;
pub mod tls;
pub mod wire;
