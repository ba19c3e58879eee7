//! What people install: the unit of systemd, the settings of the package, the archive, and the book of the documents.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::harness::{Doorward, fed, program, repository};

fn ran(command: &mut Command) -> Output {
    command.current_dir(repository()).output().unwrap()
}

#[test]
fn the_unit_of_systemd_is_valid_and_hardened() {
    let unit = repository().join("packaging/doorward.service");
    let score = |unit: &Path| {
        let mut command = Command::new(program("systemd-analyze"));
        // In tenths.
        command.args(["security", "--offline=true", "--no-pager", "--threshold=20"]);
        ran(command.arg(unit))
    };
    let told = score(&unit);
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success(), "{said}");
    assert!(said.contains("Overall exposure level"), "{said}");

    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("doorward.service");
    let text = fs::read_to_string(&unit).unwrap();
    let verified = |text: &str| {
        fs::write(&copy, text).unwrap();
        let told = ran(Command::new(program("systemd-analyze"))
            .args(["verify", "--man=no"])
            .arg(&copy));
        let said = String::from_utf8_lossy(&told.stderr).into_owned();
        // It also reads the units of the machine.
        let own = said
            .lines()
            .filter(|line| line.contains("doorward.service"));
        own.map(str::to_owned).collect::<Vec<_>>()
    };
    // The program is not installed here.
    let text = text.replace("/usr/bin/doorward", "/bin/true");
    assert_eq!(verified(&text), [""; 0]);
    assert!(!verified(&text.replace("ProtectHome=yes", "ProtectHome=perhaps")).is_empty());
    // The check of the score can fail.
    let open: String = text
        .lines()
        .filter(|line| !line.starts_with("Protect") && !line.starts_with("SystemCall"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&copy, open).unwrap();
    assert!(!score(&copy).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_the_package_are_valid() {
    let home = Doorward::prepare(|_| {});
    let file = repository().join("packaging/deb/doorward.toml");
    let file = file.display().to_string();
    let checked = home.run(&["--config", &file, "config", "check"], "").await;
    assert!(checked.ok().stdout.contains("3 rules"));
}

#[test]
fn only_a_static_program_is_archived() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("dist");
    let dynamic = env!("CARGO_BIN_EXE_doorward");
    let told = ran(Command::new("packaging/dist")
        .args(["x86_64-unknown-linux-musl", dynamic])
        .arg(&made));
    assert!(!told.status.success());
    assert!(String::from_utf8_lossy(&told.stderr).contains("is not static"));
    assert!(!made.exists());
}

#[test]
fn the_bill_of_materials_lists_linked_crates() {
    let target = "x86_64-unknown-linux-musl";
    let arguments = [
        "metadata",
        "--locked",
        "--offline",
        "--format-version",
        "1",
        "--filter-platform",
        target,
    ];
    let metadata = ran(Command::new(env!("CARGO")).args(arguments));
    assert!(metadata.status.success(), "{metadata:?}");
    let bill = || {
        let mut command = Command::new("python3");
        command
            .args(["packaging/sbom.py", target])
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .current_dir(repository());
        let ran = fed(&mut command, &metadata.stdout);
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        ran.stdout
    };
    let text = bill();
    assert_eq!(text, bill(), "the same bytes");
    let bill: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(bill["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    let components = bill["components"].as_array().unwrap();
    let names: BTreeSet<_> = components
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    for linked in ["tokio", "sqlx", "doorward-core", "aws-lc-rs", "yescrypt"] {
        assert!(names.contains(linked), "{linked}");
    }
    for other in [
        "proptest",
        "protox",
        "tempfile",
        "doorward-filter",
        "windows-sys",
    ] {
        assert!(!names.contains(other), "{other}");
    }
    for one in components {
        assert!(one["licenses"][0]["expression"].is_string(), "{one}");
        let own = one["name"].as_str().unwrap().starts_with("doorward-");
        assert_ne!(one["hashes"].is_array(), own, "{one}");
    }
}

#[test]
fn the_book_has_every_document() {
    let docs = repository().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<_> = summary
        .split("](")
        .skip(1)
        .map(|link| link.split(')').next().unwrap().to_owned())
        .collect();
    let markdown = |folder: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(docs.join(folder)).unwrap();
        let files = entries.map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|end| end == "md"))
            .collect()
    };
    let there: BTreeSet<_> = [markdown(""), markdown("gateways")]
        .concat()
        .iter()
        .map(|path| path.strip_prefix(&docs).unwrap().display().to_string())
        .filter(|name| name != "SUMMARY.md")
        .collect();
    assert_eq!(listed, there);
}
