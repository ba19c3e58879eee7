//! Many logins at once: to one account, with made-up names, and from callers that disconnect. Other logins are not
//! delayed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet};

use crate::{
    front::{ADA, BOB, Front, basic},
    harness::{Doorward, Envoy, PATIENCE, Reply, Settings, send, until},
};

/// How many logins of the crowd run at once.
const CROWD: usize = 150;

/// How many other users log in meanwhile.
const OTHERS: usize = 12;

fn settings(settings: &mut Settings) {
    settings
        .env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:1")
        .env("DOORWARD_LOGIN__HASH_THREADS", "2")
        // The test is about the queue, and the machine may be busy.
        .env("DOORWARD_DATABASE__TIMEOUT", "10s");
}

async fn login(door: SocketAddr, (name, password): (&str, &str), client: &str) -> Reply {
    let credentials = basic(name, password);
    let headers = [
        ("authorization", &*credentials),
        ("x-forwarded-for", client),
    ];
    send(door, "POST", "/login", &headers, "").await
}

/// Clients that log in repeatedly until they are stopped, and collect the status of each answer.
struct Crowd {
    stop: Arc<AtomicBool>,
    /// How many logins were sent.
    sent: Arc<AtomicUsize>,
    /// Ends with the crowd, so that a failed test reports its own failure and not lost connections.
    members: JoinSet<Vec<u16>>,
}

impl Crowd {
    /// `who` gives the name, the password and the address of each client.
    fn gather(door: SocketAddr, who: impl Fn(usize) -> (String, String, String)) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let members = (0..CROWD).map(|number| {
            let (name, password, client) = who(number);
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            async move {
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    sent.fetch_add(1, Ordering::Relaxed);
                    let reply = login(door, (&name, &password), &client).await;
                    answers.push(reply.status);
                    if reply.status == 429 {
                        assert!(reply.header("retry-after").is_some(), "{reply:?}");
                        // Without a pause, the crowd would receive almost only refusals, and leave no CPU for hashes.
                        tokio::time::sleep(Duration::from_millis(250)).await;
                    }
                }
                answers
            }
        });
        let members = members.collect();
        Self {
            stop,
            sent,
            members,
        }
    }

    async fn stop(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        self.members.join_all().await.concat()
    }
}

/// How many logins are hashing or waiting.
async fn queued(doorward: &Doorward) -> f64 {
    let text = send(doorward.ops, "GET", "/metrics", &[], "").await;
    let line = text
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("doorward_hash_queue "));
    line.unwrap().parse().unwrap()
}

/// Other users log in while the crowd is active; each login must succeed.
async fn others_still_log_in(
    doorward: &Doorward,
    door: SocketAddr,
    what: &str,
    who: impl Fn(usize) -> (String, String, String),
) -> Vec<u16> {
    let crowd = Crowd::gather(door, who);
    until("the crowd logs in", PATIENCE, async || {
        (crowd.sent.load(Ordering::Relaxed) >= CROWD).then_some(())
    })
    .await;
    for _ in 0..OTHERS {
        let reply = login(door, BOB, "203.0.113.9").await;
        let log = || doorward.log().pop();
        assert_eq!(reply.status, 200, "{what}: {reply:?} {:?}", log());
    }
    let answers = crowd.stop().await;
    until("no login is waiting", PATIENCE, async || {
        (queued(doorward).await == 0.0).then_some(())
    })
    .await;
    answers
}

fn count(answers: &[u16], status: u16) -> usize {
    answers.iter().filter(|own| **own == status).count()
}

async fn crowds(doorward: &Doorward, door: SocketAddr) {
    // Correct passwords for one account, from one address and from many.
    for (what, one) in [("one address", true), ("many addresses", false)] {
        let answers = others_still_log_in(doorward, door, what, |number| {
            let last = if one { 1 } else { number + 1 };
            let client = format!("198.51.100.{last}");
            (ADA.0.to_owned(), ADA.1.to_owned(), client)
        })
        .await;
        assert!(count(&answers, 200) > 0, "{what}");
        assert!(count(&answers, 429) > 0, "{what}");
    }
    // Wrong passwords for one account; the throttle refuses them before they enter the queue.
    let crowd = Crowd::gather(door, |number| {
        let client = format!("198.51.101.{}", number + 1);
        ("eve".to_owned(), format!("guess {number}"), client)
    });
    for _ in 0..OTHERS {
        let reply = login(door, BOB, "203.0.113.9").await;
        assert_eq!(reply.status, 200, "guesses: {reply:?}");
    }
    let answers = crowd.stop().await;
    // Five failures are free; each further one doubles the wait.
    assert!(count(&answers, 401) <= 12);
    assert_eq!(count(&answers, 200), 0);
    // Names that do not exist, from one address.
    others_still_log_in(doorward, door, "names", |number| {
        let name = format!("made-up-{number}");
        (name, "guess".to_owned(), "198.51.102.1".to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logins_to_one_account_or_from_one_address_do_not_block_others() {
    let choose = |chosen: &mut Settings| {
        settings(chosen);
        // Envoy appends the address of its peer to the header that the client sent.
        chosen.env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:2");
    };
    let front = Front::open(Envoy::NEWEST, choose, |config| config).await;
    crowds(&front.doorward, front.envoy.edge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logins_do_not_block_others_at_the_http_port() {
    let home = Doorward::prepare(settings);
    home.add_user(ADA.0, ADA.1, &[]).await;
    home.add_user(BOB.0, BOB.1, &[]).await;
    let doorward = home.serve().await;
    crowds(&doorward, doorward.http).await;
    for reason in ["account-queue-full", "address-queue-full"] {
        let line = doorward
            .logged(reason, |line| line["fields"]["reason"] == reason)
            .await;
        assert_eq!(line["fields"]["message"], "deny");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_client_that_disconnects_leaves_the_queue() {
    let home = Doorward::prepare(|chosen| {
        settings(chosen);
        chosen.env("DOORWARD_LOGIN__HASH_THREADS", "1");
    });
    home.add_user(BOB.0, BOB.1, &[]).await;
    let doorward = home.serve().await;
    let credentials = basic("nobody", "guess");
    let mut open = Vec::new();
    for number in 0..30 {
        let mut stream = TcpStream::connect(doorward.http).await.unwrap();
        let request = format!(
            "POST /login HTTP/1.1\r\nhost: x\r\nauthorization: {credentials}\r\nx-forwarded-for: 198.51.100.{number}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        open.push(stream);
    }
    until("they wait", PATIENCE, async || {
        (queued(&doorward).await > 10.0).then_some(())
    })
    .await;
    drop(open);
    until("they are gone", PATIENCE, async || {
        (queued(&doorward).await == 0.0).then_some(())
    })
    .await;
    let gone = doorward
        .logged("caller-gone", |line| {
            line["fields"]["reason"] == "caller-gone"
        })
        .await;
    assert_eq!(gone["fields"]["message"], "deny");
    assert_eq!(login(doorward.http, BOB, "203.0.113.9").await.status, 200);
}
