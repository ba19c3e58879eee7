//! The only wiring: files, tables, judge, doors, health, draining.

mod connections;
mod doors;
mod ending;
mod expiry;
mod places;
mod prepare;
mod probes;
mod watched;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{task::JoinSet, time::timeout};
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use self::{
    doors::{Doors, Limits, Listeners},
    ending::{Asked, Ending, Signals},
    prepare::prepare,
    watched::Watched,
};

use crate::{
    actions::{
        authorizer::Authorizer,
        equal_time::EqualTime,
        hashing::{Hashing, Line},
        run::{Actions, Learning, OwnKeys},
    },
    clock::unix_time,
    config::{Settings, ShutdownSettings},
    domain::{
        machine_keys::{KeySource, MachineKeys},
        revocation::Revocations,
        trust::TrustedProxies,
    },
    doors::{
        grpc::{self, connection::Calls},
        http,
        layers::InFlight,
        listen::{self, Address},
        tls::Tls,
        wire::{self, envoy::service::auth::v3::authorization_server::AuthorizationServer},
    },
    feed::Feed,
    issuers,
    live::Live,
    login::{fair_queue, password::Hasher, throttle::Throttle},
    observe::{metrics::Metrics, spans::Spans},
    reload::{Lasting, Load, Reloader, warn_of},
    tables::{
        database::{Connections, Database},
        state::State,
        store::Store,
        sync::{self, Follower},
        users::Users,
    },
};
use doorward_rules::files::Files;

/// How long failed logins may still be written for other replicas after the last answer.
const LAST_SHARES: Duration = Duration::from_secs(1);

/// The most bytes of a request for health or reflection.
const MAX_QUESTION: usize = 4 * 1024;

macro_rules! reflection {
    ($build:ident) => {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(wire::CONTRACT)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .$build()
            .map(|service| service.max_decoding_message_size(MAX_QUESTION))
            .context("the wire contract cannot be served by reflection")
    };
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
///
/// Why Doorward cannot start, such as an address in use or a file that cannot be created.
pub(crate) async fn serve(
    settings: Settings,
    files: &Files,
    load: Load,
    spans: Spans,
) -> anyhow::Result<()> {
    warn_of(&settings);
    let metrics = Metrics::default();
    let client_address = settings.gateways.client_address;
    let store = store(
        &settings,
        settings.database.connections,
        settings.database.timeout,
    )?;
    prepare(&settings, &store).await?;
    let now = unix_time();
    let keys = settings.jwt.keys.start(files, now)?;
    settings.identity.fits(&keys, now)?;
    let seal = keys.seal().context("no key has a private half")?.clone();
    let ended = Revocations::new(settings.revocation.refuses_after);
    let ended = Arc::new(match settings.feed.enabled {
        true => ended.with_journal(),
        false => ended,
    });
    let feed = settings.feed.enabled.then(|| {
        let (revoked, metadata) = (Arc::clone(&ended), settings.envoy.metadata);
        let feed = Feed::new(revoked, &settings.endpoints, metadata, metrics.clone());
        Arc::new(feed)
    });
    let throttle = Arc::new(Throttle::new(seal, settings.throttle));
    let machine_keys = (settings.keys.enabled).then(|| Arc::new(MachineKeys::default()));
    let mut follower = Follower::new(
        store.clone(),
        Arc::clone(&ended),
        Arc::clone(&throttle),
        settings.jwt.terms.clone(),
        machine_keys.clone(),
        metrics.clone(),
    );
    // Before the first answer: revocations hold across a restart.
    follower.read().await;
    let (shares, sharing) = sync::shares(store.clone());
    let lasting = Lasting {
        ended: Arc::clone(&ended),
        hasher: Arc::new(
            Hasher::new()?
                .allow_plaintext(settings.users.plaintext)
                .limit_memory(settings.login.hash_memory),
        ),
        issuers: issuers::follow(&settings.issuers, &metrics).await,
        identity: settings.keys.identity(&settings.identity),
        keys: match &machine_keys {
            Some(keys) => KeySource::Here(Arc::clone(keys)),
            None => KeySource::Off,
        },
        metrics: metrics.clone(),
    };
    let live = Live::new(lasting.rules(&settings, keys));
    let hasher = Arc::clone(&lasting.hasher);
    let hashing = Hashing::new(
        settings.login.hash_threads,
        settings.login.hash_priority,
        move || hasher.rest(),
    )
    .context("login.hash_threads")?;
    let limits = fair_queue::Limits {
        places: settings.login.hash_threads,
        memory: settings.login.hash_memory,
        entries: (settings.login.hash_threads).saturating_add(settings.login.hash_queue),
    };
    let line = Line::new(limits, Arc::clone(&throttle), Arc::clone(hashing.times()));
    let tls = match &settings.listen.tls {
        None => None,
        Some(terms) => Some(Tls::new(terms.read(files)?)),
    };
    metrics.begin(&settings.endpoints);
    metrics.watch(Watched {
        live: live.clone(),
        store: store.clone(),
        throttle: Arc::clone(&throttle),
        ended,
        machine_keys: machine_keys.clone(),
        poll: settings.revocation.poll,
        line: line.clone(),
        hashing: Arc::clone(hashing.times()),
        tls: tls.clone(),
        since: unix_time(),
    });
    let authorizer = Authorizer::new(Actions {
        live: live.clone(),
        store,
        throttle,
        shares,
        grace: settings.refresh.grace,
        own_keys: OwnKeys {
            memory: machine_keys,
            longest: settings.keys.lifetime,
            most: settings.keys.most,
        },
        register_roles: settings.self_service.register_roles.clone(),
        line,
        hashing,
        equal_time: EqualTime::default(),
        learning: Learning::default(),
        spans,
        metrics: metrics.clone(),
    });
    // Only logins wait for it.
    let learner = authorizer.clone();
    tokio::spawn(async move { learner.learn().await });
    let door = grpc::Door {
        authorizer: authorizer.clone(),
        metadata: settings.envoy.metadata,
    };
    let http_door = Arc::new(http::Door {
        authorizer,
        endpoints: settings.endpoints.clone().into(),
        sign_in: settings.http.sign_in.clone(),
        feed,
    });

    let (end, ending) = Ending::new();
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter
        .set_serving::<AuthorizationServer<grpc::Door>>()
        .await;
    let routes = Routes::new(health.max_decoding_message_size(MAX_QUESTION))
        .add_service(reflection!(build_v1)?)
        // Older clients ask for this one.
        .add_service(reflection!(build_v1alpha)?);
    let limits = Limits::new(&settings.listen, listen::raise_file_limit());
    let listeners = Listeners::open(&settings.listen).await?;
    let (grpc_at, http_at, ops_at) = listeners.addresses()?;
    let in_flight = InFlight::leak(settings.listen.max_requests);
    let doors = listeners.serve(Doors {
        grpc: Calls::new(door, settings.listen.max_check, in_flight, routes),
        http: http_door,
        metrics: metrics.clone(),
        tls: tls.clone(),
        live: live.clone(),
        limits,
        in_flight,
        connection_age: settings.listen.connection_age,
        ending,
    });
    let (is_tls, is_mtls) = (
        tls.is_some(),
        (settings.listen.tls.as_ref()).is_some_and(|tls| tls.clients.is_some()),
    );

    let rules = live.clone();
    let terms = move || rules.now().judge.verifier.terms().clone();
    tokio::spawn(follower.follow(terms, settings.revocation.poll));
    let (database, trusted) = (
        settings.database.place.clone(),
        settings.gateways.trusted.clone(),
    );
    let (shutdown, signals) = (settings.shutdown, Signals::new()?);
    // Before Doorward says that it serves: until then, SIGHUP ends the process.
    tokio::spawn(Reloader::new(settings, files, load, live, lasting, tls, metrics)?.follow());
    let sharing = tokio::spawn(sharing);

    tracing::info!(
        grpc = %grpc_at,
        http = %http_at,
        ops = %ops_at,
        %database,
        trusted_proxies = %trusted,
        %client_address,
        tls = is_tls,
        client_certificates = is_mtls,
        "serving"
    );
    say_what_is_next([&grpc_at, &http_at, &ops_at], &database, &trusted);

    until_the_end(doors, signals, &end, &health_reporter, shutdown).await?;
    // Failures that are not written by then are lost.
    let _ = timeout(LAST_SHARES, sharing).await;
    Ok(())
}

/// Waits for a signal, then shuts down: reports not ready, serves on for the delay, closes the doors, and gives open requests
/// until the deadline.
async fn until_the_end(
    mut doors: JoinSet<()>,
    mut signals: Signals,
    end: &Ending,
    health: &HealthReporter,
    ShutdownSettings { delay, deadline }: ShutdownSettings,
) -> anyhow::Result<()> {
    let asked = tokio::select! {
        ended = doors.join_next() => {
            // Doors end only when they are closed, and none was.
            ended.transpose()?;
            bail!("a door stopped unexpectedly");
        }
        asked = signals.next() => asked,
    };
    let delay = match asked {
        Asked::Politely => delay,
        Asked::AtOnce => Duration::ZERO,
    };
    tracing::info!(
        delay = %humantime::format_duration(delay),
        deadline = %humantime::format_duration(deadline),
        "draining"
    );
    end.leave();
    not_serving(health).await;
    signals.wait(delay).await;
    end.close();
    let all = async { while doors.join_next().await.is_some() {} };
    tokio::select! {
        () = all => tracing::info!("ended"),
        () = signals.wait(deadline) => tracing::warn!("ended with connections still open"),
    }
    Ok(())
}

/// Connections to the tables; opens none.
///
/// # Errors
///
/// An embedded database file cannot be created.
pub(crate) fn store(
    settings: &Settings,
    connections: u32,
    patience: Duration,
) -> anyhow::Result<Store> {
    let users = Connections::open(&settings.database.place, connections, patience)?;
    let state = match &settings.state.place {
        None => users.clone(),
        Some(state) => Connections::open(state, connections, patience)?,
    };
    Ok(Store {
        users: Users::new(users, settings.users.mapping.as_ref()),
        state: State::new(state),
        together: settings.state.place.is_none(),
    })
}

async fn not_serving(health: &HealthReporter) {
    health
        .set_not_serving::<AuthorizationServer<grpc::Door>>()
        .await;
    health
        .set_service_status("", tonic_health::ServingStatus::NotServing)
        .await;
}

#[expect(
    clippy::print_stdout,
    reason = "for the person who started it; the log goes to standard error"
)]
fn say_what_is_next(
    [grpc, http, ops]: [&Address; 3],
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
