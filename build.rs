//! Compiles `proto/` twice from one parse: the complete contract, for reflection, and the part that the gRPC door
//! reads and writes, for code generation.
//!
//! The generated code differs from the contract in five ways. None of them changes a byte on the wire:
//!
//! - messages and fields that the door does not use are left out, so prost skips them instead of decoding them;
//! - `string` becomes `bytes`: a request with a byte that is not UTF-8 must get a denial, not a gRPC error, which a
//!   gateway with `failure_mode_allow` would let pass;
//! - `map<string, string>` becomes repeated entries, its form on the wire, so that a name that occurs twice is seen;
//! - the dynamic metadata becomes bytes, its form on the wire, so that it is written in one step;
//! - no field is marked deprecated: `append` is in the contract, but Envoy up to 1.36 obeys nothing else.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;
use prost_types::{
    DescriptorProto, FileDescriptorProto, FileDescriptorSet, field_descriptor_proto::Type,
};

const ROOT: &str = "envoy/service/auth/v3/external_auth.proto";

/// The messages in the generated code, with their fields.
const CODED: &[(&str, &[&str])] = &[
    ("CheckRequest", &["attributes"]),
    ("AttributeContext", &["source", "request"]),
    ("Peer", &["address"]),
    ("Request", &["http"]),
    (
        "HttpRequest",
        &[
            "id",
            "method",
            "headers",
            "path",
            "host",
            "body",
            "raw_body",
            "header_map",
        ],
    ),
    ("HeadersEntry", &["key", "value"]),
    ("Address", &["socket_address"]),
    ("SocketAddress", &["address"]),
    ("HeaderMap", &["headers"]),
    ("HeaderValue", &["key", "value", "raw_value"]),
    ("HeaderValueOption", &["header", "append", "append_action"]),
    ("HttpStatus", &["code"]),
    ("Status", &["code", "message"]),
    (
        "CheckResponse",
        &[
            "status",
            "denied_response",
            "ok_response",
            "dynamic_metadata",
        ],
    ),
    ("DeniedHttpResponse", &["status", "headers", "body"]),
    (
        "OkHttpResponse",
        &["headers", "headers_to_remove", "response_headers_to_add"],
    ),
];

/// Fields whose messages become bytes.
const OPAQUE: &[&str] = &["dynamic_metadata"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let contract = protox::compile([ROOT], ["proto"])?;
    fs::write(out.join("contract.bin"), contract.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .skip_debug(["."])
        .compile_fds(coded(contract))?;
    Ok(())
}

fn coded(mut contract: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut contract.file {
        if !file.package().starts_with("google.protobuf") {
            narrow(&mut file.message_type);
            drop_comments(file);
        }
    }
    contract
}

fn narrow(messages: &mut Vec<DescriptorProto>) {
    messages.retain_mut(|message| {
        let Some((_, fields)) = CODED.iter().find(|(name, _)| *name == message.name()) else {
            return false;
        };
        if let Some(options) = &mut message.options {
            options.map_entry = None;
        }
        message.field.retain(|field| fields.contains(&field.name()));
        for field in &mut message.field {
            field.options = None;
            if field.r#type() == Type::String {
                field.set_type(Type::Bytes);
            }
            if OPAQUE.contains(&field.name()) {
                field.set_type(Type::Bytes);
                field.type_name = None;
            }
        }
        narrow(&mut message.nested_type);
        true
    });
}

/// Comments refer to positions in the file, which have moved.
fn drop_comments(file: &mut FileDescriptorProto) {
    file.source_code_info = None;
}
