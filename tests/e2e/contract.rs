//! Our proto files, compared with the official descriptors from a Python package.

use std::{collections::BTreeMap, process::Command};

use doorward::doors::wire;
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet,
};

use crate::harness::tool;

/// The generated Python modules contain the official descriptor as a literal; the test does not execute them.
const READ_LITERAL: &str = "
import ast, sys
for node in ast.walk(ast.parse(open(sys.argv[1]).read())):
    if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'AddSerializedFile':
        sys.stdout.buffer.write(node.args[0].value)
";

fn official(file: &str) -> FileDescriptorProto {
    let module = tool("xds-protos").join(file.replace(".proto", "_pb2.py"));
    let ran = Command::new("python3")
        .args(["-c", READ_LITERAL])
        .arg(&module)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let descriptor = FileDescriptorProto::decode(&*ran.stdout).unwrap();
    assert_eq!(descriptor.name(), file, "{}", module.display());
    descriptor
}

/// Everything that determines the wire format, by the full name of the item.
fn facts(file: &FileDescriptorProto) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let package = file.package().to_owned();
    for message in &file.message_type {
        message_facts(&package, message, &mut facts);
    }
    for r#enum in &file.enum_type {
        enum_facts(&package, r#enum, &mut facts);
    }
    for service in &file.service {
        for method in &service.method {
            facts.insert(
                format!("{package}.{}.{}", service.name(), method.name()),
                format!(
                    "{} -> {}, streams {} {}",
                    method.input_type(),
                    method.output_type(),
                    method.client_streaming(),
                    method.server_streaming()
                ),
            );
        }
    }
    facts
}

fn message_facts(scope: &str, message: &DescriptorProto, facts: &mut BTreeMap<String, String>) {
    let name = format!("{scope}.{}", message.name());
    let is_map = message
        .options
        .as_ref()
        .is_some_and(|options| options.map_entry());
    facts.insert(name.clone(), format!("message, map entry {is_map}"));
    for field in &message.field {
        facts.insert(
            format!("{name}.{}", field.name()),
            field_fact(message, field),
        );
    }
    for nested in &message.nested_type {
        message_facts(&name, nested, facts);
    }
    for r#enum in &message.enum_type {
        enum_facts(&name, r#enum, facts);
    }
}

fn field_fact(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let oneof = field
        .oneof_index
        .and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?))
        .map_or("none", |oneof| oneof.name());
    let deprecated = field
        .options
        .as_ref()
        .is_some_and(|options| options.deprecated());
    format!(
        "{} = {}, {}, {}, oneof {oneof}, deprecated {deprecated}",
        field.r#type().as_str_name(),
        field.number(),
        field.label().as_str_name(),
        field.type_name(),
    )
}

fn enum_facts(scope: &str, r#enum: &EnumDescriptorProto, facts: &mut BTreeMap<String, String>) {
    let name = format!("{scope}.{}", r#enum.name());
    for value in &r#enum.value {
        facts.insert(
            format!("{name}.{}", value.name()),
            value.number().to_string(),
        );
    }
}

#[test]
fn every_field_is_the_official_one() {
    let ours = FileDescriptorSet::decode(wire::CONTRACT).unwrap();
    let mut compared = 0;
    for file in &ours.file {
        // protox provides these files; they are not ours.
        if file.package() == "google.protobuf" {
            continue;
        }
        let official = facts(&official(file.name()));
        for (name, fact) in facts(file) {
            let there = official
                .get(&name)
                .unwrap_or_else(|| panic!("{name} is not official"));
            assert_eq!(&fact, there, "{name}");
            compared += 1;
        }
    }
    assert!(
        compared > 150,
        "{compared} facts are fewer than the contract has"
    );
}

/// Our files declare every field of the messages in a check, so that no field arrives as unknown.
#[test]
fn no_field_of_a_check_is_missing() {
    let ours = FileDescriptorSet::decode(wire::CONTRACT).unwrap();
    for name in [
        "envoy/service/auth/v3/external_auth.proto",
        "envoy/service/auth/v3/attribute_context.proto",
        "envoy/type/v3/http_status.proto",
        "google/rpc/status.proto",
    ] {
        let file = ours.file.iter().find(|file| file.name() == name).unwrap();
        let ours: Vec<_> = facts(file).into_keys().collect();
        let official: Vec<_> = facts(&official(name)).into_keys().collect();
        assert_eq!(ours, official, "{name}");
    }
}
