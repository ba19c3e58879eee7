//! Both doors with one authorizer, its rules, and tokens.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, LazyLock},
    time::Duration,
};

use hyper::header::HeaderValue;
use tokio::runtime::Runtime;

use super::Door;
use crate::{
    actions::{
        authorizer::Authorizer,
        equal_time::EqualTime,
        hashing::{HashPriority, Hashing, Line},
        run::{Actions, Learning, OwnKeys},
    },
    clock::unix_time,
    domain::{
        account::{Identity, Roles, Username},
        decision::{LoginReply, Realm},
        identity_headers::IdentityHeaders,
        judge::Judge,
        keyring::Keyring,
        machine_key::{KeyName, MachineKey},
        machine_keys::{KeyEntry, KeySource, MachineKeys, Owner, OwnerState},
        path::Tolerance,
        policy::{Demand, Endpoint, Policy, Rule},
        revocation::Generation,
        sign_in::{BrowserSession, Places, SignIn},
        token::{Secret, Signer, TokenTerms, Verifier},
        trust::{ClientAddress, Peer, TrustedProxies, Warned},
    },
    doors::grpc,
    live::{Live, Rules},
    login::{
        desk::Desk,
        enrolment::{NameRules, PasswordRules},
        fair_queue::Limits,
        password::Hasher,
        throttle::{Free, Throttle},
    },
    observe::{
        metrics::{Accepted, Metrics},
        spans::Spans,
    },
    tables::{
        database::{Connections, Database},
        state::State,
        store::Store,
        sync,
        users::Users,
    },
};

pub(super) const PROXY: Peer = Peer::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

/// How long browsers stay signed in.
const SESSION: Duration = Duration::from_secs(12 * 3600);

/// All doors with one authorizer.
pub(super) struct Doors {
    pub(super) runtime: Runtime,
    pub(super) http: Door,
    pub(super) grpc: grpc::Door,
    pub(super) plain: String,
    pub(super) admin: String,
    /// Keys for machines of the same users.
    pub(super) plain_key: String,
    pub(super) admin_key: String,
    /// Cookies of the same users.
    pub(super) plain_cookie: String,
    pub(super) admin_cookie: String,
}

pub(super) static DOORS: LazyLock<Doors> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let rule = |path: &str, methods: &[&str], hosts: &[&str], allow: &str| {
        let own = |list: &[&str]| {
            list.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        Rule::new(
            path,
            &own(methods),
            &own(hosts),
            Demand::parse(allow).unwrap(),
        )
        .unwrap()
    };
    let terms = TokenTerms {
        issuer: "doorward".into(),
        audience: "doorward".into(),
        lifetime: Duration::from_secs(3600),
        leeway: Duration::from_secs(30),
    };
    let secret = Secret::parse(Secret::generate().as_bytes()).unwrap();
    let keys = Keyring::of_secret(&secret, terms.lasts());
    let verifier = Verifier::of(&keys, terms.clone());
    let signer = Signer::new(Arc::new(keys), terms);
    let identity = |roles: &str| Identity {
        subject: "7".into(),
        username: Username::parse("ada").unwrap(),
        roles: Roles::parse_list(roles).unwrap(),
    };
    let now = unix_time();
    let token = |roles: &str| {
        let token = signer.issue(&identity(roles), Generation::default(), None, now);
        format!("Bearer {}", token.unwrap().expose())
    };
    let (plain, admin) = (token("editor"), token("admin"));
    let cookie = |roles: &str| {
        let session = BrowserSession::start(now, SESSION).unwrap();
        let token = signer.issue_cookie(&identity(roles), Generation::default(), &session, now);
        format!("__Host-doorward={}", token.unwrap().expose())
    };
    let (plain_cookie, admin_cookie) = (cookie("editor"), cookie("admin"));
    let machine_keys = Arc::new(MachineKeys::default());
    let key = |roles: &str| {
        let key = MachineKey::generate().unwrap();
        let entry = KeyEntry {
            hash: key.hash(),
            name: KeyName::parse("ci").unwrap(),
            limits: None,
            expires: None,
            ended: false,
        };
        let owner = Owner {
            subject: "7".into(),
            username: Username::parse("ada").unwrap(),
            state: OwnerState::Active(Arc::new(Roles::parse_list(roles).unwrap())),
        };
        machine_keys.set(key.id(), entry, Arc::new(owner));
        key.expose().to_owned()
    };
    let (plain_key, admin_key) = (key("editor"), key("admin"));
    machine_keys.have_been_read();
    let policy = Policy::new(vec![
        rule("/*", &[], &[], "signed-in"),
        rule("/login", &[], &[], "login"),
        rule("/open/*", &[], &[], "public"),
        rule("/open/write/*", &["POST", "DELETE"], &[], "role:editor"),
        rule("/admin/*", &[], &[], "role:admin"),
        rule("/*", &[], &["internal.example"], "role:admin"),
        rule("/closed", &[], &[], "nobody"),
        (rule("/repo/*", &[], &[], "role:editor").taking_basic_keys()).unwrap(),
    ])
    .unwrap();
    let judge = Judge {
        sign_in: Some(SignIn {
            session: SESSION,
            localhost: false,
            places: Places::of(&policy),
        }),
        policy,
        verifier,
        revoked: Arc::default(),
        forwards_bearer: true,
        allows_preflight: true,
        keys: KeySource::Here(machine_keys),
    };
    let desk = Desk {
        hasher: Arc::new(Hasher::new().unwrap()),
        passwords: PasswordRules::default(),
        names: NameRules::default(),
        sessions: None,
        browser_sessions: None,
        reply: LoginReply::Direct,
        signer,
    };
    let dir = tempfile::tempdir().unwrap().keep();
    let entered = runtime.enter();
    let database = Database::Sqlite(dir.join("users.db"));
    let connections = Connections::open(&database, 1, Duration::from_millis(10)).unwrap();
    let store = Store {
        users: Users::new(connections.clone(), None),
        state: State::new(connections),
        together: true,
    };
    let secret = Secret::parse(Secret::generate().as_bytes()).unwrap();
    let metrics = Metrics::default();
    let throttle = Arc::new(Throttle::new(
        Keyring::of_secret(&secret, Duration::ZERO)
            .seal()
            .unwrap()
            .clone(),
        Free {
            account: 5,
            address: 100,
            unknown: 1000,
        },
    ));
    let hashing = Hashing::new(1, HashPriority::Normal, || {}).unwrap();
    let limits = Limits {
        places: 1,
        memory: 19_456,
        entries: 1,
    };
    let authorizer = Authorizer::new(Actions {
        live: Live::new(Rules {
            counts: metrics.decisions(&judge.policy, Accepted::default()),
            judge,
            desk,
            realm: Realm::parse("doorward").unwrap(),
            tolerance: Tolerance::default(),
            assertions: None,
            identity: IdentityHeaders::default(),
            trusted: TrustedProxies::loopback(),
            client_address: ClientAddress::Peer,
            warned: Warned::default(),
            probe: None,
            shadow: None,
            pages: None,
        }),
        throttle: Arc::clone(&throttle),
        shares: sync::shares(store.clone()).0,
        store,
        grace: Duration::ZERO,
        own_keys: OwnKeys {
            memory: None,
            longest: Duration::from_secs(60),
            most: 1,
        },
        register_roles: Roles::default(),
        line: Line::new(limits, throttle, Arc::clone(hashing.times())),
        hashing,
        equal_time: EqualTime::default(),
        learning: Learning::default(),
        spans: Spans::default(),
        metrics,
    });
    drop(entered);
    Doors {
        http: Door {
            authorizer: authorizer.clone(),
            endpoints: vec![Endpoint::Login, Endpoint::Logout].into(),
            sign_in: Some(HeaderValue::from_static("https://login.example/")),
            feed: None,
        },
        grpc: grpc::Door {
            authorizer,
            metadata: true,
        },
        runtime,
        plain,
        admin,
        plain_key,
        admin_key,
        plain_cookie,
        admin_cookie,
    }
});
