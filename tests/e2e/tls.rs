//! The doors with TLS: the gRPC door behind a real Envoy, the HTTP port with curl, and certificates that are replaced.

use std::{fs, path::Path};

use crate::{
    certificates::{curl, openssl},
    front::{ADA, BOB, Front, basic},
    harness::{Doorward, Envoy, PATIENCE, send, until},
};

const CLUSTER: &str = "    - name: doorward\n      type: STATIC\n";

/// Makes a self-signed certificate for 127.0.0.1 under these file names.
pub fn certificate(dir: &Path, certificate: &str, key: &str) {
    openssl(
        dir,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=doorward -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
        ),
    );
}

/// Logs in with curl, which trusts this authority.
fn login(doorward: &Doorward, authority: &Path) -> Result<String, String> {
    let (authority, credentials) = (authority.display().to_string(), basic(BOB.0, BOB.1));
    curl(&[
        "--cacert",
        &authority,
        "-X",
        "POST",
        "-H",
        &format!("Authorization: {credentials}"),
        &format!("https://{}/login", doorward.http),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn both_doors_use_tls_and_reload_their_certificate() {
    let home = Doorward::prepare(|settings| {
        settings
            .env("DOORWARD_LISTEN__TLS_CERTIFICATE", "tls.crt")
            .env("DOORWARD_LISTEN__TLS_KEY", "tls.key");
    });
    let dir = home.dir().to_owned();
    certificate(&dir, "tls.crt", "tls.key");
    fs::copy(dir.join("tls.crt"), dir.join("first.crt")).unwrap();
    home.add_user(ADA.0, ADA.1, &["--admin"]).await;
    home.add_user(BOB.0, BOB.1, &[]).await;
    let authority = dir.join("first.crt").display().to_string();
    let socket = format!(
        "{CLUSTER}      transport_socket:\n        name: envoy.transport_sockets.tls\n        typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n          common_tls_context:\n            validation_context: {{ trusted_ca: {{ filename: \"{authority}\" }} }}\n"
    );
    let front = Front::before(Envoy::NEWEST, home.serve().await, |config| {
        config.replace(CLUSTER, &socket)
    })
    .await;
    let bearer = front.bearer(BOB).await;
    let profile = async || {
        let headers = [("authorization", &*bearer)];
        front.send("GET", "/profile", &headers).await.status
    };
    assert_eq!(profile().await, 200);
    let doorward = &front.doorward;
    assert!(
        login(doorward, &dir.join("first.crt"))
            .unwrap()
            .starts_with("eyJ")
    );

    // A key of another certificate, a truncated file and no file: the previous certificate stays in use.
    certificate(&dir, "second.crt", "second.key");
    let first = ["tls.crt", "tls.key"].map(|file| fs::read(dir.join(file)).unwrap());
    let half = first[0].len() / 2;
    for (file, content) in [
        ("tls.crt", fs::read(dir.join("second.crt")).unwrap()),
        ("tls.crt", first[0][..half].to_vec()),
        ("tls.key", b"-----BEGIN PRIVATE KEY-----\n".to_vec()),
        ("tls.crt", Vec::new()),
    ] {
        let before = doorward.log().len();
        fs::write(dir.join(file), content).unwrap();
        doorward.signal(rustix::process::Signal::HUP);
        until("it is refused", PATIENCE, async || {
            let lines = doorward.log();
            let refused = |line: &serde_json::Value| {
                line["fields"]["message"]
                    .as_str()
                    .is_some_and(|said| said.starts_with("not reloaded"))
            };
            lines[before..].iter().any(refused).then_some(())
        })
        .await;
        assert!(login(doorward, &dir.join("first.crt")).is_ok(), "{file}");
        for (file, content) in ["tls.crt", "tls.key"].iter().zip(&first) {
            fs::write(dir.join(file), content).unwrap();
        }
    }

    for (from, to) in [("second.crt", "tls.crt"), ("second.key", "tls.key")] {
        fs::copy(dir.join(from), dir.join(to)).unwrap();
    }
    // Without a signal: Doorward checks the files.
    until("the second certificate is in use", PATIENCE, async || {
        login(doorward, &dir.join("second.crt")).ok()
    })
    .await;
    assert!(login(doorward, &dir.join("first.crt")).is_err());
    assert_eq!(profile().await, 200, "connections that are open stay so");
    let numbers = send(doorward.ops, "GET", "/metrics", &[], "").await;
    let count = |result: &str| -> u32 {
        let name = format!("doorward_reloads_total{{result=\"{result}\"}} ");
        let line = numbers
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(&name));
        line.unwrap().parse().unwrap()
    };
    assert!(count("ok") >= 1 && count("failed") >= 4, "{numbers:?}");
    assert!(numbers.text().ends_with("# EOF\n"), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_needs_its_key() {
    let home = Doorward::prepare(|settings| {
        settings.env("DOORWARD_LISTEN__TLS_KEY", "tls.key");
    });
    let ran = home.run(&["config", "check"], "").await;
    assert_eq!(ran.status.code(), Some(2));
    assert!(
        ran.stderr.contains("listen.tls_certificate"),
        "{}",
        ran.stderr
    );
}
