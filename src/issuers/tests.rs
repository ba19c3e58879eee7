use std::cell::{Cell, RefCell};

use serde_json::json;
use tokio::time::{advance, sleep};

use super::*;
use crate::domain::{
    account::Roles,
    credential::Compact,
    key::{Algorithm, Key, KeyId},
    keyring::Keyring,
    revocation::Revocations,
    token::{Secret, TokenTerms, UnixTime, Verifier},
};

fn issuers() -> Issuers {
    Arc::new([Issuer::new(IssuerTerms {
        issuer: "them".into(),
        audience: "us".into(),
        prefix: String::new(),
        username: "sub".into(),
        roles: None,
        accept_roles: Roles::default(),
        grant: Roles::default(),
        algorithms: IssuerTerms::ALGORITHMS.into(),
    })])
}

fn document(kid: &str) -> Vec<u8> {
    let kid = KeyId::parse(kid).unwrap();
    let file = Key::generate(&kid, Algorithm::EdDsa, UnixTime(0)).unwrap();
    let key = Key::read("k", file.as_bytes()).unwrap();
    json!({"keys": [key.public()]}).to_string().into_bytes()
}

/// Verifies a token with an unknown key id.
fn show_unknown(issuers: &Issuers) {
    let secret = Secret::parse(b"f3b1c2d4e5a60718293a4b5c6d7e8f90").unwrap();
    let terms = TokenTerms {
        issuer: "us".into(),
        audience: "us".into(),
        lifetime: Duration::from_secs(60),
        leeway: Duration::ZERO,
    };
    let keys = Keyring::of_secret(&secret, terms.lasts());
    let tokens = Verifier::of(&keys, terms).believing(Arc::clone(issuers));
    // {"alg":"EdDSA","kid":"no"} and {"iss":"them"}
    let token = "eyJhbGciOiJFZERTQSIsImtpZCI6Im5vIn0.eyJpc3MiOiJ0aGVtIn0.AAAA";
    let compact = Compact::parse(token).unwrap();
    let ended = Revocations::new(None);
    assert!(tokens.verify(compact, UnixTime(0), &ended).is_err());
    assert!(issuers[0].wants_keys());
}

fn fetches() -> Fetches {
    Metrics::default().fetches("https://id.example")
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_on_schedule_and_at_a_limited_rate() {
    let issuers = issuers();
    let asked = Cell::new(0);
    let answer = RefCell::new(Some(document("a")));
    let (started, start) = oneshot::channel();
    let ask = || {
        asked.set(asked.get() + 1);
        std::future::ready(
            answer
                .borrow()
                .clone()
                .ok_or(FetchFault::Request(String::new(), RequestFault::Timeout)),
        )
    };
    let kept = keep(Arc::clone(&issuers), 0, FETCHED, started, fetches(), ask);
    let wait = |seconds: u64| sleep(Duration::from_secs(seconds));
    let story = async {
        start.await.unwrap();
        assert_eq!((asked.get(), issuers[0].key_names()), (1, vec!["a".into()]));
        wait(299).await;
        assert_eq!(asked.get(), 1);
        wait(2).await;
        assert_eq!(asked.get(), 2);

        // A hundred tokens with unknown keys within a minute.
        *answer.borrow_mut() = Some(document("b"));
        for _ in 0..100 {
            show_unknown(&issuers);
            sleep(Duration::from_millis(600)).await;
        }
        assert!((3..=5).contains(&asked.get()), "{}", asked.get());
        assert_eq!(issuers[0].key_names(), ["b"]);

        // The issuer goes down: its keys stay, and fetches are somewhat more frequent until it is back.
        wait(60).await;
        let before = asked.get();
        *answer.borrow_mut() = None;
        wait(400).await;
        assert_eq!(issuers[0].key_names(), ["b"]);
        assert!((before + 3..=before + 8).contains(&asked.get()));
        *answer.borrow_mut() = Some(b"{\"keys\":[]}".to_vec());
        wait(40).await;
        assert_eq!(issuers[0].key_names(), ["b"]);
        *answer.borrow_mut() = Some(document("c"));
        wait(40).await;
        assert_eq!(issuers[0].key_names(), ["c"]);
        let before = asked.get();
        wait(200).await;
        assert_eq!(asked.get(), before);
        advance(Duration::ZERO).await;
    };
    tokio::select! {
        () = kept => panic!("the fetch loop ended"),
        () = story => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_file_is_read_every_two_seconds() {
    let issuers = issuers();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let (started, start) = oneshot::channel();
    let file = path.clone();
    let kept = keep(
        Arc::clone(&issuers),
        0,
        READ,
        started,
        fetches(),
        move || {
            std::future::ready(
                read_bounded(&file).map_err(|fault| FetchFault::File("the file".into(), fault)),
            )
        },
    );
    let story = async {
        start.await.unwrap();
        assert!(issuers[0].key_names().is_empty());
        for kid in ["a", "b"] {
            std::fs::write(&path, document(kid)).unwrap();
            sleep(Duration::from_secs(3)).await;
            assert_eq!(issuers[0].key_names(), [kid]);
        }
        std::fs::write(&path, vec![b' '; Issuer::LONGEST + 1000]).unwrap();
        assert_eq!(read_bounded(&path).unwrap().len(), Issuer::LONGEST + 1);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(issuers[0].key_names(), ["b"]);
    };
    tokio::select! {
        () = kept => panic!("it ends"),
        () = story => {}
    }
}

#[test]
fn a_source_is_a_url_or_a_path() {
    for (text, is_open) in [
        ("https://id.example.com/jwks.json", false),
        ("http://id.example.com/jwks.json?a=b", true),
        ("http://127.0.0.1:8000/jwks", false),
        ("http://[::1]/jwks", false),
        ("http://localhost/jwks", false),
        ("keys/jwks.json", false),
        ("/etc/doorward/jwks.json", false),
    ] {
        assert_eq!(
            Source::parse(text).map(|source| source.is_open()),
            Ok(is_open),
            "{text}"
        );
    }
    for text in [
        "",
        "ftp://x/y",
        "file:///x",
        "https://",
        "https://u:p@x/",
        "https://x/#y",
    ] {
        assert!(Source::parse(text).is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_failed_https_fetch_names_its_url() {
    let url = "https://127.0.0.1:1/jwks.json".parse().unwrap();
    let fault = fetch(client(), url).await.unwrap_err();
    let fault = causes(&fault).to_string();
    assert!(
        fault.starts_with("https://127.0.0.1:1/jwks.json: "),
        "{fault}"
    );
}

/// A redirect could lead to keys that no setting names, and documents have a size limit.
#[tokio::test]
async fn redirects_errors_and_oversize_documents_are_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    for (answer, expected) in [
        ("200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned(), None),
        (
            "302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".to_owned(),
            Some("it was answered 302 Found"),
        ),
        (
            "503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned(),
            Some("it was answered 503 Service Unavailable"),
        ),
        (
            format!(
                "200 OK\r\ncontent-length: 300000\r\n\r\n{}",
                " ".repeat(300_000)
            ),
            Some("length limit exceeded"),
        ),
        (
            "200 OK\r\ncontent-length: 2\r\n\r\n{".to_owned(),
            Some("error"),
        ),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            // The client closes the connection once it has read enough.
            let _ = stream
                .write_all(format!("HTTP/1.1 {answer}").as_bytes())
                .await;
        };
        let (fetched, ()) = tokio::join!(fetch(client(), url.parse().unwrap()), served);
        match expected {
            None => assert_eq!(fetched.unwrap(), b"{}"),
            Some(expected) => {
                let fault = causes(&fetched.unwrap_err()).to_string();
                assert!(fault.contains(expected), "{expected}: {fault}");
            }
        }
    }
}
