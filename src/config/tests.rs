mod issuers;

use std::{collections::BTreeMap, io, path::Path};

use doorward_rules::keys::SecretSource;

use super::*;
use crate::{domain::identity_headers::IdentityNames, observe::spans::Collector};

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let sources = Sources {
        flags: Vec::new(),
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        file: Some(("doorward.toml".into(), file.into())),
        read: &|path: &Path| match path.to_str() {
            Some("/secret") => Ok("f3b1c2d4e5a60718293a4b5c6d7e8f90\n".into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
    };
    Settings::load(sources)
        .map_err(|Faults(faults)| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn no_setting_is_required() {
    let settings = load("", &[]).unwrap();
    assert_eq!(settings.listen.grpc.to_string(), "127.0.0.1:9001");
    assert!(
        matches!(settings.database.place, Database::Sqlite(path) if path == Path::new("./data/doorward.db"))
    );
    assert!(matches!(settings.jwt.keys.secret, SecretSource::File(_)));
    assert_eq!(settings.policy.rules().len(), 3);
}

/// Two sections may read the same value; its fault is reported once.
#[test]
fn no_fault_is_reported_twice() {
    for key in keys() {
        let name = key.environment();
        let faults = load("", &[(&name, "\u{1}")]).err().unwrap_or_default();
        let mut once = faults.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), faults.len(), "{faults:#?}");
    }
}

#[test]
fn documented_defaults_equal_the_real_defaults() {
    for key in keys() {
        let untypable = ["none", "any", "empty", "built-in roots", "one per core"];
        let computed = [
            "SQLite in data_dir",
            "generated in data_dir",
            "the same database",
            "Doorward's own",
            "the user name",
            "keys in data_dir",
        ];
        if untypable.contains(&key.default) || computed.contains(&key.default) {
            continue;
        }
        let default = format!("{:?}", load("", &[]).unwrap());
        let name = key.environment();
        let mut environment = vec![(&*name, key.default)];
        if key.name == "database.port" {
            continue;
        }
        let set = format!("{:?}", load("", &environment).unwrap());
        assert_eq!(default, set, "{name}");
        environment[0].1 = "\u{1}";
        assert!(
            ["data_dir", "audit.to"].contains(&key.name) || load("", &environment).is_err(),
            "{name}"
        );
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let file = "[listen]\ngrpc = '127.0.0.1:1'\nops = '127.0.0.1:2'";
    let settings = load(file, &[("DOORWARD_LISTEN__OPS", "[::1]:3")]).unwrap();
    assert_eq!(settings.listen.grpc.to_string(), "127.0.0.1:1");
    assert_eq!(settings.listen.ops.to_string(), "[::1]:3");
}

#[test]
fn every_fault_is_reported_at_once_with_its_place() {
    let file = "\
[listen]
grcp = '127.0.0.1:1'
ops = 'here'

[jwt]
lifetime = '1s'
secret = 'short'

[[route]]
path = '/a/'
allow = 'admin'

[[route]]
allow = 'public'
hosts = []
metods = ['GET']
";
    let faults = load(
        file,
        &[
            ("DOORWARD_LOG_LEVEL", "info"),
            ("DOORWARD_LOG__FORMAT", "xml"),
        ],
    )
    .unwrap_err();
    for expected in [
        "doorward.toml:2: listen.grcp: is not a setting; did you mean listen.grpc?",
        "doorward.toml:3: listen.ops: \"here\" is not an address",
        "doorward.toml:6: jwt.lifetime: \"1s\" is not a duration",
        "doorward.toml:7: jwt.secret: has 5 bytes; HS256 needs at least 32 (RFC 7518, 3.2); make one with: openssl rand -hex 32",
        "doorward.toml:9: route[0]: path \"/a/\" cannot be matched",
        "doorward.toml:11: route[0].allow: \"admin\" is not a demand",
        "doorward.toml:13: route[1]: \"path\" is missing",
        "doorward.toml:15: route[1].hosts: is an empty list",
        "doorward.toml:16: route[1].metods: is not a setting; did you mean methods?",
        "environment: DOORWARD_LOG_LEVEL: is not a setting; did you mean DOORWARD_LOG__LEVEL?",
        "environment: DOORWARD_LOG__FORMAT: \"xml\" is none of: text, json",
    ] {
        assert!(
            faults.iter().any(|fault| fault.starts_with(expected)),
            "{expected}\n{faults:#?}"
        );
    }
    assert_eq!(faults.len(), 11, "{faults:#?}");
}

#[test]
fn identity_header_names_are_a_list_or_comma_separated() {
    let names = |file: &str, environment: &[(&str, &str)]| {
        load(file, environment).unwrap().identity.headers
    };
    let chosen = ["xuser", "x-roles", "x_admin"].map(str::to_owned);
    let chosen = IdentityNames::parse(&chosen).unwrap();
    assert_eq!(names("", &[]), IdentityNames::default());
    assert_eq!(
        names("identity.headers = ['XUser', 'X-Roles', 'x_admin']", &[]),
        chosen
    );
    let environment = ("DOORWARD_IDENTITY__HEADERS", "xuser, x-roles,x_admin");
    assert_eq!(names("", &[environment]), chosen);
    for (value, fault) in [
        ("['x-user', 'x-roles']", "must be three names"),
        (
            "['x-user', 'x-roles', 'X_User']",
            "\"x-user\" and \"x_user\" are the same name",
        ),
        (
            "['x-user', 'x-roles', 'host']",
            "\"host\" is, or can be read as, a header with a meaning",
        ),
        (
            "['x-user', 'x-roles', 'x admin']",
            "\"x admin\" is not the name of a header",
        ),
        ("[]", "must be three names"),
    ] {
        let faults = load(&format!("identity.headers = {value}"), &[]).unwrap_err();
        let expected = format!("doorward.toml:1: identity.headers: {fault}");
        assert!(
            faults.len() == 1 && faults[0].starts_with(&expected),
            "{faults:?}"
        );
    }
}

#[test]
fn a_toml_syntax_error_names_its_line() {
    let faults = load("a = 1\nb = ", &[]).unwrap_err();
    assert!(
        faults[0].starts_with("doorward.toml:2: not TOML"),
        "{faults:?}"
    );
}

#[test]
fn common_mysql_environment_variables_are_accepted() {
    let settings = load(
        "",
        &[
            ("MYSQL_HOST", "mysql"),
            ("MYSQL_USER", "auth_user"),
            ("MYSQL_PASSWORD", "Auth123"),
            ("MYSQL_DB", "auth"),
            ("MYSQL_PORT", "tcp://10.0.0.1:3307"),
            ("JWT_SECRET_FILE", "/secret"),
        ],
    )
    .unwrap();
    let Database::MySql(mysql) = &settings.database.place else {
        panic!("{:?}", settings.database.place);
    };
    assert_eq!(
        (&*mysql.host, mysql.port, &*mysql.name),
        ("mysql", 3307, "auth")
    );
    assert!(matches!(settings.jwt.keys.secret, SecretSource::Given(_)));
    let shown = format!("{settings:?}");
    assert!(
        !shown.contains("Auth123") && !shown.contains("f3b1"),
        "{shown}"
    );
}

#[test]
fn incomplete_or_conflicting_database_settings_are_faults() {
    let faults = load("", &[("MYSQL_HOST", "mysql")]).unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    let faults = load(
        "",
        &[
            ("MYSQL_HOST", "h"),
            ("MYSQL_USER", "u"),
            ("MYSQL_DB", "d"),
            ("DATABASE_URL", "sqlite:x"),
        ],
    )
    .unwrap_err();
    assert_eq!(faults.len(), 3, "{faults:?}");
    let with_password = |url| {
        let password = ("DOORWARD_DATABASE__PASSWORD", "Auth123");
        load("", &[("DATABASE_URL", url), password])
    };
    for url in ["postgres://u@h/d", "mysql://u@h/d"] {
        let settings = with_password(url).unwrap();
        let (Database::Postgres(server) | Database::MySql(server)) = settings.database.place else {
            panic!("{url}");
        };
        assert!(server.has_password("Auth123"), "{url}");
    }
    for url in ["postgres://u:p@h/d", "sqlite:x"] {
        let faults = with_password(url).unwrap_err();
        assert_eq!(faults.len(), 1, "{url}: {faults:?}");
    }
    let faults = load("", &[("DATABASE_URL", "mysql://u:Auth123@h:x/d")]).unwrap_err();
    assert!(!faults[0].contains("Auth123"), "{faults:?}");
}

#[test]
fn mysql_has_no_default_secret_and_two_secrets_conflict() {
    let url = ("DATABASE_URL", "mysql://u:p@h/d");
    assert!(matches!(
        load("", &[url]).unwrap().jwt.keys.secret,
        SecretSource::Missing
    ));
    let faults = load(
        "",
        &[
            url,
            ("JWT_SECRET", "f3b1c2d4e5a60718293a4b5c6d7e8f90"),
            ("JWT_SECRET_FILE", "/secret"),
        ],
    )
    .unwrap_err();
    assert!(faults[0].contains("JWT_SECRET sets the same"), "{faults:?}");
    let faults = load("", &[("JWT_SECRET_FILE", "/nowhere")]).unwrap_err();
    assert!(faults[0].contains("cannot be read"), "{faults:?}");
}

#[test]
fn variables_of_kubernetes_service_links_are_ignored() {
    assert!(
        load(
            "",
            &[
                ("DOORWARD_PORT", "tcp://10.0.0.1:9001"),
                ("DOORWARD_SERVICE_HOST", "10.0.0.1")
            ]
        )
        .is_ok()
    );
}

#[test]
fn tracing_is_off_by_default_and_needs_a_plain_http_url() {
    assert_eq!(load("", &[]).unwrap().tracing.collector, None);
    // A cluster may set this variable for every program; without a collector it has no effect.
    let named = load("", &[("OTEL_SERVICE_NAME", "edge-login")]).unwrap();
    assert_eq!(named.tracing.collector, None);
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
        ("OTEL_SERVICE_NAME", "edge-login"),
    ];
    let settings = load("[tracing]\nsample = 0.25", &environment).unwrap();
    let expected = Collector {
        url: "http://collector:4317".into(),
        service: "edge-login".into(),
        sample: 0.25,
    };
    assert_eq!(settings.tracing.collector, Some(expected));
    for url in [
        "collector:4317",
        "https://collector:4317",
        "http://collector:4318/v1/traces",
        "http://user:a-secret@collector:4317",
        "grpc://collector:4317",
        "",
    ] {
        let faults = load("", &[("DOORWARD_TRACING__OTLP", url)]).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(!faults[0].contains("a-secret"), "{faults:?}");
    }
    for sample in ["-0.1", "1.1", "NaN", "inf", "some"] {
        let faults = load("", &[("DOORWARD_TRACING__SAMPLE", sample)]).unwrap_err();
        assert_eq!(faults.len(), 1, "{sample}");
    }
}
