//! `compose.yaml`, `compose.filter.yaml` and `k8s/overlays/minikube`, as far as they can be tested without a cluster or a container
//! engine: the same Envoy, rows and settings, with MariaDB.

use std::{fs, process::Command};

use super::{objects, text};
use crate::{
    front::{Front, basic},
    harness::{
        Database, Doorward, Envoy, EnvoyConfig, MariaDb, START, Service, repository, send, tool,
        until,
    },
};

const PASSWORD: &str = "analytical-engine";

/// The system with this configuration of Envoy, and more variables for Doorward; and its database, which ends when dropped.
async fn started(file: &str, more: Vec<(String, String)>) -> (Front, Database<MariaDb>) {
    let folder = repository().join("k8s/overlays/minikube");
    let database = Database::<MariaDb>::start().await;
    let rows = fs::read_to_string(folder.join("users.sql")).unwrap();
    // The test database has another name.
    let (_, rows) = rows.split_once("USE auth;").unwrap();
    database.sql(rows);
    let settings = fs::read_to_string(repository().join("k8s/base/doorward.toml")).unwrap();
    let home = Doorward::prepare(|chosen| {
        let secret = folder.join("demo-only-jwt-secret");
        chosen
            .toml(settings)
            .envs(database.env())
            .env("JWT_SECRET_FILE", secret.to_str().unwrap())
            .without("JWT_SECRET");
    })
    .with(|chosen| {
        // The test's Envoy connects from loopback.
        chosen
            .env("DOORWARD_TRUSTED_PROXIES", "127.0.0.0/8")
            .envs(more);
    });
    home.run(&["migrate"], "").await.ok();
    let doorward = home.serve().await;
    let service = Service::start().await;
    let config = EnvoyConfig::file(file)
        .replace("address: doorward", "address: 127.0.0.1")
        .replace("address: profile", "address: 127.0.0.1")
        .free_ports()
        .doorward(doorward.grpc)
        .doorward_http_if_used(doorward.http)
        .service(service.address);
    let envoy = Envoy::start(Envoy::NEWEST, &config).await;
    until("Envoy finds Doorward healthy", START, async || {
        let clusters = envoy.ask("/clusters").await;
        let own = format!("doorward::{}::health_flags::healthy", doorward.grpc);
        clusters.text().contains(&own).then_some(())
    })
    .await;
    let front = Front {
        doorward,
        service,
        envoy,
    };
    (front, database)
}

/// Users of the rows log in, and only they. Returns a token.
async fn answers_logins(front: &Front) -> String {
    let token = front.bearer(("ada@example.com", PASSWORD)).await;
    let reply = front
        .send("GET", "/profile", &[("authorization", &token)])
        .await;
    assert_eq!(reply.json()["user"], "ada@example.com", "{reply:?}");
    assert_eq!(front.send("GET", "/profile", &[]).await.status, 401);
    let wrong = basic("bob@example.com", PASSWORD);
    let wrong = front
        .send("POST", "/login", &[("authorization", &wrong)])
        .await;
    assert_eq!(wrong.status, 401, "{wrong:?}");
    front.bearer(("bob@example.com", "builder-of-things")).await;
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_system_answers_logins() {
    let folder = repository().join("k8s/overlays/minikube");
    let config = fs::read_to_string(repository().join("envoy/envoy-compose.yaml")).unwrap();
    assert_eq!(
        config,
        fs::read_to_string(folder.join("envoy.yaml")).unwrap()
    );
    for version in Envoy::VERSIONS {
        let ran = Command::new(tool(&format!("envoy-{version}")).join("envoy"))
            .args(["--mode", "validate", "--config-path"])
            .arg(folder.join("envoy.yaml"))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{version}: {ran:?}");
    }
    let (front, _database) = started("envoy-compose.yaml", Vec::new()).await;
    let token = answers_logins(&front).await;
    // Every request depends on Doorward.
    let Front {
        doorward, envoy, ..
    } = front;
    drop(doorward);
    let headers = [("authorization", token.as_str())];
    let reply = send(envoy.edge, "GET", "/profile", &headers, "").await;
    assert_eq!(reply.status, 503, "{reply:?}");
}

/// What `compose.filter.yaml` sets for Doorward, with the files of its secrets.
fn variables() -> Vec<(String, String)> {
    let compose = fs::read_to_string(repository().join("compose.filter.yaml")).unwrap();
    let compose = objects(&compose).remove(0);
    let set = compose["services"]["doorward"]["environment"].as_hash();
    let set = set.unwrap().iter().map(|(name, value)| {
        let value = value.as_str().unwrap();
        let value = match value.strip_prefix("/run/secrets/") {
            Some(secret) => {
                let file = text(&compose["secrets"][secret], "file");
                repository().join(file).to_str().unwrap().to_owned()
            }
            None => value.to_owned(),
        };
        (name.as_str().unwrap().to_owned(), value)
    });
    set.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_system_with_the_module_answers_logins() {
    let (front, _database) = started("envoy-compose-filter.yaml", variables()).await;
    let token = answers_logins(&front).await;
    // The module decides about tokens.
    let Front {
        doorward,
        envoy,
        service: _service,
    } = front;
    drop(doorward);
    let headers = [("authorization", token.as_str())];
    let reply = send(envoy.edge, "GET", "/profile", &headers, "").await;
    assert_eq!(reply.json()["user"], "ada@example.com", "{reply:?}");
}

/// The file for compose has the module of one file and the Doorward of the other.
#[test]
fn the_files_for_compose_have_the_same_module_and_clusters() {
    let part = |file: &str, start: &str, end: &str| {
        let text = fs::read_to_string(repository().join("envoy").join(file)).unwrap();
        let (_, rest) = text.split_once(start).unwrap();
        let lines = rest.split_once(end).unwrap().0.lines();
        let lines = lines.filter(|line| !line.trim_start().starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    };
    for (like, start, end) in [
        (
            "envoy-filter.yaml",
            "                http_filters:\n",
            "                route_config:",
        ),
        (
            "envoy-filter.yaml",
            "\nbootstrap_extensions:",
            "\noverload_manager:",
        ),
        (
            "envoy-compose.yaml",
            "  clusters:\n    - name: doorward\n",
            "\n\n",
        ),
    ] {
        let same = part(like, start, end);
        assert_eq!(
            part("envoy-compose-filter.yaml", start, end),
            same,
            "{start}"
        );
    }
}
