//! Two Doorwards that share their data: a logout or the end of a key at one takes effect at the other, and both are
//! replaced under load.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::{Instant, sleep};

use crate::{
    columns::{Column, Doors},
    findings::Findings,
    harness::{Doorward, PATIENCE, Relay, Service, Settings, basic, send, until},
    requests::{ask, status},
    world::{BOB, World, data, doors, log_in},
};

/// Two Doorwards with one data directory.
async fn two(
    world: &World,
    column: Column,
    more: impl Fn(&mut Settings),
) -> anyhow::Result<[Doorward; 2]> {
    let first = world.home(column, &more)?;
    let shared = data(&first).display().to_string();
    let second = world.home(column, |settings| {
        more(settings);
        settings.env("DOORWARD_DATA_DIR", shared);
    })?;
    Ok([first.serve().await, second.serve().await])
}

const SOON: Duration = Duration::from_secs(2);

pub async fn logout(world: &World, column: Column, found: &mut Findings) -> anyhow::Result<()> {
    let [near, far] = two(world, column, |_| {}).await?;
    let service = Service::start().await;
    let gateway = column
        .start(&world.scenarios, None, doors(&near), service.address)
        .await?;
    let (ended, other) = (log_in(near.http, BOB).await?, log_in(near.http, BOB).await?);
    for bearer in [&ended, &other] {
        let before = status(gateway.edge, "/echo", Some(bearer)).await?;
        found.demand(before == 200, || format!("before the logout: {before}"));
    }
    let reply = send(
        far.http,
        "POST",
        "/logout",
        &[("authorization", &*ended)],
        "",
    )
    .await;
    found.demand(reply.status == 200, || {
        format!("the logout: {}", reply.status)
    });
    let denied = world.scenarios.translated(column.proxy(), 401);
    ends(gateway.edge, &ended, denied, "the logout", found).await?;
    let after = status(gateway.edge, "/echo", Some(&other)).await?;
    found.demand(after == 200, || {
        format!("another token after the logout: {after}")
    });
    Ok(())
}

/// What a request shows is denied with this status within [`SOON`].
async fn ends(
    edge: SocketAddr,
    shown: &str,
    denied: u16,
    after: &str,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let now = status(edge, "/echo", Some(shown)).await?;
        if now == denied {
            return Ok(());
        }
        if start.elapsed() > SOON {
            found.open(format!("{SOON:?} after {after}: {now}"));
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

pub async fn revoked_key(
    world: &World,
    column: Column,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let [near, far] = two(world, column, |settings| {
        settings.env("DOORWARD_KEYS__ENABLED", "true");
    })
    .await?;
    let service = Service::start().await;
    let gateway = column
        .start(&world.scenarios, None, doors(&near), service.address)
        .await?;
    let (ended, other) = (add_key(&far, "ended").await, add_key(&far, "other").await);
    for (key, name) in [(&ended, "the key"), (&other, "another key")] {
        until(name, PATIENCE, async || {
            let known = status(gateway.edge, "/echo", Some(&format!("Bearer {key}"))).await;
            known.is_ok_and(|status| status == 200).then_some(())
        })
        .await;
    }
    let id = ended.split('_').nth(1).context("a key has an ID")?;
    far.run(&["key", "end", id], "").await.ok();
    let denied = world.scenarios.translated(column.proxy(), 401);
    let (ended, other) = (format!("Bearer {ended}"), format!("Bearer {other}"));
    ends(gateway.edge, &ended, denied, "the end of the key", found).await?;
    let after = status(gateway.edge, "/echo", Some(&other)).await?;
    found.demand(after == 200, || {
        format!("another key after the end of one: {after}")
    });
    Ok(())
}

async fn add_key(doorward: &Doorward, name: &str) -> String {
    let added = doorward
        .run(&["key", "add", name, "--owner", BOB.0], "")
        .await
        .ok();
    added.stdout.trim_end().to_owned()
}

/// Requests that were answered, and those that were not.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    answered: AtomicU64,
    lost: Mutex<Vec<String>>,
}

impl Load {
    async fn run(self: Arc<Self>, edge: SocketAddr, bearer: String) {
        let credentials = basic(BOB.0, BOB.1);
        for round in 0_u64.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let (method, path, shown) = match round % 50 {
                49 => ("POST", "/login", &credentials),
                _ => ("GET", "/echo", &bearer),
            };
            let headers = [("authorization", &**shown)];
            let lost = match ask(edge, method, path, &headers, Vec::new(), None).await {
                Ok(answer) if answer.status == 200 => None,
                Ok(answer) => Some(format!("{method} {path}: {}", answer.status)),
                Err(fault) => Some(format!("{method} {path}: {fault}")),
            };
            self.answered.fetch_add(1, Ordering::Relaxed);
            self.lost
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(lost);
            sleep(Duration::from_millis(2)).await;
        }
    }
}

pub async fn rollout(world: &World, column: Column, found: &mut Findings) -> anyhow::Result<()> {
    let mut replicas = Vec::from(
        two(world, column, |settings| {
            settings.env("DOORWARD_SHUTDOWN__DELAY", "1s");
        })
        .await?,
    );
    let relays = [Relay::start(&[]).await?, Relay::start(&[]).await?];
    let lead = |replicas: &[Doorward]| {
        let addresses =
            |door: fn(&Doorward) -> SocketAddr| -> Vec<_> { replicas.iter().map(door).collect() };
        relays[0].lead_to(&addresses(|replica| replica.grpc));
        relays[1].lead_to(&addresses(|replica| replica.http));
    };
    lead(&replicas);
    let behind = Doors {
        grpc: relays[0].address,
        http: relays[1].address,
    };
    let service = Service::start().await;
    let gateway = column
        .start(&world.scenarios, None, behind, service.address)
        .await?;
    let bearer = log_in(replicas[0].http, BOB).await?;
    let load = Arc::new(Load::default());
    let crowd: Vec<_> = (0..4)
        .map(|_| tokio::spawn(Arc::clone(&load).run(gateway.edge, bearer.clone())))
        .collect();
    for _ in 0..2 {
        sleep(Duration::from_millis(500)).await;
        let ends = replicas.remove(0);
        let ops = ends.ops;
        let stop = async {
            let (home, status) = ends.stop().await;
            (home.serve().await, status)
        };
        let leave = async {
            until("it is not ready", SOON, async || {
                (send(ops, "GET", "/readyz", &[], "").await.status == 503).then_some(())
            })
            .await;
            // A cluster needs a moment to tell its nodes.
            sleep(Duration::from_millis(300)).await;
            lead(&replicas);
        };
        let ((fresh, status), ()) = tokio::join!(stop, leave);
        found.demand(status.success(), || {
            format!("a replica ended with {status}")
        });
        replicas.push(fresh);
        lead(&replicas);
    }
    sleep(Duration::from_millis(500)).await;
    load.is_over.store(true, Ordering::Relaxed);
    for client in crowd {
        client.await?;
    }
    let answered = load.answered.load(Ordering::Relaxed);
    found.demand(answered > 200, || format!("only {answered} requests"));
    let lost = load.lost.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(first) = lost.first() {
        found.refused(format!(
            "{} of {answered} requests failed, the first: {first}",
            lost.len()
        ));
    }
    Ok(())
}
