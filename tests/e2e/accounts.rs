//! Existing user tables, and people who manage their own accounts, on every database, over the HTTP port.

mod dialect;

use std::{collections::BTreeMap, path::Path, time::Duration};

use futures_util::{StreamExt as _, future::join_all, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use self::dialect::{Dialect, Rights};
use crate::{
    front::{ADA, BOB, basic},
    harness::{Database, Doorward, Engine, Home, PATIENCE, Reply, send, until},
};

const SECRET: &str = "9f2c0d1e4b7a68530c9d8e7f6a5b4c3d";

/// A password, and a cheap hash of it.
const HORSE: &str = "correct horse";
const HASH: &str = "$argon2id$v=19$m=64,t=2,p=1$xyb6yFgbcH41nRDLY3kswQ$Ghk8Oig5pJ36/7hft7A/FHrIe/PL1M4F54U+EQHPZ7s";

/// Another replica learns of a change within this time.
const SOON: Duration = Duration::from_secs(2);

on_each_database!(
    a_table_is_read_by_the_names_of_its_columns,
    a_custom_query_joins_tables_and_a_second_query_gives_roles,
    tables_that_do_not_fit_are_reported_at_the_start,
    names_that_compare_equal_stay_apart_and_refusals_look_alike,
    hashes_of_every_scheme_are_accepted_and_replaced_if_configured,
    plaintext_is_accepted_if_configured_and_replaced,
    new_users_and_passwords_are_written_to_an_existing_table_if_configured,
    people_register_and_change_their_passwords,
    a_refresh_token_continues_a_session_until_it_is_revoked,
    a_logout_revokes_one_token_or_all,
);

on_each_server!(
    read_access_suffices_and_doorward_keeps_its_state_elsewhere,
    a_column_that_is_too_short_for_a_hash_locks_nobody_out,
);

/// A home on this database with these settings, each under its key.
fn home<E: Engine>(database: &Database<E>, settings: &[(&str, &str)]) -> Home {
    Doorward::prepare(|chosen| {
        chosen
            .envs(database.env())
            .env("JWT_SECRET", SECRET)
            .env("DOORWARD_THROTTLE__ACCOUNT_FAILURES", "100");
        for (key, value) in settings {
            let name = key.replace('.', "__").to_uppercase();
            chosen.env(format!("DOORWARD_{name}"), *value);
        }
    })
}

/// Prepares such a home and starts Doorward in it.
async fn setup<E: Engine>(database: &Database<E>, settings: &[(&str, &str)]) -> Doorward {
    let home = home(database, settings);
    if !E::IS_FILE {
        home.run(&["migrate"], "").await.ok();
    }
    home.serve().await
}

/// The text as an SQL literal.
fn quoted(text: &str) -> String {
    assert!(
        !text.contains('\\'),
        "some databases read a backslash as an escape: {text}"
    );
    format!("'{}'", text.replace('\'', "''"))
}

async fn post(doorward: &Doorward, path: &str, bearer: Option<&str>, body: &Value) -> Reply {
    let mut headers = vec![
        ("content-type", "application/json"),
        ("accept", "application/json"),
    ];
    headers.extend(bearer.map(|bearer| ("authorization", bearer)));
    send(doorward.http, "POST", path, &headers, body.to_string()).await
}

async fn form(doorward: &Doorward, path: &str, bearer: Option<&str>, body: &str) -> Reply {
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
    headers.extend(bearer.map(|bearer| ("authorization", bearer)));
    send(doorward.http, "POST", path, &headers, body.to_owned()).await
}

async fn login(doorward: &Doorward, name: &str, password: &str) -> Reply {
    let body = json!({"username": name, "password": password});
    post(doorward, "/login", None, &body).await
}

/// Logs in and gives the `Authorization` value.
async fn bearer(doorward: &Doorward, name: &str, password: &str) -> String {
    let reply = login(doorward, name, password).await;
    assert_eq!(
        reply.status,
        200,
        "{name}: {reply:?}\n{}",
        doorward.output()
    );
    reply.header("authorization").unwrap().to_owned()
}

async fn validate(doorward: &Doorward, bearer: &str) -> Reply {
    send(
        doorward.http,
        "GET",
        "/validate",
        &[("authorization", bearer)],
        "",
    )
    .await
}

async fn is_good(doorward: &Doorward, bearer: &str) -> bool {
    let reply = validate(doorward, bearer).await;
    match reply.status {
        200 => true,
        _ => {
            let reason = reply.header("x-auth-reason");
            assert_eq!((reply.status, reason), (403, Some("token-ended")));
            false
        }
    }
}

/// Waits until another replica refuses this revoked token.
async fn ends_soon(doorward: &Doorward, bearer: &str) {
    until("the other replica refuses the token", SOON, async || {
        (!is_good(doorward, bearer).await).then_some(())
    })
    .await;
}

/// Logs in and gives the identity: `sub`, name, whether an administrator, roles.
async fn who(doorward: &Doorward, name: &str, password: &str) -> Value {
    let bearer = bearer(doorward, name, password).await;
    let claims = validate(doorward, &bearer).await.json();
    json!([
        claims["sub"],
        claims["username"],
        claims["admin"],
        claims["roles"]
    ])
}

async fn cause(doorward: &Doorward, reason: &str) -> String {
    let line = doorward
        .logged(reason, |line| {
            line["fields"]["reason"] == reason && !line["fields"]["cause"].is_null()
        })
        .await;
    line["fields"]["cause"].as_str().unwrap().to_owned()
}

const COLUMNS: &[(&str, &str)] = &[
    ("users.username", "name"),
    ("users.password", "pass word"),
    ("users.id", "key"),
    ("users.roles", "roles"),
    ("users.admin", "is_admin"),
    ("users.active", "is_active"),
];

async fn a_table_is_read_by_the_names_of_its_columns<E: Dialect>() {
    let database = Database::<E>::start().await;
    let flags = |kind: &str| format!("is_admin {kind}, is_active {kind}");
    let ada = E::bytes("0190B8A62D8C7C558D6F3C1F5A1B2CFF");
    let bob = E::bytes("6162636465666768696A6B6C6D6E6F70");
    // Each table has an administrator and another user, with the ids that tokens must contain.
    let shapes = [
        (
            E::AUTO,
            "VARCHAR(255)".to_owned(),
            flags("BOOLEAN"),
            [
                (E::NEXT, "' editor, billing'", "TRUE", "TRUE"),
                (E::NEXT, "''", "FALSE", "TRUE"),
            ],
            [
                json!(["1", "ada", true, ["admin", "billing", "editor"]]),
                json!(["2", "bob", false, []]),
            ],
        ),
        (
            E::UNSIGNED,
            E::JSON.to_owned(),
            flags(E::TINY),
            [
                (E::LARGEST, "'[\"editor\", \"a:b\"]'", "1", "1"),
                ("7", "NULL", "NULL", "1"),
            ],
            [
                json!([E::LARGEST, "ada", true, ["a:b", "admin", "editor"]]),
                json!(["7", "bob", false, []]),
            ],
        ),
        (
            "CHAR(36) PRIMARY KEY",
            "TEXT".to_owned(),
            flags(E::BIT),
            [
                (
                    "'0190b8a6-2d8c-7c55-8d6f-3c1f5a1b2c3d'",
                    "'[]'",
                    E::SET,
                    E::SET,
                ),
                ("'b'", "'[\"editor\"]'", E::UNSET, E::SET),
            ],
            [
                json!([
                    "0190b8a6-2d8c-7c55-8d6f-3c1f5a1b2c3d",
                    "ada",
                    true,
                    ["admin"]
                ]),
                json!(["b", "bob", false, ["editor"]]),
            ],
        ),
        (
            E::BINARY,
            format!("{} NOT NULL", E::EXACT),
            flags("CHAR(1)"),
            [
                (&*ada, "'admin'", "'N'", "'Y'"),
                // These bytes would be valid text, but the columns are binary.
                (&*bob, "','", "'n'", "'y'"),
            ],
            [
                json!(["0190b8a62d8c7c558d6f3c1f5a1b2cff", "ada", true, ["admin"]]),
                json!(["6162636465666768696a6b6c6d6e6f70", "bob", false, []]),
            ],
        ),
    ];
    for (number, (id, roles, flags, rows, expected)) in shapes.into_iter().enumerate() {
        // The name is an SQL keyword with a space.
        let table = format!("order {number}");
        let [quoted, key, password] = [&*table, "key", "pass word"].map(E::name);
        let mut sql = format!(
            "CREATE TABLE {quoted} ({key} {id}, name {}, {password} VARCHAR(255), roles {roles}, {flags});",
            E::EXACT
        );
        for (name, (id, roles, admin, active)) in ["ada", "bob"].iter().zip(rows) {
            sql += &format!(
                "INSERT INTO {quoted} VALUES ({id}, '{name}', '{HASH}', {roles}, {admin}, {active});"
            );
        }
        database.sql(&sql);
        let settings = [COLUMNS, &[("users.table", &*table)]].concat();
        let doorward = setup(&database, &settings).await;
        for (name, expected) in ["ada", "bob"].iter().zip(expected) {
            assert_eq!(who(&doorward, name, HORSE).await, expected, "{id}");
        }
        let listed = doorward
            .run(&["user", "list", "--output", "json"], "")
            .await;
        let listed: Value = serde_json::from_str(&listed.ok().stdout).unwrap();
        assert_eq!(listed.as_array().unwrap().len(), 2);
    }
    // A query for roles receives the id in the form that tokens contain.
    let (key, last) = (E::name("key"), E::name("order 3"));
    let (bytes, unhex) = (E::BYTES, E::UNHEX);
    database.sql(&format!("CREATE TABLE memberships ({key} {bytes}, role VARCHAR(9)); INSERT INTO memberships SELECT {key}, 'found' FROM {last}"));
    let roles_query = format!("SELECT role FROM memberships WHERE {key} = {unhex}");
    let settings = [
        COLUMNS,
        &[
            ("users.table", "order 3"),
            ("users.roles_query", &roles_query),
        ],
    ]
    .concat();
    let doorward = setup(&database, &settings).await;
    for (name, roles) in [
        ("ada", json!(["admin", "found"])),
        ("bob", json!(["found"])),
    ] {
        assert_eq!(who(&doorward, name, HORSE).await[3], roles);
    }
    // A name that does not consist of hexadecimal digits.
    assert_eq!(login(&doorward, "nobody", HORSE).await.status, 401);
    // Without an id column, the name is the id. Here, the database exists before its table.
    database.sql(&format!(
        "CREATE TABLE plain (email {bytes}, password {bytes}); INSERT INTO plain VALUES ('eve@example.com', '{HASH}')"
    ));
    let table = format!("{}.plain", E::HOME);
    let settings = [
        ("users.table", &*table),
        ("users.username", "email"),
        ("users.password", "password"),
        ("users.grant", "member, b"),
    ];
    let doorward = setup(&database, &settings).await;
    assert_eq!(
        who(&doorward, "eve@example.com", HORSE).await,
        json!(["eve@example.com", "eve@example.com", false, ["b", "member"]])
    );
}

async fn a_custom_query_joins_tables_and_a_second_query_gives_roles<E: Dialect>() {
    let database = Database::<E>::start().await;
    let (auto, exact) = (E::AUTO, E::EXACT);
    database.sql(&format!(
        "CREATE TABLE people (person {auto}, email {exact}, gone BOOLEAN);
        CREATE TABLE secrets (person INT, hash VARCHAR(255));
        CREATE TABLE memberships (person INT, role VARCHAR(64));
        INSERT INTO people (email, gone) VALUES ('ada', FALSE), ('bob', FALSE), ('eve', TRUE), ('mallory', FALSE);
        INSERT INTO secrets VALUES (1, '{HASH}'), (2, '{HASH}'), (3, '{HASH}'), (4, '{HASH}');
        INSERT INTO memberships VALUES (1, 'admin'), (1, 'editor'), (1, 'editor'), (4, 'not a role');"
    ));
    let query =
        "  select p.person AS id, p.email AS UserName, s.hash AS password, NOT p.gone AS active
        FROM people AS p JOIN secrets AS s ON s.person = p.person WHERE p.email = ?;";
    let settings = [
        ("users.query", query),
        (
            "users.roles_query",
            "SELECT role FROM memberships WHERE person = ?",
        ),
        ("users.grant", "member"),
        (
            "users.inactive_query",
            "SELECT person FROM people WHERE gone = TRUE",
        ),
    ];
    let doorward = setup(&database, &settings).await;
    assert_eq!(
        who(&doorward, "ada", HORSE).await,
        json!(["1", "ada", true, ["admin", "editor", "member"]])
    );
    assert_eq!(
        who(&doorward, "bob", HORSE).await,
        json!(["2", "bob", false, ["member"]])
    );
    for name in ["eve", "nobody", "mallory", "Ada"] {
        assert_eq!(login(&doorward, name, HORSE).await.status, 401, "{name}");
    }
    let cause = cause(&doorward, "unknown-user").await;
    assert!(cause.contains("malformed list of roles"), "{cause}");

    let (ada, bob) = (
        bearer(&doorward, "ada", HORSE).await,
        bearer(&doorward, "bob", HORSE).await,
    );
    database.sql("UPDATE people SET gone = TRUE WHERE email = 'ada'");
    ends_soon(&doorward, &ada).await;
    assert!(is_good(&doorward, &bob).await);
    database.sql("UPDATE people SET gone = FALSE WHERE email = 'ada'");
    until("the token is good again", SOON, async || {
        is_good(&doorward, &ada).await.then_some(())
    })
    .await;
    for command in [&["user", "list"][..], &["user", "hashes"]] {
        let ran = doorward.run(command, "").await;
        assert_eq!(ran.status.code(), Some(2));
        assert!(ran.stderr.contains("set users.table instead"), "{ran:?}");
    }
}

async fn tables_that_do_not_fit_are_reported_at_the_start<E: Dialect>() {
    let database = Database::<E>::start().await;
    database.sql(&format!(
        "CREATE TABLE members (id {}, name VARCHAR(64), hash VARCHAR(255))",
        E::AUTO
    ));
    let fits = [
        ("users.table", "members"),
        ("users.username", "name"),
        ("users.password", "hash"),
    ];
    let but = |settings: &[(&'static str, &'static str)]| [&fits[..], settings].concat();
    let query = |sql| vec![("users.query", sql)];
    home(&database, &[]).run(&["migrate"], "").await.ok();
    for (settings, named) in [
        (but(&[("users.table", "membres")]), "membres"),
        (but(&[("users.username", "nmae")]), "nmae"),
        (but(&[("users.password", "hsah")]), "hsah"),
        (but(&[("users.id", "di")]), "di"),
        (but(&[("users.roles", "rolse")]), "rolse"),
        (but(&[("users.admin", "amdin")]), "amdin"),
        (but(&[("users.active", "actvie")]), "actvie"),
        (
            but(&[("users.roles_query", "SELECT role FROM rolse WHERE id = ?")]),
            "rolse",
        ),
        (
            but(&[("users.inactive_query", "SELECT di FROM members")]),
            "di",
        ),
        (
            query("SELECT id, name AS username FROM members WHERE name = ?"),
            "no column \"password\"",
        ),
        (
            query("SELECT id, name, hash AS password FROM members WHERE name = ?"),
            "no column \"username\"",
        ),
        (
            query("SELECT name AS username, hash AS password FROM members WHERE nmae = ?"),
            "nmae",
        ),
        (query("SELECT name FROM WHERE name = ?"), "syntax"),
        (
            but(&[(
                "users.update_password",
                "UPDATE members SET hsah = ? WHERE name = ? AND hash = ?",
            )]),
            "hsah",
        ),
        (
            but(&[(
                "users.insert",
                "INSERT INTO membres (name, hash) VALUES (?, ?)",
            )]),
            "membres",
        ),
        (
            but(&[("self_service.register", "true")]),
            "/register is switched on, but users.insert",
        ),
        (
            but(&[("self_service.password", "true")]),
            "/password is switched on, but users.update_password",
        ),
    ] {
        let home = home(&database, &settings);
        home.run(&["config", "check"], "").await.ok();
        let ran = home.run(&["serve"], "").await;
        assert_eq!(ran.status.code(), Some(2), "{settings:?}: {ran:?}");
        let said = ran.stderr.lines().last().unwrap();
        assert!(said.contains(named), "{settings:?}: {said}");
    }
    // Invalid settings are reported without a database.
    for (settings, faults) in [
        (
            vec![
                ("users.query", "SELECT 1 WHERE ? = ?"),
                ("users.roles_query", "DELETE FROM members WHERE id = ?"),
                (
                    "users.inactive_query",
                    "SELECT id FROM members WHERE id = ?",
                ),
                ("users.update_password", "auto"),
                ("users.insert", "INSERT INTO members (name) VALUES (?)"),
                ("users.name", "x"),
            ],
            &[
                "users__query: must have 1 question mark, and has 2",
                "users__roles_query: must be one SELECT statement",
                "users__inactive_query: must have 0 question marks, and has 1",
                "users__update_password: cannot be made from users.query; write the UPDATE",
                "users__insert: must have 2 question marks, and has 1",
                "users__name: is not a setting",
            ][..],
        ),
        (
            query("UPDATE members SET name = ?"),
            &["users__query: must be one SELECT statement"],
        ),
        (
            vec![("users.table", "members"), ("users.username", "na`me")],
            &[
                "users__table: users.password is missing beside it",
                "users__username: must be a name",
            ],
        ),
        (
            vec![("users.roles", "roles"), ("users.grant", "a")],
            &[
                "users__roles: needs users.table or users.query",
                "users__grant: needs users.table or users.query",
            ],
        ),
        (
            vec![
                ("users.table", "members"),
                ("users.query", "SELECT ?"),
                ("users.plaintext", "perhaps"),
            ],
            &["users__query: users.table is set too", "users__plaintext: "],
        ),
    ] {
        let ran = home(&database, &settings)
            .run(&["config", "check"], "")
            .await;
        assert_eq!(ran.status.code(), Some(2), "{settings:?}: {ran:?}");
        assert!(
            ran.stderr.contains(&format!("{} fault", faults.len())),
            "{ran:?}"
        );
        for fault in faults {
            let (name, what) = fault.split_once(": ").unwrap();
            let fault = format!("DOORWARD_{}: {what}", name.to_uppercase());
            assert!(ran.stderr.contains(&fault), "{fault}\n{}", ran.stderr);
        }
    }
    // A database that is down is not a fault of the settings.
    if !E::IS_FILE {
        let doorward = Doorward::start(|settings| {
            settings
                .env("DATABASE_URL", "mysql://u:p@127.0.0.1:1/auth")
                .env("JWT_SECRET", SECRET)
                .envs(fits.map(|(key, value)| {
                    let name = key.replace('.', "__").to_uppercase();
                    (format!("DOORWARD_{name}"), value)
                }));
        })
        .await;
        assert_eq!(login(&doorward, "ada", HORSE).await.status, 503);
    }
}

/// All parts of an answer by which a client could tell accounts apart.
fn told(reply: &Reply) -> (u16, Vec<(String, Vec<u8>)>, String) {
    let headers = reply.headers.iter();
    let headers = headers
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    (reply.status, headers, reply.text().to_owned())
}

async fn names_that_compare_equal_stay_apart_and_refusals_look_alike<E: Dialect>() {
    let database = Database::<E>::start().await;
    database.sql(&format!(
        "CREATE TABLE members (id {}, name {}, hash VARCHAR(255), active BOOLEAN NOT NULL DEFAULT TRUE)",
        E::AUTO,
        E::FOLDED
    ));
    let add = |name: &str, hash: &str, active: bool| {
        let (name, hash) = (quoted(name), quoted(hash));
        database.sql(&format!(
            "INSERT INTO members (name, hash, active) VALUES ({name}, {hash}, {active})"
        ));
    };
    let mut vectors = vectors()
        .into_iter()
        .filter(|vector| vector.scheme == "md5-crypt")
        .map(|vector| (vector.password.clone(), vector))
        .collect::<BTreeMap<_, _>>()
        .into_values();
    let mut people = vec![];
    for name in ["bob"].iter().chain(E::ALIKE) {
        let vector = vectors.next().unwrap();
        add(name, &vector.hash, true);
        people.push((*name, vector));
    }
    let fetched = database.sql("SELECT COUNT(*) FROM members WHERE name = 'bob'");
    assert_eq!(fetched, format!("{}\n", people.len()), "they fold");
    for _ in 0..2 {
        add("twice", HASH, true);
    }
    for n in 0..17 {
        add(if n % 2 == 0 { "Many" } else { "many" }, HASH, true);
    }
    add("off", HASH, false);
    add("empty", "", true);
    add("strange", "!locked!", true);
    database.sql("INSERT INTO members (name, hash) VALUES ('none', NULL)");
    let settings = [
        ("users.table", "members"),
        ("users.id", "id"),
        ("users.username", "name"),
        ("users.password", "hash"),
        ("users.active", "active"),
        ("users.update_password", "auto"),
    ];
    let doorward = setup(&database, &settings).await;

    let wrong = told(&login(&doorward, "bob", "wrong").await);
    assert_eq!((wrong.0, &*wrong.2), (401, "Invalid credentials"));
    for round in 0..2 {
        for (name, vector) in &people {
            let reply = login(&doorward, name, &vector.password).await;
            assert_eq!(reply.status, 200, "{round} {name:?}: {reply:?}");
            let id = people.iter().position(|(other, _)| other == name).unwrap() + 1;
            let bearer = reply.header("authorization").unwrap();
            let claims = validate(&doorward, bearer).await.json();
            assert_eq!(claims["sub"], id.to_string(), "{name:?}");
            assert_eq!(claims["username"], *name);
        }
        for ((name, _), (_, other)) in people.iter().zip(people.iter().cycle().skip(1)) {
            let reply = login(&doorward, name, &other.password).await;
            assert_eq!(told(&reply), wrong, "{name:?}");
        }
        // The second round runs with the hashes that the first round has stored.
        let is_done = async || {
            let old = database.sql("SELECT COUNT(*) FROM members WHERE hash LIKE '$1$%'");
            (old == "0\n").then_some(())
        };
        until("all hashes are replaced", PATIENCE, is_done).await;
    }

    for (name, password, reason, why) in [
        ("off", HORSE, "disabled", None),
        ("off", "wrong", "wrong-password", None),
        ("empty", "x", "unsupported-hash", None),
        ("none", "NULL", "unsupported-hash", None),
        ("strange", "!locked!", "unsupported-hash", None),
        ("nobody", HORSE, "unknown-user", None),
        ("bOb", HORSE, "unknown-user", None),
        (
            "twice",
            HORSE,
            "unknown-user",
            Some("several users share it"),
        ),
        ("many", HORSE, "unknown-user", Some("users share it")),
    ] {
        let before = doorward.log().len();
        let reply = login(&doorward, name, password).await;
        assert_eq!(told(&reply), wrong, "{name:?} {password:?}");
        let line = until("a line of the log", PATIENCE, async || {
            let log = doorward.log();
            let mut new = log.into_iter().skip(before);
            new.find(|line| line["fields"]["reason"] == reason)
        })
        .await;
        let cause = &line["fields"]["cause"];
        match why {
            Some(why) => assert!(cause.as_str().unwrap().contains(why), "{line}"),
            None => assert!(cause.is_null(), "{line}"),
        }
    }
    assert_eq!(login(&doorward, "empty", "").await.status, 400);
}

/// A hash made by other software.
#[derive(Clone, Deserialize)]
struct Vector {
    scheme: String,
    made_by: String,
    password: String,
    hash: String,
}

fn vectors() -> Vec<Vector> {
    let read = |text| serde_json::from_str::<Vec<Vector>>(text).unwrap();
    let mut vectors = read(include_str!("../vectors/passwords.json"));
    vectors.extend(read(include_str!("../vectors/tables.json")));
    vectors
}

/// For each scheme, how many users have such a hash and how many of these hashes will be replaced.
async fn hashes(doorward: &Doorward) -> BTreeMap<String, (u64, u64)> {
    let ran = doorward
        .run(&["users", "hashes", "--output", "json"], "")
        .await
        .ok();
    let counts: Value = serde_json::from_str(&ran.stdout).unwrap();
    let counts = counts.as_array().unwrap().iter();
    counts
        .map(|count| {
            let number = |key: &str| count[key].as_u64().unwrap();
            let scheme = count["scheme"].as_str().unwrap().to_owned();
            (scheme, (number("users"), number("outdated")))
        })
        .collect()
}

async fn hashes_of_every_scheme_are_accepted_and_replaced_if_configured<E: Dialect>() {
    let database = Database::<E>::start().await;
    // One hash of each kind of software, and with a server one of each scheme; the unit tests check all of them.
    let kind = |vector: &Vector| {
        let made_by = E::IS_FILE.then(|| vector.made_by.clone());
        (vector.scheme.clone(), made_by)
    };
    let people: Vec<_> = vectors()
        .into_iter()
        .map(|vector| (kind(&vector), vector))
        .collect::<BTreeMap<_, _>>()
        .into_values()
        .collect();
    for table in ["kept", "replaced"] {
        let mut sql = format!(
            "CREATE TABLE {table} (name {}, hash VARCHAR(1024));",
            E::EXACT
        );
        for (number, vector) in people.iter().enumerate() {
            let hash = quoted(&vector.hash);
            sql += &format!("INSERT INTO {table} VALUES ('user{number}', {hash});");
        }
        database.sql(&sql);
    }
    let settings = |table, update| {
        [
            ("users.table", table),
            ("users.username", "name"),
            ("users.password", "hash"),
            ("users.update_password", update),
            // The default.
            ("throttle.account_failures", "5"),
        ]
    };
    let everybody_logs_in = async |doorward: &Doorward| {
        let logins = people.iter().enumerate().map(async |(number, vector)| {
            let name = format!("user{number}");
            let reply = login(doorward, &name, &vector.password).await;
            assert_eq!(reply.status, 200, "{}: {}", vector.made_by, vector.hash);
        });
        stream::iter(logins)
            .buffer_unordered(8)
            .collect::<()>()
            .await;
    };
    let mut expected = BTreeMap::new();
    for vector in &people {
        let (users, outdated) = expected.entry(vector.scheme.clone()).or_default();
        *users += 1;
        let good = ["$argon2id$v=19$m=19456,", "$argon2id$v=19$m=65536,"];
        *outdated += u64::from(!good.iter().any(|good| vector.hash.starts_with(good)));
    }

    let doorward = setup(&database, &settings("kept", "none")).await;
    assert!(expected.len() > 10, "{expected:?}");
    assert_eq!(hashes(&doorward).await, expected);
    everybody_logs_in(&doorward).await;
    assert_eq!(hashes(&doorward).await, expected);
    drop(doorward);

    let doorward = setup(&database, &settings("replaced", "auto")).await;
    assert_eq!(hashes(&doorward).await, expected);
    everybody_logs_in(&doorward).await;
    let all = people.len() as u64;
    let done = BTreeMap::from([("argon2id".to_owned(), (all, 0))]);
    until("all are replaced", PATIENCE, async || {
        (hashes(&doorward).await == done).then_some(())
    })
    .await;
    everybody_logs_in(&doorward).await;

    // Many logins of one user at once, whose hash is replaced at the same time.
    let before = upgrades(&doorward);
    for (number, scheme) in ["phpass", "pbkdf2", "sha512-crypt"].iter().enumerate() {
        let vector = people.iter().find(|vector| vector.scheme == *scheme);
        let vector = vector.unwrap();
        let hash = quoted(&vector.hash);
        database.sql(&format!(
            "UPDATE replaced SET hash = {hash} WHERE name = 'user0'"
        ));
        // Some logins arrive while the first one replaces the hash.
        let logins = (0..20).map(async |n| {
            tokio::time::sleep(Duration::from_millis(n * 20)).await;
            login(&doorward, "user0", &vector.password).await
        });
        for reply in join_all(logins).await {
            assert_eq!(
                reply.status,
                200,
                "{scheme}: {reply:?}\n{}",
                doorward.output()
            );
        }
        until("the hash is replaced", PATIENCE, async || {
            (upgrades(&doorward) > before + number).then_some(())
        })
        .await;
        let hash = database.sql("SELECT hash FROM replaced WHERE name = 'user0'");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,"), "{hash}");
        assert_eq!(
            login(&doorward, "user0", &vector.password).await.status,
            200
        );
    }
    assert_eq!(
        upgrades(&doorward),
        before + 3,
        "one replacement for twenty logins"
    );
}

fn upgrades(doorward: &Doorward) -> usize {
    let log = doorward.log();
    log.iter()
        .filter(|line| line["fields"]["message"] == "hash upgraded")
        .count()
}

async fn plaintext_is_accepted_if_configured_and_replaced<E: Dialect>() {
    let database = Database::<E>::start().await;
    database.sql(&format!(
        "CREATE TABLE members (name {folded}, hash {folded});
        INSERT INTO members VALUES ('bob', 'secret'), ('Bob', 'Secret'), ('ada', '{HASH}'), ('eve', '$9$odd')",
        folded = E::FOLDED
    ));
    let settings = |plaintext, update| {
        [
            ("users.table", "members"),
            ("users.username", "name"),
            ("users.password", "hash"),
            ("users.update_password", update),
            ("users.plaintext", plaintext),
        ]
    };
    let doorward = setup(&database, &settings("false", "auto")).await;
    for name in ["bob", "Bob"] {
        assert_eq!(login(&doorward, name, "secret").await.status, 401);
    }
    assert_eq!(login(&doorward, "ada", HASH).await.status, 401);
    let unsupported = |line: &Value| line["fields"]["reason"] == "unsupported-hash";
    doorward.logged("no hash", unsupported).await;
    drop(doorward);

    let doorward = setup(&database, &settings("true", "auto")).await;
    let warned = |line: &Value| {
        let message = line["fields"]["message"].as_str().unwrap_or_default();
        line["level"] == "WARN" && message.contains("users.plaintext is on")
    };
    doorward.logged("a warning", warned).await;
    let before = hashes(&doorward).await;
    assert_eq!(before["plaintext"], (2, 2), "{before:?}");
    for (name, password, status) in [
        ("ada", HASH, 401),
        ("eve", "$9$odd", 401),
        ("bob", "Secret", 401),
        ("Bob", "secret", 401),
        ("bob", "secret", 200),
    ] {
        let reply = login(&doorward, name, password).await;
        assert_eq!(reply.status, status, "{name} {password}");
    }
    until("bob's is replaced", PATIENCE, async || {
        (upgrades(&doorward) == 1).then_some(())
    })
    .await;
    // Names and passwords that compare equal in the collation still belong to two users.
    assert_eq!(
        database.sql("SELECT hash FROM members WHERE hash LIKE 'secret'"),
        "Secret\n"
    );
    for (name, password, status) in [
        ("Bob", "secret", 401),
        ("Bob", "Secret", 200),
        ("bob", "Secret", 401),
        ("bob", "secret", 200),
    ] {
        let reply = login(&doorward, name, password).await;
        assert_eq!(reply.status, status, "{name} {password}");
    }
    until("Bob's is replaced", PATIENCE, async || {
        (!hashes(&doorward).await.contains_key("plaintext")).then_some(())
    })
    .await;
    for (name, password) in [("bob", "secret"), ("Bob", "Secret")] {
        assert_eq!(login(&doorward, name, password).await.status, 200);
    }
}

async fn new_users_and_passwords_are_written_to_an_existing_table_if_configured<E: Dialect>() {
    let database = Database::<E>::start().await;
    // The second table allows duplicate names.
    for (table, unique) in [("members", "UNIQUE"), ("loose", "")] {
        database.sql(&format!(
            "CREATE TABLE {table} (id {}, name {} {unique}, hash VARCHAR(255), source VARCHAR(9) DEFAULT 'form')",
            E::AUTO,
            E::FOLDED
        ));
    }
    let settings = |table, update, insert| {
        [
            ("users.table", table),
            ("users.id", "id"),
            ("users.username", "name"),
            ("users.password", "hash"),
            ("users.update_password", update),
            ("users.insert", insert),
            ("self_service.register", "true"),
            ("self_service.password", "true"),
        ]
    };
    let update = "UPDATE loose SET hash = ? WHERE name = ? AND hash = ?";
    let insert = "INSERT INTO loose (name, hash, source) VALUES (?, ?, 'doorward')";
    let new = |name: &str| json!({"username": name, "password": "a-long-password"});
    for (settings, source) in [
        (settings("members", "auto", "auto"), "form"),
        (settings("loose", update, insert), "doorward"),
    ] {
        let doorward = setup(&database, &settings).await;
        for status in [201, 409] {
            let reply = post(&doorward, "/register", None, &new("carol")).await;
            assert_eq!(reply.status, status, "{reply:?}");
        }
        let carol = bearer(&doorward, "carol", "a-long-password").await;
        assert_eq!(validate(&doorward, &carol).await.json()["sub"], "1");
        let sources = database.sql(&format!("SELECT source FROM {}", settings[0].1));
        assert_eq!(sources, format!("{source}\n"));

        let change =
            json!({"current_password": "a-long-password", "new_password": "a-new-password"});
        let changed = post(&doorward, "/password", Some(&carol), &change).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        assert!(!is_good(&doorward, &carol).await);
        let carol = bearer(&doorward, "carol", "a-new-password").await;

        let run = async |arguments: &[&str]| doorward.run(arguments, "another-password\n").await;
        run(&["user", "add", "Dave"]).await.ok();
        bearer(&doorward, "Dave", "another-password").await;
        let twice = run(&["user", "add", "Dave"]).await;
        assert!(
            twice.stderr.contains("a user of that name exists"),
            "{twice:?}"
        );
        let roles = run(&["user", "add", "erin", "--admin"]).await;
        assert!(roles.stderr.contains("give roles"), "{roles:?}");
        run(&["user", "passwd", "carol"]).await.ok();
        bearer(&doorward, "carol", "another-password").await;
        ends_soon(&doorward, &carol).await;
        let folded = post(&doorward, "/register", None, &new("dave")).await;
        match settings[0].1 {
            // The table treats both names as one.
            "members" => assert_eq!(folded.status, 409),
            _ => {
                assert_eq!(folded.status, 201);
                bearer(&doorward, "dave", "a-long-password").await;
                bearer(&doorward, "Dave", "another-password").await;
            }
        }
    }
}

async fn read_access_suffices_and_doorward_keeps_its_state_elsewhere<S: Rights>() {
    let database = Database::<S>::start().await;
    database.sql(&format!(
        "CREATE TABLE members (id INT PRIMARY KEY, name VARCHAR(64), hash VARCHAR(255), note TEXT);
        INSERT INTO members VALUES (1, 'ada', '{HASH}', 'not for Doorward');"
    ));
    database.sql(S::USERS);
    let url = database.url("reader", "r", "auth");
    let server = database.url("keeper", "k", "state");
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", dir.path().join("state.db").display());
    let grant = S::UPDATE;
    for (state, tables) in [(&server, true), (&file, false)] {
        let home = Doorward::prepare(|settings| {
            settings
                .env("DATABASE_URL", &url)
                .env("DOORWARD_STATE__URL", state)
                .env("JWT_SECRET", SECRET)
                .env("DOORWARD_USERS__TABLE", "members")
                .env("DOORWARD_USERS__ID", "id")
                .env("DOORWARD_USERS__USERNAME", "name")
                .env("DOORWARD_USERS__PASSWORD", "hash")
                .env("DOORWARD_USERS__UPDATE_PASSWORD", "auto")
                .env("DOORWARD_REFRESH__ENABLED", "true");
        });
        home.run(&["migrate"], "").await.ok();
        // A setting for which a right is missing is reported at the start; a right that is lost later does not prevent
        // logins.
        let ran = home.run(&["serve"], "").await;
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(ran.stderr.contains(S::DENIED), "{ran:?}");
        database.sql(grant);
        let doorward = home.serve().await;
        database.sql(&grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM "));
        let first = bearer(&doorward, "ada", HORSE).await;
        let second = login(&doorward, "ada", HORSE).await;
        let refresh = second.json()["refresh_token"].clone();
        let refreshed = post(
            &doorward,
            "/refresh",
            None,
            &json!({"refresh_token": refresh}),
        )
        .await;
        assert_eq!(refreshed.status, 200, "{refreshed:?}");
        let out = post(&doorward, "/logout", Some(&first), &json!({})).await;
        assert_eq!(out.status, 200);
        assert!(!is_good(&doorward, &first).await);
        let refused = |line: &Value| {
            let message = line["fields"]["message"].as_str().unwrap_or_default();
            message.contains("could not be replaced")
        };
        doorward.logged("the refused update", refused).await;
        let out = doorward.run(&["user", "logout", "ada"], "").await.ok();
        assert!(out.stdout.contains("are revoked"), "{out:?}");
        let bearer = second.header("authorization").unwrap();
        ends_soon(&doorward, bearer).await;
        for command in [
            &["user", "disable", "ada"][..],
            &["user", "remove", "ada"],
            &["user", "add", "bob"],
            &["user", "role", "ada", "--grant", "admin"],
        ] {
            let ran = doorward.run(command, "a-long-password\n").await;
            assert_eq!(ran.status.code(), Some(2), "{ran:?}");
            assert!(ran.stderr.contains("the user table is yours"), "{ran:?}");
        }
        let kept = S::in_state(
            &database,
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema IN ('state', 'public') AND table_name LIKE 'doorward%'",
        );
        assert!(!tables || kept == "7\n", "{kept}");
        let generations = S::in_state(&database, "SELECT COUNT(*) FROM doorward_generations");
        assert_eq!(
            generations, "1\n",
            "the second Doorward keeps generations in its own database"
        );
    }
    assert!(Path::new(file.strip_prefix("sqlite:").unwrap()).exists());
    assert_eq!(database.sql(S::TABLES), "members\n");
    assert_eq!(
        database.sql("SELECT * FROM members"),
        format!("1\tada\t{HASH}\tnot for Doorward\n")
    );
}

async fn a_column_that_is_too_short_for_a_hash_locks_nobody_out<S: Rights>() {
    let database = Database::<S>::start().await;
    let old = vectors();
    let old = old.iter().find(|vector| vector.scheme == "phpass").unwrap();
    database.sql(&format!(
        "CREATE TABLE members (name VARCHAR(64), hash VARCHAR(64)); INSERT INTO members VALUES ('ada', '{}')",
        old.hash
    ));
    let settings = [
        ("users.table", "members"),
        ("users.username", "name"),
        ("users.password", "hash"),
        ("users.update_password", "auto"),
        ("self_service.password", "true"),
    ];
    for mode in S::MODES {
        database.sql(mode);
        let doorward = setup(&database, &settings).await;
        for number in 1..3 {
            let ada = bearer(&doorward, "ada", &old.password).await;
            let refused = |line: &Value| {
                let message = line["fields"]["message"].as_str().unwrap_or_default();
                message.contains("could not be replaced")
            };
            until("the refused hash", PATIENCE, async || {
                let log = doorward.log();
                let all = log.iter().filter(|line| refused(line)).count();
                (all == number).then_some(())
            })
            .await;
            let change =
                json!({"current_password": old.password, "new_password": "a-long-password"});
            let changed = post(&doorward, "/password", Some(&ada), &change).await;
            assert_eq!(changed.status, 503, "{changed:?}");
            assert!(is_good(&doorward, &ada).await);
        }
        assert_eq!(
            database.sql("SELECT hash FROM members"),
            format!("{}\n", old.hash)
        );
    }
}

async fn people_register_and_change_their_passwords<E: Dialect>() {
    let database = Database::<E>::start().await;
    let switched_on = [
        ("self_service.register", "true"),
        ("self_service.register_roles", "member"),
        ("self_service.password", "true"),
    ];
    let doorward = setup(&database, &switched_on).await;
    let other = setup(&database, &[]).await;

    let new = |name: &str, password: &str| json!({"username": name, "password": password});
    for path in ["/register", "/password"] {
        let reply = post(&other, path, None, &new("carol", "a-long-password")).await;
        assert_eq!(reply.status, 404, "{path} is off");
    }
    let registered = post(
        &doorward,
        "/register",
        None,
        &new("carol", "a-long-password"),
    )
    .await;
    assert_eq!((registered.status, registered.text()), (201, "Registered"));
    let body = "username=dave%40example.com&password=another+password";
    let registered = form(&doorward, "/register", None, body).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let carol = who(&doorward, "carol", "a-long-password").await;
    assert_eq!((&carol[2], &carol[3]), (&json!(false), &json!(["member"])));
    bearer(&other, "dave@example.com", "another password").await;

    for (body, status, said) in [
        (new("carol", "a-third-password"), 409, "username: taken"),
        (new("ca", "a-long-password"), 400, "username: must be"),
        (new("Carol", "a-long-password"), 400, "username: must be"),
        (new("carol ", "a-long-password"), 400, "username: must be"),
        (new("erin", "short"), 400, "password: too short"),
        (new("erin", "password1234"), 400, "password: too common"),
        (
            new("erin.smith", "Erin.Smith"),
            400,
            "too similar to the user name",
        ),
        (new("erin", ""), 400, "password: empty"),
        (json!({"username": "erin"}), 400, "password: missing"),
        (json!([]), 400, "must be a JSON object"),
    ] {
        let reply = post(&doorward, "/register", None, &body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert!(reply.text().contains(said), "{body}: {reply:?}");
    }
    let body = "username=erin&password=short";
    assert_eq!(form(&doorward, "/register", None, body).await.status, 400);
    let again = (0..5).map(|n| {
        let body = new("frank", &format!("the-password-number-{n}"));
        let doorward = &doorward;
        async move { post(doorward, "/register", None, &body).await.status }
    });
    let mut statuses = join_all(again).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409]);

    // The command line applies the same rules.
    for (arguments, password, said) in [
        (&["user", "add", "erin"][..], "short", "password: too short"),
        (&["user", "add", "erin"], "password1234", "too common"),
        (&["user", "passwd", "carol"], "short", "too short"),
        (
            &["user", "add", "carol"],
            "a-long-password",
            "a user of that name exists",
        ),
    ] {
        let ran = doorward.run(arguments, format!("{password}\n")).await;
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(ran.stderr.contains(said), "{ran:?}");
    }
    doorward.add_user("erin", "short", &["--weak"]).await;
    bearer(&doorward, "erin", "short").await;

    // A password change.
    let old = bearer(&doorward, "carol", "a-long-password").await;
    let there = bearer(&other, "carol", "a-long-password").await;
    let dave = bearer(&doorward, "dave@example.com", "another password").await;
    let change =
        |current: &str, new: &str| json!({"current_password": current, "new_password": new});
    let good = change("a-long-password", "a-new-password");
    for (token, body, status, said) in [
        (None, good.clone(), 401, "Missing token"),
        (
            Some(&*old),
            change("wrong", "a-new-password"),
            401,
            "Invalid credentials",
        ),
        (Some(&dave), good.clone(), 401, "Invalid credentials"),
        (
            Some(&old),
            change("a-long-password", "short"),
            400,
            "password: too short",
        ),
        (
            Some(&old),
            json!({"current_password": "a-long-password"}),
            400,
            "new_password: missing",
        ),
    ] {
        let reply = post(&doorward, "/password", token, &body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert!(reply.text().contains(said), "{body}: {reply:?}");
    }
    assert!(is_good(&doorward, &old).await && is_good(&doorward, &dave).await);
    let changed = post(&doorward, "/password", Some(&old), &good).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let fresh = changed.header("authorization").unwrap();
    let token = changed.json()["access_token"].clone();
    assert_eq!(fresh, format!("Bearer {}", token.as_str().unwrap()));
    for ended in [&old, &there] {
        assert!(
            !is_good(&doorward, ended).await,
            "this replica refuses the token at once"
        );
        ends_soon(&other, ended).await;
    }
    for doorward in [&doorward, &other] {
        assert!(is_good(doorward, fresh).await);
        assert!(is_good(doorward, &dave).await);
        let stale = login(doorward, "carol", "a-long-password").await;
        assert_eq!(stale.status, 401);
        let next = bearer(doorward, "carol", "a-new-password").await;
        assert!(is_good(&other, &next).await && is_good(doorward, &next).await);
    }
    let body = "current_password=a-new-password&new_password=the+newest+password";
    let changed = form(&doorward, "/password", Some(fresh), body).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(
        changed.header("authorization"),
        Some(&*format!("Bearer {}", changed.text()))
    );
    let ended = post(&doorward, "/password", Some(fresh), &good).await;
    assert_eq!(ended.status, 401, "{ended:?}");
    bearer(&other, "carol", "the newest password").await;

    // A hash that the login is about to replace does not disturb a password change.
    let old = vectors();
    let old = old.iter().find(|vector| vector.scheme == "phpass").unwrap();
    for n in 0..3 {
        database.sql(&format!(
            "UPDATE users SET password_hash = '{}' WHERE username = 'erin'",
            old.hash
        ));
        let erin = bearer(&doorward, "erin", &old.password).await;
        let change = change(&old.password, &format!("the-password-number-{n}"));
        let changed = post(&doorward, "/password", Some(&erin), &change).await;
        assert_eq!(changed.status, 200, "{changed:?}");
    }

    // Of several changes at once, exactly one succeeds.
    let carol = bearer(&doorward, "carol", "the newest password").await;
    let changes = (0..5).map(|n| {
        let body = change("the newest password", &format!("the-password-number-{n}"));
        let (doorward, carol) = (&doorward, &carol);
        async move { post(doorward, "/password", Some(carol), &body).await.status }
    });
    let statuses = join_all(changes).await;
    let changed = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(changed, 1, "{statuses:?}");
    assert!(
        statuses
            .iter()
            .all(|status| matches!(status, 200 | 401 | 409))
    );
    let mut good = 0;
    for n in 0..5 {
        let reply = login(&doorward, "carol", &format!("the-password-number-{n}")).await;
        good += usize::from(reply.status == 200);
    }
    assert_eq!(good, 1);
}

/// The two tokens of an answer: the access token as an `Authorization` value, and the refresh token.
fn pair(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 200, "{reply:?}");
    let body = reply.json();
    let refresh = body["refresh_token"].as_str().unwrap();
    assert_eq!(reply.header("x-refresh-token"), Some(refresh));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let access = format!("Bearer {}", body["access_token"].as_str().unwrap());
    assert_eq!(reply.header("authorization"), Some(&*access));
    (access, refresh.to_owned())
}

async fn refresh(doorward: &Doorward, token: &str) -> Reply {
    post(doorward, "/refresh", None, &json!({"refresh_token": token})).await
}

async fn refused(doorward: &Doorward, token: &str, reason: &str) {
    let before = doorward.log().len();
    let reply = refresh(doorward, token).await;
    assert_eq!(
        (reply.status, reply.text()),
        (401, "Invalid refresh token"),
        "{reason}"
    );
    assert_eq!(reply.header("x-refresh-token"), None);
    until(reason, PATIENCE, async || {
        let log = doorward.log();
        let mut new = log.iter().skip(before);
        new.any(|line| line["fields"]["reason"] == reason)
            .then_some(())
    })
    .await;
}

async fn a_refresh_token_continues_a_session_until_it_is_revoked<E: Dialect>() {
    let database = Database::<E>::start().await;
    let doorward = setup(
        &database,
        &[
            ("refresh.enabled", "true"),
            ("refresh.lifetime", "2h"),
            ("self_service.password", "true"),
        ],
    )
    .await;
    // Another replica, which accepts a refresh token only once.
    let strict = setup(
        &database,
        &[("refresh.enabled", "true"), ("refresh.grace", "0s")],
    )
    .await;
    let without = setup(&database, &[]).await;
    doorward.add_user(ADA.0, ADA.1, &["--admin"]).await;
    doorward.add_user(BOB.0, BOB.1, &[]).await;

    let off = login(&without, BOB.0, BOB.1).await;
    assert_eq!(off.json().get("refresh_token"), None);
    assert_eq!(off.header("x-refresh-token"), None);
    assert_eq!(refresh(&without, "dwr_x").await.status, 404);

    let reply = login(&doorward, BOB.0, BOB.1).await;
    assert_eq!(reply.json()["refresh_expires_in"], 7200);
    let (access, first) = pair(&reply);
    assert!(first.starts_with("dwr_"), "{first}");
    let (next_access, second) = pair(&refresh(&doorward, &first).await);
    assert_ne!(second, first);
    assert!(
        is_good(&doorward, &access).await,
        "a refresh does not revoke the previous token"
    );
    assert!(is_good(&doorward, &next_access).await);
    let claims = validate(&doorward, &next_access).await.json();
    assert_eq!(claims["username"], "bob");
    let (_, again) = pair(&refresh(&doorward, &first).await);
    assert_eq!(again, second, "the lost answer is repeated");
    let body = format!("refresh_token={second}");
    let third = form(&doorward, "/refresh", None, &body).await;
    let third = third.header("x-refresh-token").unwrap().to_owned();

    // The table does not contain the tokens, so reading it gives nobody access.
    let rows = database.sql("SELECT * FROM doorward_sessions");
    assert!(rows.contains("bob"), "{rows}");
    for token in [&first, &second, &third] {
        for part in [&token[4..], &token[4..30], &token[30..]] {
            assert!(!rows.contains(part), "{rows}");
        }
    }

    // Ten requests at once.
    let many = join_all((0..10).map(|_| refresh(&doorward, &third))).await;
    let fourths: Vec<_> = many.iter().map(|reply| pair(reply).1).collect();
    assert!(fourths.windows(2).all(|two| two[0] == two[1]));
    let fourth = &fourths[0];

    // A refresh token that was replaced long ago may be stolen, so reusing it ends the session for both holders.
    refused(&doorward, &first, "refresh-reused").await;
    refused(&doorward, fourth, "refresh-unknown").await;
    for ended in [&access, &next_access] {
        assert!(!is_good(&doorward, ended).await);
        ends_soon(&strict, ended).await;
    }

    let (access, first) = pair(&login(&strict, BOB.0, BOB.1).await);
    let other = pair(&login(&strict, BOB.0, BOB.1).await);
    let (next_access, second) = pair(&refresh(&strict, &first).await);
    refused(&strict, &first, "refresh-reused").await;
    refused(&strict, &second, "refresh-unknown").await;
    for ended in [&access, &next_access] {
        assert!(!is_good(&strict, ended).await);
        ends_soon(&doorward, ended).await;
    }
    assert!(
        is_good(&strict, &other.0).await,
        "the other session goes on"
    );
    let (_, other) = pair(&refresh(&strict, &other.1).await);

    for (body, status) in [
        (json!({}), 400),
        (json!({"refresh_token": 7}), 400),
        (json!({"refresh_token": "x"}), 401),
        (json!({"refresh_token": access}), 401),
        (json!({"refresh_token": &other[..67]}), 401),
    ] {
        let reply = post(&doorward, "/refresh", None, &body).await;
        assert_eq!(reply.status, status, "{body}");
    }
    // `/refresh` accepts neither a user name with a password nor an access token.
    let credentials = basic(BOB.0, BOB.1);
    for value in [&*credentials, &next_access] {
        let reply = send(
            doorward.http,
            "POST",
            "/refresh",
            &[("authorization", value)],
            "",
        )
        .await;
        assert_eq!(reply.status, 400, "{reply:?}");
    }

    // Everything that ends sessions.
    let begin = async || pair(&login(&doorward, BOB.0, BOB.1).await);
    let ada = pair(&login(&doorward, ADA.0, ADA.1).await);
    let sessions = [begin().await, begin().await];
    let (one, two) = (&sessions[0], &sessions[1]);
    let out = post(&doorward, "/logout", Some(&one.0), &json!({})).await;
    assert_eq!(out.status, 200);
    refused(&strict, &one.1, "refresh-unknown").await;
    let two = pair(&refresh(&doorward, &two.1).await);
    let out = post(&strict, "/logout?all", Some(&two.0), &json!({})).await;
    assert_eq!(out.status, 200);
    refused(&doorward, &two.1, "refresh-unknown").await;
    refused(&doorward, &other, "refresh-unknown").await;

    let session = begin().await;
    let change = json!({"current_password": BOB.1, "new_password": "a-new-password"});
    let changed = post(&doorward, "/password", Some(&session.0), &change).await;
    let changed = pair(&changed);
    refused(&doorward, &session.1, "refresh-unknown").await;
    let changed = pair(&refresh(&doorward, &changed.1).await);

    let run = async |arguments: &[&str], stdin: &str| doorward.run(arguments, stdin).await.ok();
    run(&["user", "logout", "bob"], "").await;
    refused(&doorward, &changed.1, "refresh-unknown").await;
    ends_soon(&doorward, &changed.0).await;
    run(&["user", "passwd", "bob"], &format!("{}\n", BOB.1)).await;
    for command in [
        &["user", "role", "bob", "--grant", "editor"][..],
        &["user", "disable", "bob"],
        &["user", "remove", "bob"],
    ] {
        run(&["user", "enable", "bob"], "").await;
        let session = begin().await;
        run(command, "").await;
        refused(&doorward, &session.1, "refresh-unknown").await;
        ends_soon(&strict, &session.0).await;
    }
    // No event tells Doorward of changes in another program's user table; it sees them when the refresh token is used.
    let ada = pair(&refresh(&doorward, &ada.1).await);
    database.sql("UPDATE users SET disabled = TRUE WHERE username = 'ada'");
    refused(&doorward, &ada.1, "refresh-account").await;
    database.sql("UPDATE users SET disabled = FALSE WHERE username = 'ada'");
    refused(&doorward, &ada.1, "refresh-unknown").await;
    let ada = pair(&login(&doorward, ADA.0, ADA.1).await);
    database.sql("UPDATE doorward_sessions SET expires_at = 1");
    refused(&doorward, &ada.1, "refresh-unknown").await;
}

async fn a_logout_revokes_one_token_or_all<E: Dialect>() {
    let database = Database::<E>::start().await;
    let doorward = setup(&database, &[]).await;
    let other = setup(&database, &[]).await;
    doorward.add_user(ADA.0, ADA.1, &[]).await;
    doorward.add_user(BOB.0, BOB.1, &[]).await;
    let ada = bearer(&doorward, ADA.0, ADA.1).await;
    let bobs = [
        bearer(&doorward, BOB.0, BOB.1).await,
        bearer(&doorward, BOB.0, BOB.1).await,
        bearer(&other, BOB.0, BOB.1).await,
    ];
    let logout = async |doorward: &Doorward, path: &str, headers: &[(&str, &str)]| {
        send(doorward.http, "POST", path, headers, "").await
    };
    let credentials = basic(BOB.0, BOB.1);
    for path in ["/logout", "/logout?all"] {
        let reply = logout(&doorward, path, &[]).await;
        assert_eq!((reply.status, reply.text()), (401, "Missing token"));
        assert!(
            reply
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer")
        );
        let reply = logout(&doorward, path, &[("authorization", &credentials)]).await;
        assert_eq!(reply.status, 401);
        let get = send(doorward.http, "GET", path, &[("authorization", &ada)], "").await;
        assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    }
    let reply = logout(&doorward, "/logout", &[("authorization", &bobs[0])]).await;
    assert_eq!((reply.status, reply.text()), (200, "Logged out"));
    assert!(
        !is_good(&doorward, &bobs[0]).await,
        "this replica refuses the token at once"
    );
    ends_soon(&other, &bobs[0]).await;
    let again = logout(&doorward, "/logout", &[("authorization", &bobs[0])]).await;
    assert_eq!(again.status, 401);
    for doorward in [&doorward, &other] {
        for good in [&bobs[1], &bobs[2], &ada] {
            assert!(is_good(doorward, good).await);
        }
    }
    let reply = logout(&doorward, "/logout?all", &[("authorization", &bobs[1])]).await;
    assert_eq!((reply.status, reply.text()), (200, "Logged out"));
    for ended in &bobs[1..] {
        assert!(
            !is_good(&doorward, ended).await,
            "this replica refuses the token at once"
        );
        ends_soon(&other, ended).await;
    }
    let next = bearer(&other, BOB.0, BOB.1).await;
    for doorward in [&doorward, &other] {
        assert!(is_good(doorward, &next).await && is_good(doorward, &ada).await);
        assert!(!is_good(doorward, &bobs[0]).await);
    }
    // Revocations survive a restart.
    let (home, status) = doorward.stop().await;
    assert!(status.success());
    let doorward = home.serve().await;
    for ended in &bobs {
        assert!(!is_good(&doorward, ended).await);
    }
    assert!(is_good(&doorward, &next).await && is_good(&doorward, &ada).await);
}
