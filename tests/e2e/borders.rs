//! What each part of the program must not depend on, checked in the sources.

use std::{fs, path::Path, process::Command};

use crate::harness::repository;

fn sources(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((
                path.display().to_string(),
                fs::read_to_string(&path).unwrap(),
            ));
        }
    }
    found
}

/// Whether a source names a crate or module, and not a longer name with the same ending.
fn names(text: &str, name: &str) -> bool {
    let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..tests].match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
    })
}

/// The direct and indirect dependencies of a crate.
fn linked(package: &str) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .current_dir(repository())
        .args(["tree", "--locked", "--offline", "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}", "--package", package])
        .output()
        .unwrap();
    assert!(tree.status.success(), "{tree:?}");
    let tree = String::from_utf8(tree.stdout).unwrap();
    let crates = tree.lines().filter_map(|line| line.split(' ').next());
    crates.map(str::to_owned).collect()
}

/// Cargo rejects dependencies that the manifest lacks; this test keeps the manifest from gaining them.
#[test]
fn the_core_crates_link_no_runtime_no_network_and_no_password_hash() {
    for (package, known) in [
        ("doorward-core", "aws-lc-rs"),
        ("doorward-rules", "arc-swap"),
        ("doorward-filter", "doorward-rules"),
    ] {
        let linked = linked(package);
        // The module encodes the messages of ext_authz, and knows no other wire format.
        let has_messages = package == "doorward-filter";
        assert!(linked.iter().any(|other| other == known), "{linked:?}");
        for foreign in [
            "argon2",
            "axum",
            "bcrypt",
            "hyper",
            "mio",
            "prost",
            "scrypt",
            "sha-crypt",
            "sqlx",
            "tokio",
            "tonic",
            "zxcvbn",
        ] {
            assert!(
                (foreign == "prost" && has_messages)
                    || !linked.iter().any(|other| other == foreign),
                "{package} links {foreign}"
            );
        }
    }
}

#[test]
fn only_tables_use_sql_and_only_doors_use_wire_types() {
    let src = repository().join("src");
    for (file, text) in sources(&src) {
        let name = file.strip_prefix(&src.display().to_string()).unwrap();
        let speaks = ["/tables"];
        if !speaks.iter().any(|room| name.starts_with(room)) {
            assert!(
                !names(&text, "sqlx::") && !names(&text, "SELECT "),
                "{file}"
            );
        }
        if !["/doors", "/serve"]
            .iter()
            .any(|door| name.starts_with(door))
        {
            assert!(
                !names(&text, "CheckResponse") && !names(&text, "tonic::"),
                "{file}"
            );
        }
        let elsewhere = !["/run", "/serve", "/admin", "/reload", "/doors/tls"]
            .iter()
            .any(|shell| name.starts_with(shell));
        assert!(!(elsewhere && names(&text, "anyhow")), "{file}");
    }
}

/// Only this module declares Envoy's functions, and makes their use safe.
#[test]
fn only_one_module_is_unsafe() {
    let root = repository().display().to_string();
    let mut unsafe_files = Vec::new();
    for dir in ["src", "crates", "examples"] {
        for (file, text) in sources(&repository().join(dir)) {
            if text.contains("unsafe {")
                || text.contains("unsafe extern")
                || text.contains("unsafe impl")
            {
                unsafe_files.push(file.replace(&root, ""));
            }
        }
    }
    assert!(!unsafe_files.is_empty());
    for file in unsafe_files {
        assert!(file.starts_with("/crates/filter/src/abi/"), "{file}");
    }
}

#[test]
fn one_function_makes_responses() {
    let answer = fs::read_to_string(repository().join("src/doors/grpc/answer.rs")).unwrap();
    let answer = answer.split("#[cfg(test)]").next().unwrap();
    // The field is private, so no other file can make one.
    assert!(answer.contains("pub struct Encoded(Bytes);"));
    let made = answer.matches("Encoded(").count() - answer.matches("struct Encoded(").count();
    assert_eq!(made, 1, "`respond` alone makes an Encoded");
    for (file, text) in sources(&repository().join("src/doors")) {
        let made = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = file.ends_with("tests.rs") || file.contains("/tests/");
        assert!(is_test || !made.contains("CheckResponse {"), "{file}");
    }
}
