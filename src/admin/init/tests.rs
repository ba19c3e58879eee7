use std::collections::BTreeMap;

use clap::ValueEnum as _;

use super::*;
use crate::{
    cli::Gateway,
    config::{Settings, Sources},
    files::Files,
};

fn arguments() -> Init {
    Init {
        gateway: None,
        database: None,
        table: None,
        username: None,
        password: None,
        dir: ".".into(),
    }
}

fn asked(arguments: Init, lines: &str) -> anyhow::Result<Answers> {
    answered(arguments, &mut Questions::new(lines.as_bytes()))
}

#[test]
fn every_combination_of_answers_gives_valid_settings() {
    let dir = tempfile::tempdir().unwrap();
    for gateway in Gateway::value_variants() {
        for (database, table) in [
            (UserDatabase::Sqlite, "own"),
            (UserDatabase::Sqlite, "accounts"),
            (UserDatabase::Mysql, "own"),
            (UserDatabase::Mysql, "shop.accounts"),
            (UserDatabase::Postgres, "own"),
            (UserDatabase::Postgres, "shop.accounts"),
        ] {
            let answers = asked(
                Init {
                    gateway: Some(*gateway),
                    database: Some(database),
                    table: Some(table.into()),
                    ..arguments()
                },
                "login\npw_hash\n",
            )
            .unwrap();
            let text = settings(&answers);
            let files = Files::default();
            let data_dir = dir.path().display().to_string();
            let loaded = Settings::load(Sources {
                flags: vec![],
                environment: BTreeMap::from([("DOORWARD_DATA_DIR".to_owned(), data_dir)]),
                file: Some(("doorward.toml".into(), text.clone())),
                read: &|path| files.text(path),
            });
            let loaded = loaded.unwrap_or_else(|faults| panic!("{faults}\n{text}"));
            assert_eq!(loaded.policy.rules().len(), 5);
            assert_eq!(loaded.users.mapping.is_some(), table != "own", "{text}");
            let place = loaded.database.place.to_string();
            let expected = match database {
                UserDatabase::Sqlite => "doorward.db",
                UserDatabase::Mysql => "mysql://doorward@127.0.0.1:3306/auth",
                UserDatabase::Postgres => "postgres://doorward@127.0.0.1:5432/auth",
            };
            assert!(place.ends_with(expected), "{place} {text}");
            assert!(next_commands(&answers, Path::new("x")).contains("x/doorward.toml serve"));
        }
    }
}

#[test]
fn answers_are_numbers_or_names_and_an_empty_line_takes_the_default() {
    let answers = asked(arguments(), "9\nfoo\n0\n3\nmysql\nusers\n\nhash\n").unwrap();
    assert_eq!(answers.gateway, Gateway::Nginx);
    assert_eq!(answers.database, UserDatabase::Mysql);
    let table = answers.table.unwrap();
    assert_eq!(
        (&*table.name, &*table.username, &*table.password),
        ("users", "email", "hash")
    );
    let own = asked(arguments(), "envoy\n2\n\n").unwrap();
    assert!(own.table.is_none());
    let embedded = asked(arguments(), "CADDY\nsqlite\n").unwrap();
    assert!(embedded.table.is_none());
}

#[test]
fn the_fault_of_a_missing_answer_names_its_option() {
    for (lines, flag) in [
        ("", "--gateway"),
        ("1\n", "--database"),
        ("1\n2\n", "--table"),
    ] {
        let fault = asked(arguments(), lines).err().unwrap().to_string();
        assert!(fault.contains(flag), "{fault}");
    }
    let columns = Init {
        gateway: Some(Gateway::Envoy),
        database: Some(UserDatabase::Mysql),
        table: Some("own".into()),
        username: Some("email".into()),
        ..arguments()
    };
    assert!(
        asked(columns, "")
            .err()
            .unwrap()
            .to_string()
            .contains("--table")
    );
}

#[test]
fn names_cannot_add_settings() {
    let answers = asked(
        Init {
            gateway: Some(Gateway::Envoy),
            database: Some(UserDatabase::Mysql),
            table: Some("a\"\nplaintext = true\n#".into()),
            ..arguments()
        },
        "\n\n",
    )
    .unwrap();
    let parsed: toml::Table = settings(&answers).parse().unwrap();
    assert!(parsed["users"].get("plaintext").is_none());
}

#[test]
fn no_file_is_overwritten_and_none_is_written_if_one_exists() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let files = |names: &[&str]| -> Vec<(PathBuf, String)> {
        names
            .iter()
            .map(|name| (path(name), "new".into()))
            .collect()
    };
    fs::write(path("b"), "old").unwrap();
    let fault = write_new(&files(&["a", "b"])).unwrap_err().to_string();
    assert!(fault.contains("exists already"), "{fault}");
    assert!(!path("a").exists());
    assert_eq!(fs::read_to_string(path("b")).unwrap(), "old");
    // A dangling link counts as an existing file.
    std::os::unix::fs::symlink(path("nowhere"), path("c")).unwrap();
    write_new(&files(&["c"])).unwrap_err();
    assert!(!path("nowhere").exists());
    write_new(&files(&["a", "missing/d"])).unwrap_err();
    assert!(!path("a").exists());
    write_new(&files(&["a", "d"])).unwrap();
    assert_eq!(fs::read_to_string(path("d")).unwrap(), "new");
}
