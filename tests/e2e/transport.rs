//! How gateways reach Doorward: Unix sockets, mutual TLS, and connections that reach their maximum age.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    certificates::{Authority, curl},
    front::{ADA, BOB, Front, basic},
    harness::{Doorward, Envoy, EnvoyConfig, Home, PATIENCE, Service, send, until},
};

/// Doorward, the service, and Envoy with a committed file.
async fn front(
    version: &str,
    file: &str,
    doorward: Doorward,
    adapt: impl FnOnce(EnvoyConfig) -> EnvoyConfig,
) -> Front {
    let service = Service::start().await;
    let config = adapt(EnvoyConfig::file(file))
        .free_ports()
        .service(service.address);
    Front {
        envoy: Envoy::start(version, &config).await,
        doorward,
        service,
    }
}

async fn users(home: &Home) {
    home.add_user(ADA.0, ADA.1, &["--admin"]).await;
    home.add_user(BOB.0, BOB.1, &[]).await;
}

/// Asserts that answers are the same as over TCP.
async fn works(front: &Front) {
    let bearer = front.bearer(BOB).await;
    let arrived = front
        .arrived("/orders", &[("authorization", &bearer)])
        .await;
    assert!(arrived.contains(&("x-auth-user".into(), "bob".into())));
    assert_eq!(front.send("GET", "/profile", &[]).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_ask_through_unix_sockets() {
    for version in Envoy::VERSIONS {
        let home = Doorward::prepare(|settings| {
            settings
                .env("DOORWARD_LISTEN__GRPC", "unix:grpc.sock")
                .env("DOORWARD_LISTEN__HTTP", "unix:http.sock")
                .env("DOORWARD_LISTEN__SOCKET_MODE", "0600");
        });
        users(&home).await;
        let sockets = ["grpc.sock", "http.sock"].map(|name| home.dir().join(name));
        // Sockets that a killed process left behind.
        for socket in &sockets {
            drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
        }
        let path = sockets[0].display().to_string();
        let front = front(version, "envoy-uds.yaml", home.serve().await, |config| {
            config.replace("/run/doorward/grpc.sock", &path)
        })
        .await;
        for socket in &sockets {
            let mode = fs::metadata(socket).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        works(&front).await;

        let http = sockets[1].display().to_string();
        let credentials = format!("{}:{}", BOB.0, BOB.1);
        let login = ["--unix-socket", &http, "-X", "POST", "-u", &credentials];
        let token = curl(&[&login[..], &["http://doorward/login"]].concat()).unwrap();
        assert!(token.starts_with("eyJ"), "{token}");
        // Behind a Unix socket, only the gateway knows the client address; whoever may open the socket is a trusted
        // gateway.
        let forward = [
            "--unix-socket",
            &http,
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-H",
            "X-Forwarded-Method: GET",
            "-H",
            "X-Forwarded-Proto: http",
            "-H",
            "X-Forwarded-Host: a",
            "-H",
            "X-Forwarded-Uri: /x",
            "http://doorward/auth/forward",
        ];
        assert_eq!(curl(&forward).unwrap(), "401");

        let second = front.doorward.run(&["serve"], "").await;
        assert_eq!(second.status.code(), Some(2), "{second:?}");
        assert!(
            second.stderr.contains("another Doorward listens there"),
            "{second:?}"
        );
        works(&front).await;

        // Killed and started again, Doorward takes over its sockets; Envoy reconnects.
        let Front {
            doorward,
            service,
            envoy,
        } = front;
        let home = doorward.kill();
        assert!(sockets[0].exists());
        let front = Front {
            doorward: home.serve().await,
            service,
            envoy,
        };
        until("Envoy is connected again", PATIENCE, async || {
            (front.login(BOB).await.status == 200).then_some(())
        })
        .await;
        works(&front).await;
        let (_home, status) = front.doorward.stop().await;
        assert!(status.success());
        assert!(!sockets[0].exists() && !sockets[1].exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_socket_is_not_replaced() {
    let home = Doorward::prepare(|settings| {
        settings.env("DOORWARD_LISTEN__GRPC", "unix:precious");
    });
    let precious = home.dir().join("precious");
    fs::write(&precious, "work").unwrap();
    let ran = home.run(&["serve"], "").await;
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert!(ran.stderr.contains("listen.grpc: unix:precious"), "{ran:?}");
    assert!(ran.stderr.contains("is no socket"), "{ran:?}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "work");
}

const ENVOY: &str = "URI:spiffe://example.com/envoy,DNS:Envoy.example.com";

struct Mutual {
    dir: PathBuf,
    authority: Authority,
    front: Front,
}

/// A Doorward that accepts only clients whose certificate has one of these names, and an Envoy with such a certificate.
async fn mutual(version: &str, names: &str) -> Mutual {
    let home = Doorward::prepare(|settings| {
        settings
            .env("DOORWARD_LISTEN__TLS_CERTIFICATE", "tls/doorward.crt")
            .env("DOORWARD_LISTEN__TLS_KEY", "tls/doorward.key")
            .env("DOORWARD_LISTEN__TLS_CLIENT_CA", "tls/ca.crt")
            .env("DOORWARD_LISTEN__TLS_CLIENT_NAMES", names);
    });
    users(&home).await;
    let dir = home.dir().join("tls");
    let authority = Authority::new(&dir, "ca");
    authority.issue("doorward", "DNS:doorward.example.com,IP:127.0.0.1", 1);
    authority.issue("envoy", ENVOY, 1);
    let files = format!("{}/", dir.display());
    let doorward = home.serve().await;
    let grpc = doorward.grpc;
    let front = front(version, "envoy-mtls.yaml", doorward, |config| {
        config.doorward(grpc).replace("tls/", &files)
    })
    .await;
    Mutual {
        dir,
        authority,
        front,
    }
}

impl Mutual {
    /// Logs in with curl at the HTTP port, with the client certificate of this name, if any.
    fn login(&self, shown: Option<&str>) -> Result<String, String> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let credentials = format!("Authorization: {}", basic(BOB.0, BOB.1));
        let mut arguments: Vec<String> = [
            "--cacert",
            &file("ca.crt"),
            "-X",
            "POST",
            "-H",
            &credentials,
        ]
        .map(str::to_owned)
        .into();
        if let Some(name) = shown {
            let pair = [
                "--cert",
                &file(&format!("{name}.crt")),
                "--key",
                &file(&format!("{name}.key")),
            ]
            .map(str::to_owned);
            arguments.extend(pair);
        }
        arguments.push(format!("https://{}/login", self.front.doorward.http));
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        curl(&arguments)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_with_a_configured_certificate_name_are_accepted() {
    for (version, names) in Envoy::VERSIONS
        .into_iter()
        .zip(["spiffe://example.com/envoy", "envoy.EXAMPLE.com"])
    {
        let mutual = mutual(version, names).await;
        works(&mutual.front).await;
        assert!(mutual.login(Some("envoy")).unwrap().starts_with("eyJ"));

        let authority = &mutual.authority;
        authority.issue(
            "other",
            "DNS:other.example.com,URI:spiffe://example.com/other",
            1,
        );
        authority.issue(
            "below",
            "DNS:x.envoy.example.com,URI:spiffe://example.com/envoy/x",
            1,
        );
        authority.issue("wild", "DNS:*.example.com", 1);
        authority.issue("common", "IP:127.0.0.1", 1);
        authority.issue("expired", ENVOY, -1);
        Authority::new(&mutual.dir, "foreign").issue("stranger", ENVOY, 1);
        for shown in ["other", "below", "wild", "common", "expired", "stranger"] {
            let refused = mutual.login(Some(shown));
            assert!(refused.is_err(), "{shown}: {refused:?}");
        }
        assert!(mutual.login(None).is_err());
        // Connections without TLS are refused.
        let plain = curl(&[&format!("http://{}/validate", mutual.front.doorward.http)]);
        assert!(plain.is_err(), "{plain:?}");
        let said = mutual
            .front
            .doorward
            .logged("why", |line| {
                line["fields"]["message"] == "a TLS handshake failed"
            })
            .await;
        assert!(
            said["fields"]["error"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        works(&mutual.front).await;
    }
}

/// The authority of Envoy's certificate is replaced: new connections with a certificate of the old one are refused.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_are_replaced_while_it_serves() {
    let mutual = mutual(Envoy::NEWEST, "envoy.example.com").await;
    assert!(mutual.login(Some("envoy")).is_ok());
    let new = Authority::new(&mutual.dir, "new");
    new.issue("renewed", ENVOY, 1);
    assert!(mutual.login(Some("renewed")).is_err());
    // A truncated file changes nothing.
    let whole = fs::read(mutual.dir.join("new.crt")).unwrap();
    let authorities = mutual.dir.join("ca.crt");
    let old = fs::read(&authorities).unwrap();
    fs::copy(&authorities, mutual.dir.join("old.crt")).unwrap();
    fs::write(&authorities, &whole[..whole.len() / 2]).unwrap();
    mutual
        .front
        .doorward
        .logged("a refusal", |line| {
            line["fields"]["cause"]
                .as_str()
                .is_some_and(|cause| cause.starts_with("listen.tls_client_ca"))
        })
        .await;
    fs::write(&authorities, [&old[..], &whole].concat()).unwrap();
    until("both are let in", PATIENCE, async || {
        mutual.login(Some("renewed")).ok()
    })
    .await;
    // curl also uses this file to verify Doorward, so it still contains the old authority.
    assert!(mutual.login(Some("envoy")).is_ok());
    works(&mutual.front).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contradictory_transport_settings_are_named() {
    for (settings, expected) in [
        (
            &[("DOORWARD_LISTEN__TLS_CLIENT_CA", "ca.crt")][..],
            "environment: DOORWARD_LISTEN__TLS_CLIENT_CA: needs listen.tls_certificate",
        ),
        (
            &[
                ("DOORWARD_LISTEN__TLS_CERTIFICATE", "a"),
                ("DOORWARD_LISTEN__TLS_KEY", "b"),
                ("DOORWARD_LISTEN__TLS_CLIENT_NAMES", "envoy.example.com"),
            ],
            "environment: DOORWARD_LISTEN__TLS_CLIENT_NAMES: needs listen.tls_client_ca",
        ),
        (
            &[("DOORWARD_LISTEN__TLS_CLIENT_NAMES", "")],
            "LISTEN__TLS_CLIENT_NAMES: names nobody",
        ),
        (
            &[("DOORWARD_LISTEN__TLS_CLIENT_NAMES", "*.example.com")],
            "is no name of a certificate",
        ),
        (
            &[("DOORWARD_LISTEN__GRPC", "unix:@abstract")],
            "abstract sockets have no mode",
        ),
        (
            &[("DOORWARD_LISTEN__SOCKET_MODE", "888")],
            "is not the mode of a socket",
        ),
        (
            &[("DOORWARD_LISTEN__OPS", "unix:/run/ops.sock")],
            "is not an address; write IP:PORT",
        ),
    ] {
        let home = Doorward::prepare(|chosen| {
            chosen.envs(settings.iter().copied());
        });
        let ran = home.run(&["config", "check"], "").await;
        assert_eq!(ran.status.code(), Some(2), "{settings:?}");
        assert!(
            ran.stderr.contains(expected),
            "{settings:?}: {}",
            ran.stderr
        );
    }
}

/// Under load, connections reach their maximum age one after another, and no request is lost.
#[tokio::test(flavor = "multi_thread")]
async fn connections_reach_their_maximum_age_without_losing_a_request() {
    let front = Front::open(
        Envoy::NEWEST,
        |settings| {
            settings.env("DOORWARD_LISTEN__CONNECTION_AGE", "300ms");
        },
        |config| config,
    )
    .await;
    let bearer = front.bearer(BOB).await;
    let opened = async || {
        let stats = front
            .envoy
            .ask("/stats?filter=cluster.doorward.upstream_cx_total")
            .await;
        let text = stats.text().trim().to_owned();
        text.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = opened().await;
    let end = Instant::now() + Duration::from_secs(4);
    let ask = async || {
        let mut answered = 0;
        while Instant::now() < end {
            let reply = front
                .send("GET", "/profile", &[("authorization", &bearer)])
                .await;
            assert_eq!(reply.status, 200, "{reply:?}");
            answered += 1;
        }
        answered
    };
    let (one, other) = tokio::join!(ask(), ask());
    let renewed = opened().await - before;
    eprintln!("{} answers over {renewed} connections", one + other);
    assert!(one + other > 200);
    assert!((8..=40).contains(&renewed), "{renewed}");
}

/// The operations port answers health probes without a client certificate.
#[tokio::test(flavor = "multi_thread")]
async fn the_ops_port_answers_without_tls() {
    let mutual = mutual(Envoy::NEWEST, "envoy.example.com").await;
    let ready = send(mutual.front.doorward.ops, "GET", "/readyz", &[], "").await;
    assert_eq!(ready.status, 200);
    assert!(Path::new(&mutual.dir).exists());
}
