//! The only wiring: files, pool, gate, doors, health, drain.

mod incoming;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming, header::HeaderValue};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tonic::transport::Server;
use tonic_health::server::HealthReporter;

use crate::{
    authorizer::{Authorizer, Errands, Pace},
    config::Settings,
    database::{Connections, Database, Fault},
    domain::{
        password::Hasher, policy::Endpoint, revocation::Revocations, throttle::Throttle,
        trust::TrustedProxies,
    },
    files::Files,
    grpc,
    hashing::Hashing,
    http::{self, listener},
    issuers, keys,
    ledger::Ledger,
    live::Live,
    metrics::Metrics,
    reload::{Lasting, Load, Reloader},
    replicas::{self, Follower},
    store::Store,
    tls::Certificate,
    users::{Users, UsersFault},
    wire::{self, envoy::service::auth::v3::authorization_server::AuthorizationServer},
};

/// The longest check that is read: the headers and the body of one request, in bytes.
const MAX_CHECK: usize = 4 * 1024 * 1024;

/// Calls on one connection at once; Envoy opens more connections beyond it.
const MAX_STREAMS: u32 = 1024;

/// Bytes of headers of one call; they are ours and Envoy's, never the client's.
const MAX_CALL_HEADERS: u32 = 16 * 1024;

/// How long calls that are under way may take after the end was asked for.
const DRAIN: Duration = Duration::from_secs(10);

/// How long failed logins may take to be told to other replicas after the last answer.
const LAST_SHARES: Duration = Duration::from_secs(1);

macro_rules! reflection {
    ($build:ident) => {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(wire::CONTRACT)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .$build()
            .context("the wire contract cannot be served by reflection")
    };
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
///
/// What keeps Doorward from starting: an address that is taken, a file that cannot be made.
pub async fn serve(settings: Settings, files: &Files, load: Load) -> anyhow::Result<()> {
    let client_address = settings.client_address;
    let store = store(&settings, settings.connections, settings.database_timeout)?;
    prepare(&settings, &store).await?;
    let keys = keys::start(&settings, files)?;
    let seal = keys.seal().context("no key has a private half")?.clone();
    let ended = Arc::new(Revocations::new(settings.refuses_after));
    let (for_account, for_address) = settings.throttle;
    let throttle = Arc::new(Throttle::new(seal, for_account, for_address));
    let mut follower = Follower::new(store.clone(), Arc::clone(&ended), Arc::clone(&throttle));
    // Before anything is answered: what has ended stays so across a restart.
    follower.read().await;
    let (shares, sharing) = replicas::shares(store.clone());
    let lasting = Lasting {
        ended,
        hasher: Arc::new(Hasher::new()?.allow_plaintext(settings.plaintext)),
        issuers: issuers::follow(&settings.issuers).await,
    };
    let live = Live::new(lasting.rules(&settings, keys));
    let places = settings.hash_threads.saturating_add(settings.hash_queue);
    let authorizer = Authorizer::new(Errands {
        live: live.clone(),
        store,
        throttle,
        shares,
        grace: settings.refresh.1,
        register_roles: settings.register_roles.clone(),
        places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
        hashing: Hashing::new(settings.hash_threads, settings.hash_priority)
            .context("login.hash_threads")?,
        pace: Pace::default(),
    });
    let door = grpc::Door {
        authorizer: authorizer.clone(),
    };
    let http_door = Arc::new(http::Door {
        authorizer,
        endpoints: settings.endpoints.clone().into(),
        sign_in: settings
            .sign_in
            .as_deref()
            .map(HeaderValue::from_str)
            .transpose()?,
    });

    let grpc = bind(settings.grpc, "listen.grpc").await?;
    let http = bind(settings.http, "listen.http").await?;
    let ops = bind(settings.ops, "listen.ops").await?;
    let (grpc_at, http_at, ops_at) = (grpc.local_addr()?, http.local_addr()?, ops.local_addr()?);
    let certificate = match &settings.tls {
        None => None,
        Some(pair) => Some(Certificate::new(pair.read(files)?)),
    };
    let acceptor = |protocol| {
        let certificate = certificate.as_ref();
        certificate.map(|own| own.acceptor(protocol)).transpose()
    };
    let (grpc_tls, http_tls) = (acceptor("h2")?, acceptor("http/1.1")?);
    let is_tls = certificate.is_some();
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter
        .set_serving::<AuthorizationServer<grpc::Door>>()
        .await;
    let ready = Arc::new(AtomicBool::new(true));
    let (stop, stopped) = watch::channel(());

    let checks = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_CALL_HEADERS)
        // tonic lifts both of hyper's limits where they are not set (RUSTSEC-2024-0003, CVE-2023-44487).
        .http2_max_local_error_reset_streams(Some(1024))
        .http2_max_pending_accept_reset_streams(Some(32))
        .add_service(AuthorizationServer::new(door).max_decoding_message_size(MAX_CHECK))
        .add_service(health)
        .add_service(reflection!(build_v1)?)
        // Older clients ask for this one.
        .add_service(reflection!(build_v1alpha)?)
        .serve_with_incoming_shutdown(
            incoming::connections(grpc, grpc_tls),
            changed(stopped.clone()),
        );
    let questions = move |request, peer: SocketAddr| {
        let door = Arc::clone(&http_door);
        async move { door.answer(request, peer.ip()).await }
    };
    let metrics = Metrics::default();
    let probes = {
        let (ready, metrics) = (Arc::clone(&ready), metrics.clone());
        move |request: Request<Incoming>, _| {
            let path = request.uri().path();
            std::future::ready(match path {
                "/metrics" => numbers(&metrics),
                _ => probe(path, &ready),
            })
        }
    };
    tokio::spawn(follower.follow(settings.poll));
    let (database, trusted) = (settings.database.clone(), settings.trusted.clone());
    // Before it is said that Doorward serves: until then, SIGHUP ends it.
    tokio::spawn(
        Reloader::new(settings, files, load, live, lasting, certificate, metrics)?.follow(),
    );
    let sharing = tokio::spawn(sharing);
    let mut doors = JoinSet::new();
    doors.spawn(async { checks.await.context("the gRPC door") });
    doors.spawn(ending(listener::serve(
        http,
        http_tls,
        questions,
        changed(stopped.clone()),
    )));
    doors.spawn(ending(listener::serve(ops, None, probes, changed(stopped))));

    tracing::info!(
        grpc = %grpc_at,
        http = %http_at,
        ops = %ops_at,
        %database,
        trusted_proxies = %trusted,
        %client_address,
        tls = is_tls,
        "serving"
    );
    say_what_is_next([grpc_at, http_at, ops_at], &database, &trusted);

    let ended = tokio::select! {
        ended = doors.join_next() => ended,
        () = asked_to_end() => None,
    };
    tracing::info!("draining");
    ready.store(false, Ordering::Relaxed);
    not_serving(&health_reporter).await;
    drop(stop);
    if timeout(DRAIN, doors.join_all()).await.is_err() {
        tracing::warn!("ended with connections still open");
    }
    // Failures that wait to be written are not worth more than this.
    let _ = timeout(LAST_SHARES, sharing).await;
    // A door that ends unasked is a fault, however it ended.
    match ended {
        None => Ok(()),
        Some(ended) => ended?.and_then(|()| bail!("a door ended unasked")),
    }
}

/// Connections to the tables; opens none.
///
/// # Errors
///
/// An embedded database file cannot be made.
pub fn store(settings: &Settings, connections: u32, patience: Duration) -> anyhow::Result<Store> {
    let users = Connections::open(&settings.database, connections, patience)?;
    let ledger = match &settings.state {
        None => users.clone(),
        Some(state) => Connections::open(state, connections, patience)?,
    };
    Ok(Store {
        users: Users::new(users, settings.mapping.as_ref()),
        ledger: Ledger::new(ledger),
        together: settings.state.is_none(),
    })
}

async fn prepare(settings: &Settings, store: &Store) -> anyhow::Result<()> {
    if settings.plaintext {
        tracing::warn!(
            "users.plaintext is on: whoever reads the user table has the passwords; set users.update_password, and switch it off when `doorward users hashes` counts none"
        );
    }
    for endpoint in &settings.endpoints {
        let missing = match endpoint {
            Endpoint::Register if !store.users.takes_users() => "users.insert",
            Endpoint::Register
                if settings.mapping.is_some()
                    && settings.register_roles.iter().next().is_some() =>
            {
                bail!(
                    "self_service.register_roles: roles of a table of yours are given there; users.grant gives everybody roles"
                )
            }
            Endpoint::Password if !store.users.takes_hashes() => "users.update_password",
            Endpoint::Login
            | Endpoint::Logout
            | Endpoint::Refresh
            | Endpoint::Register
            | Endpoint::Password => continue,
        };
        bail!(
            "/{} is switched on, and {missing} does not say how the table is changed",
            endpoint.name()
        );
    }
    if settings.mapping.is_none() && matches!(settings.database, Database::Sqlite(_)) {
        store.users.migrate().await?;
    }
    if let Database::Sqlite(_) = settings.state.as_ref().unwrap_or(&settings.database) {
        store.ledger.migrate().await?;
    }
    // A database that is away does not keep Bearer requests from being answered.
    match store.users.probe().await {
        Err(fault @ UsersFault::Mapping(_)) => return Err(fault.into()),
        Err(fault @ UsersFault::Database(Fault::NoTable(_))) if settings.mapping.is_some() => {
            return Err(fault.into());
        }
        Err(fault) => {
            tracing::warn!(cause = %fault, "logins will be answered 503 until this is mended");
        }
        Ok(()) => {}
    }
    Ok(())
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{key}: {address} cannot be listened on; free it, or set {key} to another address")
    })
}

/// The health endpoints. Readiness is about this process: a database that is away leaves it ready, because Bearer
/// requests go on.
fn probe(path: &str, ready: &AtomicBool) -> Response<Full<Bytes>> {
    let (status, text) = match (path, ready.load(Ordering::Relaxed)) {
        ("/livez", _) | ("/readyz", true) => (StatusCode::OK, "ok\n"),
        ("/readyz", false) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        (_, _) => (StatusCode::NOT_FOUND, "not found\n"),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

fn numbers(metrics: &Metrics) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(metrics.text()));
    let kind =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, kind);
    response
}

async fn not_serving(health: &HealthReporter) {
    health
        .set_not_serving::<AuthorizationServer<grpc::Door>>()
        .await;
    health
        .set_service_status("", tonic_health::ServingStatus::NotServing)
        .await;
}

async fn ending(door: impl Future<Output = ()>) -> anyhow::Result<()> {
    door.await;
    Ok(())
}

async fn changed(mut stopped: watch::Receiver<()>) {
    // The sender is never used, only dropped.
    let _ = stopped.changed().await;
}

async fn asked_to_end() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[expect(
    clippy::print_stdout,
    reason = "for the person who started it; the log goes to standard error"
)]
fn say_what_is_next(
    [grpc, http, ops]: [SocketAddr; 3],
    database: &Database,
    trusted: &TrustedProxies,
) {
    let me = std::env::args().next().unwrap_or_else(|| "doorward".into());
    println!(
        "Doorward answers gateways in {trusted}: ext_authz on {grpc}, HTTP on {http}; health on http://{ops}/readyz; users are in {database}."
    );
    println!(
        "Next: add a user with `{me} user add ada --admin`, then put Envoy in front with `envoy -c envoy/envoy.yaml`."
    );
}
