//! Every command and every setting in the README, run and read.

use std::{env, fs, os::unix::fs::symlink, path::Path, process::Command};

use doorward::config::KEYS;

use crate::{
    front::Front,
    grpc_client::{check_json, reflected},
    harness::{Database, Doorward, Envoy, MariaDb, repository},
};

fn readme() -> String {
    text("README.md")
}

fn text(document: &str) -> String {
    fs::read_to_string(repository().join(document)).unwrap()
}

/// The fenced blocks of a language in a document, in their order.
pub fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = text(document);
    let mut found = Vec::new();
    let mut rest = &*text;
    while let Some((_, block)) = rest.split_once(&format!("```{language}\n")) {
        let (block, after) = block.split_once("```").unwrap();
        found.push(block.to_owned());
        rest = after;
    }
    found
}

#[test]
fn the_table_of_settings_is_the_one_in_the_code() {
    let rows: Vec<_> = KEYS
        .iter()
        .map(|key| {
            let also: Vec<_> = key.also.iter().map(|name| format!("`{name}`")).collect();
            let also = match &*also {
                [] => String::new(),
                also => format!(" (also {})", also.join(", ")),
            };
            format!(
                "| `{}`{also} | {} | {} |",
                key.name, key.default, key.meaning
            )
        })
        .collect();
    let table = rows.join("\n");
    if env::var_os("DOORWARD_GOLDEN").is_some_and(|value| value == "write") {
        let text = readme();
        let head = "| key | default | meaning |\n|---|---|---|\n";
        let (before, after) = text.split_once(head).unwrap();
        let (_, after) = after.split_once("\n\n").unwrap();
        fs::write(
            repository().join("README.md"),
            format!("{before}{head}{table}\n\n{after}"),
        )
        .unwrap();
    }
    assert!(
        readme().contains(&format!("|---|---|---|\n{table}\n\n")),
        "the table should be\n{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_settings_holds_together() {
    let blocks = blocks("README.md", "toml");
    assert!(!blocks.is_empty());
    for block in blocks {
        let home = Doorward::prepare(|settings| {
            settings.toml(block);
        });
        home.run(&["config", "check"], "").await.ok();
    }
}

#[test]
fn every_make_target_exists() {
    let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
    for line in readme().lines().chain(["make test", "make bench"]) {
        for (at, _) in line.match_indices("make ") {
            let before = line[..at].chars().next_back();
            if !matches!(before, None | Some('`')) {
                continue;
            }
            let target: String = line[at + 5..]
                .chars()
                .take_while(char::is_ascii_lowercase)
                .collect();
            assert!(makefile.contains(&format!("\n{target}:")), "{line}");
        }
    }
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Runs a block as its reader would, with our binary in the path and the ports where things really are.
pub fn run(
    block: &str,
    dir: &Path,
    variables: &[(String, String)],
    ports: &[(&str, u16)],
) -> String {
    let mut script = block.replace("cargo run --release -- ", "doorward ");
    for (port, real) in ports {
        assert!(port.len() == 5, "a colon and four digits");
        script = script.replace(port, &format!(":{real}"));
    }
    let bin = dir.join("bin");
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        symlink(env!("CARGO_BIN_EXE_doorward"), bin.join("doorward")).unwrap();
    }
    let path = format!("{}:{}", bin.display(), env::var("PATH").unwrap());
    let ran = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(dir)
        .env_clear()
        .env("PATH", path)
        .envs(variables.iter().cloned())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(ran.status.success(), "{block}\n{said}");
    said
}

/// Each block of commands is tested once, by what it contains: a block that nobody knows is a fault.
#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_commands_does_what_it_says() {
    let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
    let doorward = Doorward::start(|settings| {
        settings.toml(rules);
    })
    .await;
    let front = Front::before(Envoy::NEWEST, doorward, |config| config).await;
    let dir = front.doorward.home().dir().to_owned();
    let pool = reflected(&front.doorward).await;
    let file = dir.join("doorward.toml").display().to_string();
    let mut variables = vec![
        (
            "DOORWARD_DATA_DIR".to_owned(),
            dir.join("data").display().to_string(),
        ),
        ("DOORWARD_CONFIG".to_owned(), file),
    ];
    let ports = [
        (":8080", front.envoy.edge.port()),
        (":9001", front.doorward.grpc.port()),
        (":9002", front.doorward.http.port()),
    ];
    let mut known = 0;
    for block in blocks("README.md", "sh") {
        known += 1;
        if block.starts_with("make ") {
            // `every_make_target_exists`, the smoke test of the demo, and whoever runs this.
        } else if block.contains("-- serve") {
            assert_eq!(block, "cargo run --release -- serve\n");
        } else if block.contains("/validate") {
            let said = run(&block, &dir, &variables, &ports);
            assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 2, "{said}");
            assert!(said.contains("\"username\":\"bob\""), "{said}");
        } else if block.contains("curl -i -X POST") {
            let said = run(
                &format!("{block}\necho\necho \"is:$TOKEN\""),
                &dir,
                &variables,
                &ports,
            );
            assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 2, "{said}");
            assert!(
                said.contains("\"user\":\"bob\"") && said.contains("\"expires_in\":86400"),
                "{said}"
            );
            let token = said.rsplit_once("is:").unwrap().1;
            let token = token.lines().next().unwrap().to_owned();
            variables.push(("TOKEN".into(), token));
        } else if block.contains("grpcurl") {
            let token = variables.iter().find(|(name, _)| name == "TOKEN").unwrap();
            let json = block
                .split_once("-d '")
                .unwrap()
                .1
                .rsplit_once("' \\\n")
                .unwrap()
                .0;
            let json = json.replace("'\"$TOKEN\"'", &token.1);
            let answer = check_json(&front.doorward, &pool, &json).await.to_string();
            let expected = ["\"okResponse\"", "\"value\":\"bob\""];
            let expected = if json.contains("/login") {
                &["\"code\":\"OK\"", "Bearer eyJ"]
            } else {
                &expected
            };
            assert!(
                expected.iter().all(|part| answer.contains(part)),
                "{answer}"
            );
            if is_installed("grpcurl") {
                let said = run(&block, &dir, &variables, &ports);
                assert!(
                    said.contains(expected[0].trim_matches('"').split('"').next().unwrap()),
                    "{said}"
                );
            }
        } else if block.contains("MYSQL_HOST") {
            let database = Database::<MariaDb>::start().await;
            let env: Vec<_> = database
                .env()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            let exports = block.lines().next().unwrap();
            for (name, _) in &env {
                assert!(exports.contains(&format!("{name}=")), "{name}");
            }
            // The database of the test has its own address and password.
            let rest = block.replacen(exports, "", 1);
            let said = run(&rest, &dir, &env, &[]);
            assert!(
                said.contains("up to date") && said.contains("hold together"),
                "{said}"
            );
        } else if block.contains("doorward users hashes") {
            let said = run(&block, &dir, &variables, &ports);
            assert!(
                said.contains("All tokens of grace have ended") && said.contains("argon2id"),
                "{said}"
            );
        } else if block.contains("doorward throttle") {
            let said = run(&block, &dir, &variables, &ports);
            assert!(said.contains("Forgotten"), "{said}");
        } else if block.contains("doorward user add") {
            let said = run(&block, &dir, &variables, &ports);
            assert!(
                said.contains("Added ada") && said.contains("editor"),
                "{said}"
            );
        } else if block.contains("doorward policy check") {
            let said = run(&block, &dir, &variables, &ports);
            assert!(
                said.contains("403, missing-role") && said.contains("identity attached: 200"),
                "{said}"
            );
        } else if block.contains("doorward token inspect") {
            let said = run(&block, &dir, &variables, &ports);
            assert!(said.contains("accepted: it speaks for bob"), "{said}");
        } else {
            panic!("nothing tests this block of the README:\n{block}");
        }
    }
    assert!(known >= 10, "{known}");
}

#[test]
fn every_file_the_documents_name_exists() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "docs/from-flask.md",
        "docs/issuers.md",
    ] {
        let text = text(document);
        let beside = repository().join(document);
        let beside = beside.parent().unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            let there = link.starts_with("https://") || beside.join(link).exists();
            assert!(there, "{document} links to {link}");
        }
        for part in text.split('`').skip(1).step_by(2) {
            let file = part.strip_prefix("src/").unwrap_or(part);
            let is_file = ["rs", "toml", "yaml"]
                .iter()
                .any(|end| file.ends_with(&format!(".{end}")));
            if !is_file || file.contains(' ') || file == "doorward.toml" {
                continue;
            }
            let here = ["", "src/"]
                .iter()
                .any(|dir| repository().join(dir).join(file).exists());
            assert!(here, "{document} names {part}");
        }
    }
}
