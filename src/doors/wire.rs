//! The messages of ext_authz, generated from `proto/`. `build.rs` says what differs and why.

#![expect(
    missing_docs,
    clippy::disallowed_types,
    reason = "generated; proto/ documents it"
)]

/// The complete contract as a `FileDescriptorSet`, for reflection.
pub const CONTRACT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contract.bin"));

/// The full name of the gRPC service.
pub const SERVICE: &str = "envoy.service.auth.v3.Authorization";

// The generated modules refer to each other by their package paths.
pub mod envoy {
    pub mod service {
        pub mod auth {
            pub mod v3 {
                tonic::include_proto!("envoy.service.auth.v3");
            }
        }
    }
    pub mod config {
        pub mod core {
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            tonic::include_proto!("envoy.r#type.v3");
        }
    }
}
pub mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}
