//! A PostgreSQL with a streaming standby: settings that lead to the standby, a failover and a switchover.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use super::{HASH, HORSE, prepare};
use crate::{
    direct::{Session, bearer, judged, login, post},
    front::{BOB, basic},
    harness::{
        Doorward, PATIENCE, PostgresNode, PostgresPair, Relay, Reply, Settings, try_send, until,
    },
};

/// A change at one replica takes effect at the other within this time.
const SOON: Duration = Duration::from_secs(2);

/// Logins work again within this time after the address leads to the new primary.
const RECOVERY: Duration = Duration::from_secs(10);

/// How often each replica asks the server whether it is the primary, and a little more.
const CHECKED: Duration = Duration::from_secs(11);

/// What Doorward says of a server that takes no writes.
const NO_WRITES: &str = "takes no writes: it is a standby";

async fn replica(at: std::net::SocketAddr, choose: impl FnOnce(&mut Settings)) -> Doorward {
    prepare(&PostgresNode::url(at), choose).serve().await
}

async fn out(doorward: &Doorward, bearer: &str) -> Reply {
    post(doorward, "/logout", Some(bearer), &json!({})).await
}

/// The number of Doorward's sessions at a server.
fn sessions(node: &PostgresNode) -> u32 {
    let count =
        node.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'doorward'");
    count.trim().parse().unwrap()
}

/// For traffic with failures.
fn unthrottled(settings: &mut Settings) {
    for limit in ["ADDRESS", "UNKNOWN_ADDRESS"] {
        settings.env(format!("DOORWARD_THROTTLE__{limit}_FAILURES"), "100000");
    }
}

fn errors(doorward: &Doorward) -> Vec<String> {
    let log = doorward.log();
    let errors = log.iter().filter(|line| line["level"] == "ERROR");
    errors
        .map(|line| line["fields"]["message"].as_str().unwrap().to_owned())
        .collect()
}

/// The URL of a standby is an error that says what to do. A user table may be read there.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_named_at_the_start() {
    let pair = PostgresPair::start().await;
    let (primary, standby) = (&pair.one, &pair.other);
    primary.sql(&format!(
        "CREATE TABLE members (name TEXT PRIMARY KEY, hash TEXT); INSERT INTO members VALUES ('ada', '{HASH}')"
    ));
    let right = prepare(&PostgresNode::url(primary.address()), |_| {});
    right.run(&["migrate"], "").await.ok();
    right.add_user(BOB.0, BOB.1, &[]).await;
    let right = right.serve().await;
    let token = bearer(&right, BOB).await;
    let revoked = bearer(&right, BOB).await;
    assert_eq!(out(&right, &revoked).await.status, 200);
    standby.catches_up_with(primary).await;

    let url = PostgresNode::url(standby.address());
    let wrong = prepare(&url, |settings| {
        settings.env("DOORWARD_REFRESH__ENABLED", "false");
    });
    for (command, stdin) in [
        (&["migrate"][..], ""),
        (&["user", "add", "eve"], "a-long-password\n"),
    ] {
        let ran = wrong.run(command, stdin).await;
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(ran.stderr.contains(NO_WRITES), "{ran:?}");
        assert!(ran.stderr.contains("lead to the primary"), "{ran:?}");
    }
    let wrong = wrong.serve().await;
    let said = errors(&wrong);
    assert!(
        matches!(&*said, [one] if one.contains(NO_WRITES)),
        "{said:?}"
    );
    // Everything that needs no write goes on, and what the standby knows holds.
    assert_eq!(judged(&wrong, &token).await.status, 200);
    assert_eq!(judged(&wrong, &revoked).await.status, 401);
    assert_eq!(login(&wrong, BOB).await.status, 200);
    assert_eq!(out(&wrong, &token).await.status, 503);
    // A standby may lag, so it does not make the revocations current.
    let strict = replica(standby.address(), |settings| {
        settings
            .env("DOORWARD_REVOCATION__WHEN_STALE", "refuse")
            .env("DOORWARD_REVOCATION__STALE_AFTER", "2s");
    })
    .await;
    until("the revocations are stale", PATIENCE, async || {
        (judged(&strict, &token).await.status == 503).then_some(())
    })
    .await;

    // The own tables at the primary are what is written.
    let home = prepare(&url, |settings| {
        settings
            .env("DOORWARD_STATE__URL", PostgresNode::url(primary.address()))
            .env("DOORWARD_USERS__TABLE", "members")
            .env("DOORWARD_USERS__USERNAME", "name")
            .env("DOORWARD_USERS__PASSWORD", "hash");
    });
    home.run(&["migrate"], "").await.ok();
    let apart = home.serve().await;
    assert_eq!(errors(&apart), [""; 0]);
    let session = Session::of(&login(&apart, ("ada", HORSE)).await);
    assert_eq!(login(&apart, ("ada", "wrong")).await.status, 401);
    let body = json!({"refresh_token": session.refresh});
    let session = Session::of(&post(&apart, "/refresh", None, &body).await);
    assert_eq!(out(&apart, &session.bearer).await.status, 200);
    for replica in [&apart, &right] {
        until("the logout holds", SOON, async || {
            (judged(replica, &session.bearer).await.status == 401).then_some(())
        })
        .await;
    }

    // libpq would look for the primary among several hosts.
    let hosts = format!("{},{}", primary.address(), standby.address());
    let url = format!("postgres://auth_user@{hosts}/auth?target_session_attrs=read-write");
    let ran = prepare(&url, |_| {}).run(&["serve"], "").await;
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert!(ran.stderr.contains("names several hosts"), "{ran:?}");
}

/// People who show a token, log in and mistype their name all the time.
struct Traffic {
    ends: Arc<AtomicBool>,
    away: Arc<AtomicU64>,
    people: tokio::task::JoinHandle<()>,
}

impl Traffic {
    fn at(doorward: &Doorward, token: String) -> Self {
        let (ends, away) = (
            Arc::new(AtomicBool::new(false)),
            Arc::<AtomicU64>::default(),
        );
        let (is_over, is_away) = (Arc::clone(&ends), Arc::clone(&away));
        let at = doorward.http;
        let people = tokio::spawn(async move {
            let with = async |method: &str, path: &str, value: &str| {
                let headers = [("authorization", value)];
                try_send(at, method, path, &headers, "").await.unwrap()
            };
            for n in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let reply = with("GET", "/validate", &token).await;
                assert_eq!(reply.status, 200, "{reply:?}");
                // Failures to one account would make it wait.
                let nobody = format!("nobody-{n}");
                for (name, right) in [(BOB.0, 200), (&nobody, 401)] {
                    let reply = with("POST", "/login", &basic(name, BOB.1)).await;
                    assert!([right, 503].contains(&reply.status), "{reply:?}");
                    if reply.status == 503 {
                        is_away.fetch_add(1, Ordering::Relaxed);
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { ends, away, people }
    }

    /// Stops, and gives the number of logins that got 503.
    async fn end(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.people.await.unwrap();
        self.away.load(Ordering::Relaxed)
    }
}

/// The primary stops like a crash, the standby is promoted, and the address moves to it.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_logins_work_again_and_logouts_hold() {
    let mut pair = PostgresPair::start().await;
    let address = Relay::start(&[pair.one.address()]).await.unwrap();
    let one = prepare(&PostgresNode::url(address.address), unthrottled);
    one.run(&["migrate"], "").await.ok();
    one.add_user(BOB.0, BOB.1, &[]).await;
    let one = one.serve().await;
    let other = replica(address.address, unthrottled).await;
    let token = bearer(&one, BOB).await;
    let before = Session::of(&login(&one, BOB).await);
    let kept = Session::of(&login(&one, BOB).await);
    assert_eq!(out(&one, &before.bearer).await.status, 200);
    pair.other.catches_up_with(&pair.one).await;
    let traffic = [
        Traffic::at(&one, token.clone()),
        Traffic::at(&other, token.clone()),
    ];

    pair.one.crash().await;
    for traffic in &traffic {
        until("a login meets the outage", PATIENCE, async || {
            (traffic.away.load(Ordering::Relaxed) > 0).then_some(())
        })
        .await;
    }
    assert_eq!(out(&one, &token).await.status, 503);
    pair.other.promote();
    address.lead_to(&[pair.other.address()]);
    let moved = Instant::now();
    for replica in [&one, &other] {
        until("logins again", RECOVERY, async || {
            (login(replica, BOB).await.status == 200).then_some(())
        })
        .await;
    }
    eprintln!("logins again {:?} after the address moved", moved.elapsed());

    // What was acknowledged and replicated holds everywhere, also for a replica that starts now.
    let new = replica(address.address, |_| {}).await;
    for replica in [&one, &other, &new] {
        // The other replica may not have read it before the crash.
        until("the logout holds", SOON, async || {
            (judged(replica, &before.bearer).await.status == 401).then_some(())
        })
        .await;
        let body = json!({"refresh_token": before.refresh});
        assert_eq!(post(replica, "/refresh", None, &body).await.status, 401);
        assert_eq!(judged(replica, &token).await.status, 200);
    }
    let body = json!({"refresh_token": kept.refresh});
    assert_eq!(post(&new, "/refresh", None, &body).await.status, 200);
    // Changes after the promotion are seen as soon as before it: no replica waits for a place in an order that was lost.
    for (at, replicas) in [(&one, [&other, &new]), (&new, [&one, &other])] {
        let late = bearer(at, BOB).await;
        assert_eq!(out(at, &late).await.status, 200);
        for replica in replicas {
            until("the logout is known", SOON, async || {
                (judged(replica, &late).await.status == 401).then_some(())
            })
            .await;
        }
    }
    for traffic in traffic {
        let away = traffic.end().await;
        eprintln!("{away} logins got 503");
    }
    assert_eq!(out(&one, &token).await.status, 200);
    for replica in [&one, &other, &new] {
        assert_eq!(errors(replica), [""; 0]);
    }
}

/// The roles change in order, and the address of one replica leads to the former primary for a while. That server no longer
/// receives what the other one writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_former_primary_is_left_once_the_address_moves() {
    let mut pair = PostgresPair::start().await;
    let address = Relay::start(&[pair.one.address()]).await.unwrap();
    let late = prepare(&PostgresNode::url(address.address), |settings| {
        // A refresh token would be written.
        settings.env("DOORWARD_REFRESH__ENABLED", "false");
    });
    late.run(&["migrate"], "").await.ok();
    late.add_user(BOB.0, BOB.1, &[]).await;
    let late = late.serve().await;
    let token = bearer(&late, BOB).await;

    pair.one.stop().await;
    pair.other.promote();
    pair.one.follow(&pair.other).await;
    address.lead_to(&[pair.one.address()]);
    let early = replica(pair.other.address(), |_| {}).await;
    until("a logout meets the standby", PATIENCE, async || {
        let reply = out(&late, &token).await;
        assert_eq!(reply.status, 503, "{reply:?}");
        (sessions(&pair.one) > 0).then_some(())
    })
    .await;
    for _ in 0..3 {
        assert_eq!(out(&late, &token).await.status, 503);
        assert_eq!(judged(&late, &token).await.status, 200);
        // Eight of them open as many connections as there may be.
        let all = (0..8).map(|_| login(&late, BOB));
        for reply in futures_util::future::join_all(all).await {
            assert!([200, 503].contains(&reply.status), "{reply:?}");
        }
    }

    pair.one.sql("SELECT pg_wal_replay_pause()");
    address.lead_to(&[pair.other.address()]);
    let (seen, moved) = (bearer(&early, BOB).await, Instant::now());
    assert_eq!(out(&early, &seen).await.status, 200);
    until("the logout is known", CHECKED + SOON, async || {
        (judged(&late, &seen).await.status == 401).then_some(())
    })
    .await;
    eprintln!("known {:?} after the address moved", moved.elapsed());
    assert_eq!(login(&late, BOB).await.status, 200);
    assert_eq!(out(&late, &token).await.status, 200);
    assert_eq!(judged(&late, &token).await.status, 401);
    until("no session is left", PATIENCE, async || {
        (sessions(&pair.one) == 0).then_some(())
    })
    .await;
}
