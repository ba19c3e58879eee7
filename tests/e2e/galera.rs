//! Two Doorwards on two nodes of one Galera cluster. Nodes stop, return, lag and receive conflicting writes, and no
//! answer is wrong.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    direct::{EVERYTHING, Session, bearer, judged, login, post, try_post},
    front::basic,
    harness::{Doorward, Galera, Node, Reply, Settings, try_send, until},
};

const SECRET: &str = "5ac1e3f7092b4d6f8e0a1c3b5d7f9e2c";

/// A change at one replica takes effect at the other within this time.
const SOON: Duration = Duration::from_secs(2);

/// Logins work again within this time after half of the cluster stops or returns.
const RECOVERY: Duration = Duration::from_secs(15);

/// The longest time that a login may take without a database: `database.timeout` is half a second; a busy machine adds to it.
const AWAY: Duration = Duration::from_secs(4);

const PASSWORD: &str = "builder-of-things";
const WRONG: &str = "another-builder";
const NEW: &str = "architect-of-things";

/// Makes a node wait for the other nodes' writes before it answers.
const WAITING: &str = "--wsrep-sync-wait=3";

async fn replica(node: &Node, more: impl FnOnce(&mut Settings)) -> Doorward {
    let home = Doorward::prepare(|settings| {
        settings
            .envs(node.env())
            .env("JWT_SECRET", SECRET)
            .envs(EVERYTHING)
            // The throttle must not refuse the logins of this test.
            .env("DOORWARD_THROTTLE__ACCOUNT_FAILURES", "100")
            .env("DOORWARD_THROTTLE__ADDRESS_FAILURES", "10000");
        more(settings);
    });
    home.run(&["migrate"], "").await.ok();
    home.serve().await
}

async fn one_each(galera: &Galera) -> [Doorward; 2] {
    let [near, far] = &galera.nodes;
    [replica(near, |_| {}).await, replica(far, |_| {}).await]
}

/// Waits until logins get a token, and gives how long that took; until then, each login must get a 503.
async fn logs_in_again(replica: &Doorward) -> Duration {
    let start = Instant::now();
    until("logins again", RECOVERY, async || {
        let reply = login(replica, ("ada", PASSWORD)).await;
        assert!([200, 503].contains(&reply.status), "{reply:?}");
        (reply.status == 200).then_some(())
    })
    .await;
    start.elapsed()
}

async fn refreshed(doorward: &Doorward, refresh: &str) -> Reply {
    let body = json!({ "refresh_token": refresh });
    post(doorward, "/refresh", None, &body).await
}

/// Users who repeatedly log in, refresh and log out at both replicas, and the answers that they received.
struct Stream {
    ends: Arc<AtomicBool>,
    told: Arc<Told>,
    people: JoinSet<()>,
}

#[derive(Default)]
struct Told {
    /// Logouts that were acknowledged.
    ended: Mutex<Vec<Session>>,
    /// Sessions that were started or refreshed and not ended.
    open: Mutex<Vec<Session>>,
    good: AtomicU64,
    refused: AtomicU64,
    away: AtomicU64,
}

impl Told {
    fn counts(&self) -> [u64; 3] {
        [&self.good, &self.refused, &self.away].map(|count| count.load(Ordering::Relaxed))
    }

    /// Counts an answer. It must have the status `right` or 503, which is always allowed.
    fn note(&self, what: &str, reply: &Reply, right: u16) -> bool {
        assert!(
            [right, 503].contains(&reply.status),
            "{what}: {reply:?} instead of {right}"
        );
        let count = match reply.status {
            503 => &self.away,
            200 => &self.good,
            _ => &self.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        reply.status == right
    }
}

impl Stream {
    fn begin(replicas: &[Doorward; 2]) -> Self {
        let (ends, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Told::default()));
        let mut people = JoinSet::new();
        for (nth, at) in replicas.iter().map(|replica| replica.http).enumerate() {
            let (ends, told) = (Arc::clone(&ends), Arc::clone(&told));
            people.spawn(async move {
                while !ends.load(Ordering::Relaxed) {
                    one_round(at, nth, &told).await;
                }
            });
        }
        Self { ends, told, people }
    }

    async fn end(self) -> Arc<Told> {
        self.ends.store(true, Ordering::Relaxed);
        // A wrong answer makes a task panic.
        self.people.join_all().await;
        self.told
    }
}

async fn one_round(at: std::net::SocketAddr, nth: usize, told: &Told) {
    let who = ["ada", "bob"][nth];
    let ask = async |password: &str| {
        let credentials = basic(who, password);
        let headers = [("authorization", &*credentials)];
        try_send(at, "POST", "/login", &headers, "").await.unwrap()
    };
    told.note("a wrong password", &ask(WRONG).await, 401);
    let reply = ask(PASSWORD).await;
    if !told.note("the right password", &reply, 200) {
        return;
    }
    let mut session = Session::of(&reply);
    let body = json!({"refresh_token": session.refresh});
    let reply = try_post(at, "/refresh", None, &body).await.unwrap();
    if !told.note("a refresh token", &reply, 200) {
        return;
    }
    session = Session::of(&reply);
    if told.good.load(Ordering::Relaxed).is_multiple_of(5) {
        told.open.lock().unwrap().push(session);
        return;
    }
    let reply = try_post(at, "/logout", Some(&session.bearer), &Value::Null).await;
    if told.note("a logout", &reply.unwrap(), 200) {
        told.ended.lock().unwrap().push(session);
    }
}

/// Asserts that this replica applies everything acknowledged so far: logouts, and issued refresh tokens.
async fn holds(replica: &Doorward, told: &Told) {
    let ended = told.ended.lock().unwrap().clone();
    let open = std::mem::take(&mut *told.open.lock().unwrap());
    assert!(ended.len() > 2, "{}", ended.len());
    for session in &ended {
        assert_eq!(judged(replica, &session.bearer).await.status, 401);
        assert_eq!(refreshed(replica, &session.refresh).await.status, 401);
    }
    for session in &open {
        assert_eq!(judged(replica, &session.bearer).await.status, 200);
        let reply = refreshed(replica, &session.refresh).await;
        assert_eq!(reply.status, 200, "{reply:?}\n{}", replica.output());
    }
    eprintln!(
        "held: {} logouts, {} open sessions",
        ended.len(),
        open.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_killed_and_the_other_goes_on() {
    let mut galera = Galera::start(&[WAITING]).await;
    galera.arbitrate().await;
    let both = one_each(&galera).await;
    let [near, far] = &both;
    for name in ["ada", "bob"] {
        near.add_user(name, PASSWORD, &[]).await;
    }
    let good = bearer(far, ("ada", PASSWORD)).await;
    let stream = Stream::begin(&both);
    tokio::time::sleep(SOON).await;

    galera.nodes[1].kill();
    let took = logs_in_again(near).await;
    eprintln!("logins go on at the surviving node after {took:?}");
    assert_eq!(judged(far, &good).await.status, 200);
    assert_eq!(login(far, ("bob", PASSWORD)).await.status, 503);
    tokio::time::sleep(SOON).await;
    holds(near, &stream.told).await;

    galera.nodes[1].restart().await;
    let took = logs_in_again(far).await;
    eprintln!("logins again at the node that is back after {took:?}");
    tokio::time::sleep(SOON / 2).await;
    let told = stream.end().await;
    tokio::time::sleep(SOON).await;
    for replica in &both {
        assert_eq!(judged(replica, &good).await.status, 200);
        holds(replica, &told).await;
    }
    eprintln!("good, refused, away: {:?}", told.counts());
    let [_, _, away] = told.counts();
    assert!(away > 0, "no login met the outage");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_cluster_without_quorum_is_treated_as_down() {
    let mut galera = Galera::start(&[WAITING]).await;
    let both = one_each(&galera).await;
    let [near, far] = &both;
    near.add_user("ada", PASSWORD, &[]).await;
    let token = bearer(far, ("ada", PASSWORD)).await;
    let ended = bearer(near, ("ada", PASSWORD)).await;
    let reply = post(near, "/logout", Some(&ended), &Value::Null).await;
    assert_eq!(reply.status, 200);

    galera.nodes[1].kill();
    // First the node still waits for the other one; later it gives up and refuses everything.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        for replica in &both {
            let asked = Instant::now();
            let reply = login(replica, ("ada", PASSWORD)).await;
            assert_eq!(
                (reply.status, reply.header("retry-after")),
                (503, Some("1")),
                "{reply:?} after {:?}",
                start.elapsed()
            );
            assert!(asked.elapsed() < AWAY, "{:?}", asked.elapsed());
            assert_eq!(judged(replica, &token).await.status, 200);
        }
        assert_eq!(judged(near, &ended).await.status, 401);
        let reply = post(near, "/logout", Some(&token), &Value::Null).await;
        assert_eq!(reply.status, 503, "{reply:?}");
    }
    near.logged("the words of a node without the others", |line| {
        let cause = line["fields"]["cause"].as_str().unwrap_or_default();
        cause.contains("1047") || cause.contains("WSREP has not yet prepared")
    })
    .await;

    galera.nodes[1].restart().await;
    for replica in &both {
        let took = logs_in_again(replica).await;
        eprintln!("logins again after {took:?}");
        assert_eq!(judged(replica, &token).await.status, 200);
        until("the logout is known", SOON, async || {
            (judged(replica, &ended).await.status == 401).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_write_the_same_rows_at_once() {
    let galera = Galera::start(&[WAITING]).await;
    let both = one_each(&galera).await;
    let [near, far] = &both;
    near.add_user("ada", PASSWORD, &[]).await;
    let before = conflicts(&galera);

    // The same refresh token, repeatedly: whichever replica is asked, there is one successor.
    let mut session = Session::of(&login(near, ("ada", PASSWORD)).await);
    for _ in 0..30 {
        let replies = join_all([near, far, near, far].map(|at| refreshed(at, &session.refresh)));
        let replies = replies.await;
        let next: Vec<_> = (replies.iter())
            .filter(|reply| {
                assert!([200, 503].contains(&reply.status), "{reply:?}");
                reply.status == 200
            })
            .map(Session::of)
            .collect();
        assert!(next.len() >= 2, "{replies:?}");
        for other in &next {
            assert_eq!(
                other.refresh, next[0].refresh,
                "both replicas give the same successor"
            );
            for replica in &both {
                assert_eq!(judged(replica, &other.bearer).await.status, 200);
            }
        }
        session = next[0].clone();
    }
    eprintln!(
        "refreshed: {} conflicts so far",
        conflicts(&galera) - before
    );

    // The same generation.
    for _ in 0..10 {
        let tokens = [
            bearer(near, ("ada", PASSWORD)).await,
            bearer(far, ("ada", PASSWORD)).await,
        ];
        let outs = both.iter().zip(&tokens).map(|(replica, token)| async move {
            post(replica, "/logout?all", Some(token), &Value::Null).await
        });
        for reply in join_all(outs).await {
            assert_eq!(
                reply.status,
                200,
                "{reply:?}\n{}\n{}",
                near.output(),
                far.output()
            );
        }
        for replica in &both {
            until("all have ended", SOON, async || {
                let mut statuses = Vec::new();
                for token in &tokens {
                    statuses.push(judged(replica, token).await.status);
                }
                (statuses == [401, 401]).then_some(())
            })
            .await;
        }
    }
    eprintln!(
        "all ended: {} conflicts so far",
        conflicts(&galera) - before
    );

    // The same failure count: no failure is lost.
    let guesses = (0..30).flat_map(|_| &both).map(|replica| async move {
        loop {
            let reply = login(replica, ("ada", WRONG)).await;
            match reply.status {
                401 => return,
                status => assert_eq!(status, 503, "{reply:?}"),
            }
        }
    });
    join_all(guesses).await;
    let counted =
        || galera.nodes[0].sql("SELECT failures FROM doorward_tallies WHERE tally_key LIKE 'n:%'");
    until("all guesses are counted", 2 * SOON, async || {
        (counted().trim() == "60").then_some(())
    })
    .await;
    let conflicts = conflicts(&galera) - before;
    eprintln!("counted: {conflicts} conflicts so far");
    assert!(conflicts > 0, "no two writes were concurrent");
}

/// How many writes of a node the cluster has undone because another node wrote first.
fn conflicts(galera: &Galera) -> u64 {
    let of = |node: &Node| {
        let status = node.sql("SHOW STATUS WHERE Variable_name IN ('wsrep_local_cert_failures', 'wsrep_local_bf_aborts')");
        let counts = status.lines().filter_map(|line| line.split('\t').nth(1));
        counts
            .map(|count| count.parse::<u64>().unwrap())
            .sum::<u64>()
    };
    galera.nodes.iter().map(of).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_node_answers_late_if_it_waits_and_early_otherwise() {
    let galera = Galera::start(&[]).await;
    // With refresh tokens, a login would write a session, which the lock on the node would block.
    let reading = |settings: &mut Settings| {
        settings.env("DOORWARD_REFRESH__ENABLED", "false");
    };
    let near = replica(&galera.nodes[0], reading).await;
    for (name, wait, old_password) in [("ada", 0, 200), ("bob", 3, 503)] {
        galera.nodes[1].sql(&format!("SET GLOBAL wsrep_sync_wait = {wait}"));
        let far = replica(&galera.nodes[1], reading).await;
        let warned = far.output().contains("set wsrep_sync_wait to 3");
        assert_eq!(warned, wait == 0, "{}", far.output());
        near.add_user(name, PASSWORD, &[]).await;
        until("the far replica knows the user", SOON, async || {
            (login(&far, (name, PASSWORD)).await.status == 200).then_some(())
        })
        .await;

        // Writes at other nodes do not arrive at this node during the lock.
        let lags = galera.nodes[1].sql_meanwhile("FLUSH TABLES WITH READ LOCK; SELECT SLEEP(20)");
        let asleep = async || {
            let id = galera.nodes[1].sql(
                "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'",
            );
            (!id.trim().is_empty()).then_some(id)
        };
        let id = until("the node lags", SOON, asleep).await;
        let token = bearer(&near, (name, PASSWORD)).await;
        let body = json!({"current_password": PASSWORD, "new_password": NEW});
        let reply = post(&near, "/password", Some(&token), &body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(login(&near, (name, PASSWORD)).await.status, 401);
        let with_old = login(&far, (name, PASSWORD)).await;
        assert_eq!(with_old.status, old_password, "{wait}: {}", far.output());
        assert!(!lags.is_finished(), "the node no longer lags");
        galera.nodes[1].sql(&format!("KILL QUERY {id}"));
        // The client may report the killed query as a fault.
        let _ = lags.await;

        until("the new password alone", SOON, async || {
            (login(&far, (name, PASSWORD)).await.status == 401).then_some(())
        })
        .await;
        assert_eq!(login(&far, (name, NEW)).await.status, 200);
        // A token that was issued too early carries the previous generation.
        if let Some(early) = with_old.header("authorization") {
            until("the token is refused", SOON, async || {
                (judged(&far, early).await.status == 401).then_some(())
            })
            .await;
        }
    }
}
