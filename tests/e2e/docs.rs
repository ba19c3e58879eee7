//! Every command in the documents is run, and every setting is checked.

use std::{collections::BTreeSet, env, fs, os::unix::fs::symlink, path::Path, process::Command};

use doorward::{
    config::{Entry, keys},
    domain::{
        key::{Algorithm, Key, KeyId},
        token::UnixTime,
    },
};

use crate::{
    front::{BOB, Front, tampered},
    grpc_client::{check_json, reflected},
    harness::{Database, Doorward, Envoy, MariaDb, repository},
};

fn readme() -> String {
    text("README.md")
}

fn text(document: &str) -> String {
    fs::read_to_string(repository().join(document)).unwrap()
}

/// The fenced blocks of one language in a document, in order.
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
    let rows: Vec<_> = keys()
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
        let text = text("docs/settings.md");
        let head = "| key | default | meaning |\n|---|---|---|\n";
        let (before, after) = text.split_once(head).unwrap();
        let (_, after) = after.split_once("\n\n").unwrap();
        fs::write(
            repository().join("docs/settings.md"),
            format!("{before}{head}{table}\n\n{after}"),
        )
        .unwrap();
    }
    assert!(
        text("docs/settings.md").contains(&format!("|---|---|---|\n{table}\n\n")),
        "the table should be\n{table}"
    );
}

/// The sections of settings, with the settings that a reload applies and those that need a restart.
#[test]
fn the_table_of_what_is_read_again_is_the_one_in_the_code() {
    let section = |key: &Entry| key.name.split_once('.').map_or("", |(section, _)| section);
    let mut sections: Vec<&str> = keys().map(section).collect();
    let mut known = Vec::new();
    sections.retain(|section| {
        let new = !known.contains(section);
        known.push(section);
        new
    });
    let rows = sections.into_iter().map(|wanted| {
        let names = |reloads: bool| {
            let of = |key: &&'static Entry| section(key) == wanted && key.reloads == reloads;
            let names = keys().filter(of).map(|key| {
                let name = key.name.rsplit('.').next().unwrap();
                format!("`{name}`")
            });
            match &*names.collect::<Vec<_>>() {
                [] => "-".to_owned(),
                names => names.join(", "),
            }
        };
        let section = match wanted {
            "" => "at the top".to_owned(),
            wanted => format!("`{wanted}`"),
        };
        format!("| {section} | {} | {} |", names(true), names(false))
    });
    let table = rows.collect::<Vec<_>>().join("\n");
    let head = "| section | read again | needs a restart |\n|---|---|---|\n";
    let file = repository().join("docs/keys.md");
    if env::var_os("DOORWARD_GOLDEN").is_some_and(|value| value == "write") {
        let text = text("docs/keys.md");
        let (before, after) = text.split_once(head).unwrap();
        let after = after.trim_start_matches(|c| c != '\n');
        let after = after.split_once("\n\n").map_or(after, |(_, after)| after);
        fs::write(&file, format!("{before}{head}{table}\n\n{after}")).unwrap();
    }
    assert!(
        text("docs/keys.md").contains(&format!("{head}{table}\n\n")),
        "the table should be\n{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_settings_holds_together() {
    for document in [
        "README.md",
        "docs/rules.md",
        "docs/users.md",
        "docs/keys.md",
        "docs/transport.md",
        "docs/tracing.md",
        "docs/feed.md",
        "docs/machine-keys.md",
        "docs/sign-in.md",
    ] {
        let blocks = blocks(document, "toml");
        assert!(!blocks.is_empty(), "{document}");
        for block in blocks {
            let home = Doorward::prepare(|settings| {
                settings.toml(&*block);
            });
            let ran = home.run(&["config", "check"], "").await;
            assert!(ran.status.success(), "{document}\n{block}\n{ran:?}");
        }
    }
}

/// Runs the blocks of docs/keys.md in order, each in the situation that the guide describes. A block that no test knows
/// is a fault.
#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_the_guide_to_keys_does_what_it_says() {
    let home = Doorward::prepare(|settings| {
        settings.toml("");
    });
    let dir = home.dir().to_owned();
    let keys = dir.join("data/keys");
    let path = |name: &str| dir.join(name).display().to_string();
    let variables = |more: &[(&str, &str)]| -> Vec<_> {
        let own = [
            ("DOORWARD_DATA_DIR", path("data")),
            ("DOORWARD_CONFIG", path("doorward.toml")),
            ("KEYS", path("data/keys")),
        ];
        let more = more
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        let all = own.into_iter().chain(more);
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    };
    let mut blocks = blocks("docs/keys.md", "sh").into_iter();
    let mut next = |with: &str| {
        let block = blocks.next().unwrap_or_default();
        assert!(block.contains(with), "{with}: {block}");
        block
    };

    let first = next("keys generate ES256");
    let said = run(&first, &dir, &variables(&[]), &[]);
    assert!(said.contains("signing") && said.contains("ES256"), "{said}");
    // If a secret exists, the key is staged, and tokens of the secret stay valid.
    let given = "JWT_SECRET";
    let secret = "a4c1e0937f62d85b1c3e7f9024d6b8a15e7c9d02";
    let beside = variables(&[("DOORWARD_JWT__KEYS_DIR", &path("beside")), (given, secret)]);
    let said = run(&first, &dir, &beside, &[]);
    assert!(said.contains("staged") && said.contains("HS256"), "{said}");

    let said = run(&next("openssl genpkey"), &dir, &variables(&[]), &[]);
    assert!(
        said.contains("2099-december") && said.contains("PS256"),
        "{said}"
    );
    fs::remove_file(keys.join("2099-december.pem")).unwrap();

    let said = run(&next("rotate --after 10m"), &dir, &variables(&[]), &[]);
    assert!(
        said.contains("staged") && said.contains("signing"),
        "{said}"
    );

    // Two keys that started to sign years ago; the older one has expired.
    let old = path("old");
    for (name, since) in [("older", 1_600_000_000), ("old", 1_700_000_000)] {
        let id = KeyId::parse(name).unwrap();
        let key = Key::generate(&id, Algorithm::Es256, UnixTime(since)).unwrap();
        fs::create_dir_all(&old).unwrap();
        fs::write(dir.join("old").join(format!("{name}.pem")), &*key).unwrap();
    }
    let more = [("DOORWARD_JWT__KEYS_DIR", &*old), ("OLD", "older")];
    let said = run(&next("keys retire \"$OLD\""), &dir, &variables(&more), &[]);
    assert!(said.contains("Removed older"), "{said}");

    let replicas = next("sha256sum");
    let leaked = next("--now");
    let more = [("DOORWARD_JWT__KEYS_DIR", &*old), ("LEAKED", "old")];
    let said = run(&leaked, &dir, &variables(&more), &[]);
    let listed = said.rsplit_once("KID").unwrap().1;
    assert!(
        listed.contains("signing") && !listed.contains("old "),
        "{said}"
    );

    let published = next("jwks.json");
    let hang_up = next("kill -HUP");
    assert_eq!(blocks.next(), None, "nothing tests this block");
    let doorward = home.serve().await;
    let ports = [(":9002", doorward.http.port())];
    let said = run(&replicas, &dir, &variables(&[]), &ports);
    let sums: Vec<_> = said.lines().collect();
    assert!(sums.len() == 2 && sums[0] == sums[1], "{said}");
    let said = run(&published, &dir, &variables(&[]), &ports);
    let exported = fs::read_to_string(dir.join("jwks.json")).unwrap();
    assert_eq!(said.trim(), exported.trim());
    assert_eq!(exported.matches("\"kid\"").count(), 2, "{exported}");
    run(
        &hang_up,
        &dir,
        &variables(&[("PID", &doorward.pid().to_string())]),
        &[],
    );
    doorward
        .logged("a reload", |line| {
            line["fields"]["message"] == "reloaded" && line["fields"]["by"] == "SIGHUP"
        })
        .await;
}

/// Envoy verifies tokens with the public keys, fetched or from a file, and does not ask Doorward.
#[tokio::test(flavor = "multi_thread")]
async fn the_filters_of_the_guide_to_keys_verify() {
    let [fetched, local] = <[String; 2]>::try_from(blocks("docs/keys.md", "yaml")).unwrap();
    let lines: Vec<_> = fetched.split_inclusive('\n').collect();
    let at = lines.iter().position(|line| line.contains("remote_jwks"));
    let at = at.unwrap();
    for is_local in [false, true] {
        let home = Doorward::prepare(|_| {});
        home.run(&["keys", "generate", "ES256"], "").await.ok();
        home.add_user(BOB.0, BOB.1, &[]).await;
        let doorward = home.serve().await;
        let exported = doorward.run(&["keys", "export"], "").await.ok().stdout;
        let file = doorward.home().dir().join("jwks.json");
        fs::write(&file, exported).unwrap();
        let file = file.display().to_string();
        let filter = match is_local {
            false => fetched.clone(),
            true => {
                let own = local.replace("/etc/envoy/jwks.json", &file);
                [&lines[..at], &[&*own], &lines[at + 3..]].concat().concat()
            }
        };
        let indented = filter.lines().map(|line| format!("{:18}{line}\n", ""));
        let filter: String = indented.collect();
        let before = "                  - name: envoy.filters.http.ext_authz\n";
        let cluster = format!(
            "  clusters:
    - name: doorward_http
      type: STATIC
      load_assignment:
        cluster_name: doorward_http
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }}
",
            doorward.http.port()
        );
        let front = Front::before(Envoy::NEWEST, doorward, |config| {
            let config = config.replace(before, &format!("{filter}{before}"));
            config.replace("  clusters:\n", &cluster)
        })
        .await;
        let bob = front.bearer(BOB).await;
        let good = front.send("GET", "/x", &[("authorization", &bob)]).await;
        assert_eq!(good.status, 200, "{is_local}: {good:?}");
        let nothing = front.send("GET", "/x", &[]).await;
        assert_eq!(
            (nothing.status, nothing.text()),
            (401, "Jwt is missing"),
            "{is_local}"
        );
        let forged = tampered(&bob);
        let forged = front.send("GET", "/x", &[("authorization", &forged)]).await;
        assert_eq!(
            (forged.status, forged.text()),
            (401, "Jwt verification fails"),
            "{is_local}"
        );
    }
}

#[test]
fn every_make_target_exists() {
    let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
    for line in readme()
        .lines()
        .chain(["make test", "make bench", "make fuzz", "make sanitize"])
    {
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

/// `make fuzz` runs every file of `fuzz/fuzz_targets`, with the seeds of its folder.
#[test]
fn every_fuzz_target_is_described_and_has_seeds() {
    let names = |dir: &str| {
        let names = fs::read_dir(repository().join(dir)).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<BTreeSet<_>>()
    };
    let targets: BTreeSet<_> = (names("fuzz/fuzz_targets").iter())
        .map(|file| file.strip_suffix(".rs").unwrap().to_owned())
        .collect();
    assert_eq!(targets, names("fuzz/seeds"));
    let described = text("fuzz/README.md");
    let rows = described
        .lines()
        .filter_map(|line| line.strip_prefix("| `"));
    let rows: BTreeSet<_> = rows
        .map(|row| row.split('`').next().unwrap().to_owned())
        .collect();
    assert_eq!(targets, rows);
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Runs a block as its reader would, with this build of Doorward in the path and with the real ports of the test.
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

/// Runs each block of commands once, identified by its content. A block that no test knows is a fault.
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
    let documents = ["README.md", "docs/http.md", "docs/users.md"];
    for block in documents.map(|document| blocks(document, "sh")).concat() {
        known += 1;
        if block.starts_with("make ") {
            // `every_make_target_exists`, the smoke test of the demo, and this test run itself cover these.
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
            // The test database has its own address and password.
            let rest = block.replacen(exports, "", 1);
            let said = run(&rest, &dir, &env, &[]);
            assert!(
                said.contains("up to date") && said.contains("hold together"),
                "{said}"
            );
        } else if block.contains("doorward users hashes") {
            let said = run(&block, &dir, &variables, &ports);
            assert!(
                said.contains("All tokens of grace are revoked") && said.contains("argon2id"),
                "{said}"
            );
        } else if block.contains("doorward throttle") {
            let said = run(&block, &dir, &variables, &ports);
            assert!(said.contains("Cleared"), "{said}");
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
            panic!("nothing tests this block:\n{block}");
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
        "SECURITY.md",
        "docs/http.md",
        "docs/security.md",
        "docs/settings.md",
        "docs/rules.md",
        "docs/users.md",
        "docs/keys.md",
        "docs/operations.md",
        "docs/transport.md",
        "docs/issuers.md",
        "docs/tracing.md",
        "docs/metadata.md",
        "docs/gateways/envoy.md",
        "docs/kubernetes.md",
        "docs/metrics.md",
        "docs/feed.md",
        "docs/sign-in.md",
        "docs/assertion.md",
        "docs/filter.md",
        "docs/install.md",
    ] {
        let text = text(document);
        let beside = repository().join(document);
        let beside = beside.parent().unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap();
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
            let here = [
                "",
                "src/",
                "crates/core/src/",
                "crates/rules/src/",
                "crates/filter/src/",
                "examples/matrix/",
                "tests/e2e/",
            ]
            .iter()
            .any(|dir| repository().join(dir).join(file).exists());
            assert!(here, "{document} names {part}");
        }
    }
}
