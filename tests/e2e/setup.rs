//! The commands that read no settings: first files, completions, manual pages.

use std::{fs, io::Write as _, path::Path, process::Command};

use crate::harness::{Doorward, fed, repository};

fn doorward(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    // Any command that reads settings would refuse this one.
    command
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .env("DOORWARD_LISTEN__GRPC", "nowhere");
    command
}

/// What `doorward init` writes for each gateway, and the files of this repository, which other tests start.
const GATEWAYS: &[(&str, &[(&str, &str)])] = &[
    ("envoy", &[("envoy.yaml", "envoy/envoy.yaml")]),
    ("envoy-http", &[("envoy.yaml", "envoy/envoy-http.yaml")]),
    ("nginx", &[("nginx.conf", "examples/nginx/nginx.conf")]),
    ("caddy", &[("Caddyfile", "examples/caddy/Caddyfile")]),
    (
        "haproxy",
        &[
            ("haproxy.cfg", "examples/haproxy/haproxy.cfg"),
            ("doorward.lua", "examples/haproxy/doorward.lua"),
        ],
    ),
    (
        "traefik",
        &[
            ("traefik.yaml", "examples/traefik/traefik.yaml"),
            ("dynamic.yaml", "examples/traefik/dynamic.yaml"),
        ],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn init_writes_valid_files_and_never_overwrites_them() {
    let home = Doorward::prepare(|_| {});
    for (gateway, files) in GATEWAYS {
        let dir = tempfile::tempdir().unwrap();
        let arguments = ["init", "--gateway", gateway, "--database", "sqlite"];
        let ran = doorward(&arguments, dir.path()).output().unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(ran.status.success(), "{gateway}: {said} {:?}", ran.stderr);
        assert!(
            said.contains("\n  doorward user add NAME --admin\n"),
            "{said}"
        );
        let mut written: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        written.sort();
        let mut expected: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        expected.push("doorward.toml");
        expected.sort_unstable();
        assert_eq!(written, expected, "{gateway}");
        for (name, tested) in *files {
            let text = fs::read_to_string(dir.path().join(name)).unwrap();
            let tested = fs::read_to_string(repository().join(tested)).unwrap();
            assert_eq!(text, tested, "{gateway}: {name}");
            assert!(said.contains(name) || *name == "doorward.lua" || *name == "dynamic.yaml");
        }
        let settings = dir.path().join("doorward.toml");
        let config = settings.display().to_string();
        let checked = home
            .run(&["--config", &config, "config", "check"], "")
            .await
            .ok();
        assert!(checked.stdout.contains("5 rules"), "{}", checked.stdout);

        // A second run changes nothing.
        fs::OpenOptions::new()
            .append(true)
            .open(&settings)
            .unwrap()
            .write_all(b"# mine\n")
            .unwrap();
        let ran = doorward(&arguments, dir.path()).output().unwrap();
        assert_eq!(ran.status.code(), Some(2));
        let said = String::from_utf8(ran.stderr).unwrap();
        assert!(
            said.contains("doorward.toml") && said.contains("exists already"),
            "{said}"
        );
        assert!(fs::read_to_string(&settings).unwrap().ends_with("# mine\n"));
    }
}

#[test]
fn init_asks_for_everything_that_no_option_gives() {
    let dir = tempfile::tempdir().unwrap();
    let mut asked = doorward(&["init", "--gateway", "nginx"], dir.path());
    let ran = fed(&mut asked, b"mysql\naccounts\n\npw_hash\n");
    let (said, asked) = (
        String::from_utf8(ran.stdout).unwrap(),
        String::from_utf8(ran.stderr).unwrap(),
    );
    assert!(ran.status.success(), "{said}{asked}");
    assert!(!asked.contains("Which gateway"), "{asked}");
    for question in [
        "Where are the users?",
        "2) mysql",
        "Which table",
        "password hash? [password] >",
    ] {
        assert!(asked.contains(question), "{question}: {asked}");
    }
    for next in [
        "MYSQL_PASSWORD_FILE",
        "doorward migrate",
        "doorward users hashes",
        "nginx -c",
    ] {
        assert!(said.contains(next), "{next}: {said}");
    }
    let settings = fs::read_to_string(dir.path().join("doorward.toml")).unwrap();
    for line in [
        "table = \"accounts\"",
        "username = \"email\"",
        "password = \"pw_hash\"",
    ] {
        assert!(settings.contains(line), "{line}: {settings}");
    }
    let other = tempfile::tempdir().unwrap();
    let ran = fed(&mut doorward(&["init"], other.path()), b"");
    assert_eq!(ran.status.code(), Some(2));
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
}

/// Commands and options that every script must contain.
const KNOWN: [&str; 5] = ["serve", "completions", "policy", "--config", "rotate"];

#[test]
fn each_shell_gets_completions() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = doorward(&["completions", shell], dir.path())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{shell}");
        let script = String::from_utf8(ran.stdout).unwrap();
        for name in KNOWN {
            let name = name.trim_start_matches('-');
            assert!(script.contains(name), "{shell}: {name}");
        }
    }
    // Bash itself completes `doorward pol` and an option.
    let script = "
        eval \"$($DOORWARD completions bash)\"
        complete_at() {
            COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _doorward doorward \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
            echo \"${COMPREPLY[@]}\"
        }
        complete_at doorward pol
        complete_at doorward init --gateway ngi";
    let ran = Command::new("bash")
        .args(["-euc", script])
        .env("DOORWARD", env!("CARGO_BIN_EXE_doorward"))
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    let faults = String::from_utf8_lossy(&ran.stderr);
    let lines: Vec<_> = said.lines().map(str::trim).collect();
    assert_eq!(lines, ["policy", "nginx"], "{said}{faults}");
}

#[test]
fn each_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let ran = doorward(&["man", "--into", "."], dir.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let pages: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    for name in [
        "doorward",
        "doorward-serve",
        "doorward-user-add",
        "doorward-init",
    ] {
        let page = dir.path().join(format!("{name}.1"));
        let text = fs::read_to_string(&page).unwrap_or_else(|_| panic!("{name} of {pages:?}"));
        assert!(
            text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"),
            "{name}"
        );
        assert!(text.contains("Examples"), "{name}: {text}");
    }
    assert!(!dir.path().join("doorward-help.1").exists());
    let ran = doorward(&["man"], dir.path()).output().unwrap();
    let printed = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(
        printed,
        fs::read_to_string(dir.path().join("doorward.1")).unwrap()
    );
    assert_eq!(
        doorward(&["man", "--into", "nowhere"], dir.path())
            .status()
            .unwrap()
            .code(),
        Some(2)
    );
}
