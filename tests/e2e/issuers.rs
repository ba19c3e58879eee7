//! Tokens of another issuer. Its keys come from a test server whose keys can change, and which can fail or be slow.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use axum::{Router, http::StatusCode, routing::get};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use doorward::{
    domain::{
        key::{Algorithm, Key, KeyId},
        keyring::Keyring,
        token::UnixTime,
    },
    doors::wire::envoy::service::auth::v3::{
        AttributeContext, CheckRequest,
        attribute_context::{self, HttpRequest, http_request::HeadersEntry},
        authorization_client::AuthorizationClient,
        check_response::HttpResponse,
    },
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    direct::{bearer, judged, post},
    docs::blocks,
    front::BOB,
    harness::{Doorward, PATIENCE, Reply, free_address, send, until},
};

pub const NAME: &str = "https://id.example.com/";

/// A key pair of the issuer.
pub struct Pair {
    kid: String,
    signing: EcdsaKeyPair,
    /// The JWK Set with its public key.
    pub document: String,
}

impl Pair {
    pub fn new(kid: &str) -> Self {
        let id = KeyId::parse(kid).unwrap();
        let pem = Key::generate(&id, Algorithm::Es256, UnixTime(0)).unwrap();
        let body = pem.split_once("KEY-----").unwrap().1;
        let body: String = body
            .split_once("-----")
            .unwrap()
            .0
            .split_whitespace()
            .collect();
        let key = Key::read("k", pem.as_bytes()).unwrap();
        let ring = Keyring::new(vec![key], Duration::from_secs(60)).unwrap();
        Self {
            kid: kid.to_owned(),
            signing: EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                &BASE64_STANDARD.decode(body).unwrap(),
            )
            .unwrap(),
            document: ring.jwks(UnixTime(0)),
        }
    }

    /// The `Authorization` value of ada, signed by a key with this id.
    pub fn bearer_by(&self, kid: &str, claims: &Value) -> String {
        self.signed(kid, &claims.to_string())
    }

    fn bearer(&self) -> String {
        self.bearer_by(&self.kid, &claims())
    }

    /// The `Authorization` value with any text as claims.
    pub fn bearer_of_text(&self, claims: &str) -> String {
        self.signed(&self.kid, claims)
    }

    fn signed(&self, kid: &str, claims: &str) -> String {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": kid}).to_string();
        let [header, claims] = [&*header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{header}.{claims}");
        let signature = (self.signing)
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!(
            "Bearer {signed}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(signature)
        )
    }
}

fn claims() -> Value {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    json!({
        "iss": NAME, "aud": "my-api", "sub": "7", "preferred_username": "ada",
        "iat": now, "exp": now + 600, "realm_access": {"roles": ["editor", "admin"]},
    })
}

#[derive(Default)]
struct State {
    document: String,
    fails: bool,
    delay: Duration,
    fetches: usize,
}

/// The server on which the issuer publishes its keys.
struct Server {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(address: SocketAddr, document: &str) -> Self {
        let state = Arc::new(Mutex::new(State {
            document: document.to_owned(),
            ..State::default()
        }));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        let answer = move || {
            let shared = Arc::clone(&shared);
            async move {
                let delay = {
                    let mut state = shared.lock().unwrap();
                    state.fetches += 1;
                    state.delay
                };
                tokio::time::sleep(delay).await;
                let state = shared.lock().unwrap();
                match state.fails {
                    true => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
                    false => (StatusCode::OK, state.document.clone()),
                }
            }
        };
        let router = Router::new().route("/jwks.json", get(answer));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            state,
            address,
            task,
        }
    }

    async fn anywhere(document: &str) -> Self {
        Self::start((Ipv4Addr::LOCALHOST, 0).into(), document).await
    }

    fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    fn fetches(&self) -> usize {
        self.state.lock().unwrap().fetches
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn settings(jwks: &str) -> String {
    format!(
        "[[route]]
path = '/login'
allow = 'login'
[[route]]
path = '/editors/*'
allow = 'role:editor'
[[route]]
path = '/admins/*'
allow = 'role:admin'
[[route]]
path = '/*'
allow = 'signed-in'
[[issuer]]
issuer = '{NAME}'
audience = 'my-api'
jwks = '{jwks}'
prefix = 'corp/'
username = 'preferred_username'
roles = 'realm_access.roles'
accept_roles = ['editor']
grant = ['member']
"
    )
}

async fn setup(jwks: &str) -> Doorward {
    let home = Doorward::prepare(|chosen| {
        chosen
            .toml(settings(jwks))
            .env("DOORWARD_SELF_SERVICE__PASSWORD", "true")
            .env("DOORWARD_LOG__LEVEL", "info");
    });
    home.add_user(BOB.0, BOB.1, &[]).await;
    home.serve().await
}

async fn nginx(doorward: &Doorward, path: &str, bearer: &str) -> Reply {
    let headers = [
        ("authorization", bearer),
        ("x-original-method", "GET"),
        ("x-original-uri", path),
        ("host", "a"),
    ];
    send(doorward.http, "GET", "/auth/nginx", &headers, "").await
}

/// The value of `x-auth-user` that the gRPC door adds.
async fn checked(doorward: &Doorward, bearer: &str) -> Option<String> {
    let http = HttpRequest {
        method: "GET".into(),
        path: "/x".into(),
        headers: vec![HeadersEntry {
            key: "authorization".into(),
            value: bearer.to_owned().into(),
        }],
        ..HttpRequest::default()
    };
    let check = CheckRequest {
        attributes: Some(AttributeContext {
            source: None,
            request: Some(attribute_context::Request { http: Some(http) }),
        }),
    };
    let url = format!("http://{}", doorward.grpc);
    let mut client = AuthorizationClient::connect(url).await.unwrap();
    let response = client.check(check).await.unwrap().into_inner();
    let Some(HttpResponse::OkResponse(passed)) = response.http_response else {
        return None;
    };
    let headers = passed
        .headers
        .into_iter()
        .filter_map(|option| option.header);
    let user = headers
        .into_iter()
        .find(|header| header.key == "x-auth-user")?;
    Some(String::from_utf8(user.value.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_issuer_passes_every_door() {
    let pair = Pair::new("k-1");
    let server = Server::anywhere(&pair.document).await;
    let doorward = setup(&server.url()).await;
    let claimed = claims();
    let token = pair.bearer_by(&pair.kid, &claimed);
    let passed = nginx(&doorward, "/x", &token).await;
    assert_eq!(passed.status, 200, "{passed:?}\n{}", doorward.output());
    assert_eq!(passed.header("x-auth-user"), Some("corp/ada"));
    assert_eq!(passed.header("x-auth-roles"), Some("editor,member"));
    assert_eq!(
        checked(&doorward, &token).await.as_deref(),
        Some("corp/ada")
    );
    assert_eq!(nginx(&doorward, "/editors/x", &token).await.status, 200);
    assert_eq!(nginx(&doorward, "/admins/x", &token).await.status, 403);
    let headers = [("authorization", &*token)];
    let shown = send(doorward.http, "GET", "/validate", &headers, "").await;
    let subject = json!(format!("{NAME}|7"));
    assert_eq!((shown.status, &shown.json()["sub"]), (200, &subject));
    assert_eq!(shown.json()["issuer_claims"], claimed);

    // Doorward cannot revoke the token, and its user has no password here.
    let passwords = json!({"current_password": BOB.1, "new_password": "another-good-phrase"});
    for (path, body) in [
        ("/logout", &json!({})),
        ("/logout?all", &json!({})),
        ("/password", &passwords),
    ] {
        let refused = post(&doorward, path, Some(&token), body).await;
        assert_eq!(refused.status, 401, "{path} {refused:?}");
        let challenge = refused.header("www-authenticate").unwrap();
        assert!(challenge.contains("invalid_token"), "{challenge}");
    }
    assert_eq!(nginx(&doorward, "/x", &token).await.status, 200);

    let mut other = claims();
    for (member, value) in [
        ("aud", "other"),
        ("iss", "doorward"),
        ("iss", "https://id.example.org/"),
    ] {
        other[member] = value.into();
        let refused = pair.bearer_by("k-1", &other);
        assert_eq!(
            judged(&doorward, &refused).await.status,
            401,
            "{member} {value}"
        );
    }
    let impostor = Pair::new("k-1").bearer();
    assert_eq!(judged(&doorward, &impostor).await.status, 401);
    let own = bearer(&doorward, BOB).await;
    assert_eq!(
        nginx(&doorward, "/x", &own).await.header("x-auth-user"),
        Some("bob")
    );
    assert_eq!(server.fetches(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_followed_and_unknown_keys_cost_few_fetches() {
    let [old, new] = ["old", "new"].map(Pair::new);
    let server = Server::anywhere(&old.document).await;
    let doorward = setup(&server.url()).await;
    assert_eq!(judged(&doorward, &old.bearer()).await.status, 200);
    server.change(|state| state.document = new.document.clone());
    // No request has used the new key yet.
    assert_eq!(judged(&doorward, &old.bearer()).await.status, 200);
    for n in 0..100 {
        let unknown = new.bearer_by(&format!("unknown-{n}"), &claims());
        assert_eq!(judged(&doorward, &unknown).await.status, 401);
    }
    let start = Instant::now();
    until("the new key", PATIENCE, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let reply = judged(&doorward, &new.bearer()).await;
        (reply.status == 200).then_some(())
    })
    .await;
    assert!(
        server.fetches() <= 3,
        "{} in {:?}",
        server.fetches(),
        start.elapsed()
    );
    // The old key is gone, and tokens verified with it are no longer in the cache.
    assert_eq!(judged(&doorward, &old.bearer()).await.status, 401);

    // The issuer goes down; tokens that were accepted still are.
    server.change(|state| state.fails = true);
    let unknown = new.bearer_by("unknown", &claims());
    assert_eq!(judged(&doorward, &unknown).await.status, 401);
    drop(server);
    assert_eq!(judged(&doorward, &new.bearer()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_while_the_issuer_is_down_or_slow_and_catches_up() {
    let pair = Pair::new("k-1");
    let away = free_address();
    let slow = Server::anywhere(&pair.document).await;
    slow.change(|state| state.delay = Duration::from_secs(4));
    let start = Instant::now();
    let (url, slow_url) = (format!("http://{away}/jwks.json"), slow.url());
    let (doorward, patient) = tokio::join!(setup(&url), setup(&slow_url));
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    doorward
        .logged("the failure", |line| {
            line["fields"]["message"]
                == "the keys of an issuer cannot be fetched; the previous keys stay in force"
        })
        .await;
    patient
        .logged("the wait", |line| {
            line["fields"]["message"]
                == "the keys of an issuer have not arrived yet; its tokens are refused until they do"
        })
        .await;
    let own = bearer(&doorward, BOB).await;
    assert_eq!(judged(&doorward, &own).await.status, 200);
    assert_eq!(judged(&doorward, &pair.bearer()).await.status, 401);
    until("the slow one's keys", PATIENCE, async || {
        let reply = judged(&patient, &pair.bearer()).await;
        (reply.status == 200).then_some(())
    })
    .await;
    let _server = Server::start(away, &pair.document).await;
    until("the keys", PATIENCE, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let reply = judged(&doorward, &pair.bearer()).await;
        (reply.status == 200).then_some(())
    })
    .await;
    let failures = (doorward.log().iter())
        .filter(|line| {
            line["fields"]["message"]
                .as_str()
                .is_some_and(|text| text.contains("cannot be fetched"))
        })
        .count();
    assert_eq!(failures, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_may_be_in_a_file_and_issuers_need_a_restart() {
    let [old, new] = ["old", "new"].map(Pair::new);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    fs::write(&file, &old.document).unwrap();
    let doorward = setup(file.to_str().unwrap()).await;
    assert_eq!(judged(&doorward, &old.bearer()).await.status, 200);
    fs::write(&file, "half a docu").unwrap();
    doorward
        .logged("the fault", |line| {
            line["fields"]["cause"] == "the document is not a JWK Set (RFC 7517, 5)"
        })
        .await;
    assert_eq!(judged(&doorward, &old.bearer()).await.status, 200);
    fs::write(&file, &new.document).unwrap();
    until("the new key", PATIENCE, async || {
        let reply = judged(&doorward, &new.bearer()).await;
        (reply.status == 200).then_some(())
    })
    .await;
    assert_eq!(judged(&doorward, &old.bearer()).await.status, 401);

    let changed = settings("elsewhere.json");
    fs::write(doorward.home().dir().join("doorward.toml"), changed).unwrap();
    let line = doorward
        .logged("what needs a restart", |line| {
            line["fields"]["message"] == "changed, and takes effect only after a restart"
        })
        .await;
    assert_eq!(line["fields"]["keys"], "issuer");
    assert_eq!(judged(&doorward, &new.bearer()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_in_the_document_hold_together() {
    let blocks = blocks("docs/issuers.md", "toml");
    assert!(!blocks.is_empty());
    for block in blocks {
        let home = Doorward::prepare(|settings| {
            settings.toml(block);
        });
        home.run(&["config", "check"], "").await.ok();
    }
}
