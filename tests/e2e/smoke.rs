//! The parts start, work together and stop. Other modules test their answers.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::harness::{
    Database, Doorward, Envoy, EnvoyConfig, PATIENCE, Server, Service, repository, send,
    send_bytes, try_send, until,
};

const SIZE: usize = 64 << 20;

on_each_server!(the_database_can_be_killed_and_frozen_and_comes_back);

#[tokio::test(flavor = "multi_thread")]
async fn a_login_and_a_profile_through_every_envoy() {
    for version in Envoy::VERSIONS {
        let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
        let doorward = Doorward::start(|settings| {
            settings.toml(rules);
        })
        .await;
        doorward.add_user("bob", "builder-of-things", &[]).await;
        let service = Service::start().await;
        let config = EnvoyConfig::committed()
            .free_ports()
            .doorward(doorward.grpc)
            .service(service.address);
        let envoy = Envoy::start(version, &config).await;

        let refused = send(envoy.edge, "POST", "/upload", &[], vec![b'u'; SIZE]).await;
        assert_eq!(
            refused.status,
            401,
            "{version}: {refused:?}\n{}",
            doorward.output()
        );
        assert_eq!(service.requests(), 0, "{version}");

        let basic = [("authorization", "Basic Ym9iOmJ1aWxkZXItb2YtdGhpbmdz")];
        let login = send(envoy.edge, "POST", "/login", &basic, "").await;
        assert_eq!(
            login.status,
            200,
            "{version}: {login:?}\n{}",
            doorward.output()
        );
        let token = [("authorization", login.header("authorization").unwrap())];
        let profile = send(envoy.edge, "GET", "/profile", &token, "").await;
        assert_eq!(profile.json()["user"], "bob", "{version}");
        let upload = send(envoy.edge, "POST", "/upload", &token, vec![b'u'; SIZE]).await;
        assert_eq!(upload.json()["bytes"], SIZE, "{version}");
        let path = format!("/download?bytes={SIZE}");
        let download = send(envoy.edge, "GET", &path, &token, "").await;
        assert_eq!(download.body.len(), SIZE, "{version}");

        let (_, status) = doorward.stop().await;
        assert!(status.success(), "{version}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_lets_nothing_pass_without_doorward() {
    for version in Envoy::VERSIONS {
        let service = Service::start().await;
        let config = EnvoyConfig::committed()
            .free_ports()
            .doorward(crate::harness::free_address())
            .service(service.address);
        for config in [
            config.clone(),
            config.clone().raw_headers(),
            config.untouched(),
        ] {
            let envoy = Envoy::start(version, &config).await;
            for path in ["/profile", "/login", "/healthz"] {
                let reply = send(envoy.edge, "POST", path, &[], "{}").await;
                assert_eq!(reply.status, 503, "{version} {path}");
            }
            // More than the route buffers.
            let reply = send(envoy.edge, "POST", "/login", &[], vec![b' '; 8193]).await;
            assert_eq!(reply.status, 413, "{version}");
        }
        assert_eq!(service.requests(), 0, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_streams_and_shows_what_arrives() {
    let service = Service::start().await;
    let headers = [("x-twice", "1"), ("x-twice", "2")];
    let echo = send(service.address, "PUT", "//a/%2e%2e/b?c", &headers, "")
        .await
        .json();
    assert_eq!(
        (&echo["method"], &echo["path"]),
        (&"PUT".into(), &"//a/%2e%2e/b?c".into())
    );
    let twice = echo["headers"].as_array().unwrap();
    assert_eq!(
        twice.iter().filter(|header| header[0] == "x-twice").count(),
        2
    );

    let profile = send(
        service.address,
        "GET",
        "/profile",
        &[("x-auth-user", "bob")],
        "",
    )
    .await;
    assert_eq!(
        profile.json(),
        serde_json::json!({ "user": "bob", "roles": null, "admin": null })
    );
    let upload = send(service.address, "POST", "/upload", &[], vec![b'u'; SIZE]).await;
    assert_eq!(upload.json()["bytes"], SIZE);
    let path = format!("/download?bytes={SIZE}");
    assert_eq!(
        send(service.address, "GET", &path, &[], "")
            .await
            .body
            .len(),
        SIZE
    );
    let bytes = b"GET /a b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let malformed = send_bytes(service.address, bytes).await;
    assert!(malformed.starts_with("HTTP/1.1 400 "), "{malformed}");
    assert_eq!(service.requests(), 4);
}

async fn the_database_can_be_killed_and_frozen_and_comes_back<S: Server>() {
    let mut database = Database::<S>::start().await;
    database.sql("CREATE TABLE t (name VARCHAR(9)); INSERT INTO t VALUES ('kept')");
    let address = database.address();

    database.kill();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    database.restart().await;
    assert_eq!(database.address(), address);
    assert_eq!(database.sql("SELECT * FROM t"), "kept\n");

    database.stop();
    // A frozen server still has a listening socket, but sends nothing.
    let greeting = try_send(address, "GET", "/", &[], "");
    assert!(
        tokio::time::timeout(Duration::from_millis(300), greeting)
            .await
            .is_err()
    );
    database.cont();
    until("the database answers", PATIENCE, async || {
        try_send(address, "GET", "/", &[], "")
            .await
            .is_err()
            .then_some(())
    })
    .await;
    assert_eq!(database.sql("SELECT * FROM t"), "kept\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_demo_is_as_expected() {
    let demo = example("demo");
    let ran = tokio::task::spawn_blocking(move || {
        Command::new(demo)
            .args([
                "--once",
                "--free-ports",
                "--doorward",
                env!("CARGO_BIN_EXE_doorward"),
            ])
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    let shown = String::from_utf8(ran.stdout).unwrap();
    assert!(
        ran.status.success(),
        "{shown}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(shown.contains("answers were as expected"), "{shown}");
    assert!(
        !shown.contains('\x1b'),
        "colours although the output is no terminal: {shown}"
    );
}

/// The path of an example, which Cargo builds together with the tests.
pub fn example(name: &str) -> std::path::PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_doorward"))
        .with_file_name("examples")
        .join(name);
    assert!(
        built.exists(),
        "{} is missing: run `cargo build --examples`",
        built.display()
    );
    built
}
