//! Many logins at once: of one account, of made-up names, of callers that hang up. Other logins are not affected.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinHandle};

use crate::{
    front::{ADA, BOB, Front, basic},
    harness::{Doorward, Envoy, Reply, Settings, send, until},
};

/// Logins of the crowd that are asked for at once.
const CROWD: usize = 150;

/// Logins of somebody else meanwhile.
const OTHERS: usize = 12;

fn settings(settings: &mut Settings) {
    settings
        .env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:1")
        .env("DOORWARD_LOGIN__HASH_THREADS", "2");
}

async fn login(door: SocketAddr, (name, password): (&str, &str), client: &str) -> Reply {
    let credentials = basic(name, password);
    let headers = [
        ("authorization", &*credentials),
        ("x-forwarded-for", client),
    ];
    send(door, "POST", "/login", &headers, "").await
}

/// A crowd that asks without a pause until it is told to stop, and then counts its answers by status.
struct Crowd {
    stop: Arc<AtomicBool>,
    members: Vec<JoinHandle<Vec<u16>>>,
}

impl Crowd {
    /// `who` gives the name, the password and the address of each member.
    fn gather(door: SocketAddr, who: impl Fn(usize) -> (String, String, String)) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let members = (0..CROWD).map(|number| {
            let (stop, (name, password, client)) = (Arc::clone(&stop), who(number));
            tokio::spawn(async move {
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let reply = login(door, (&name, &password), &client).await;
                    answers.push(reply.status);
                    if reply.status == 429 {
                        assert!(reply.header("retry-after").is_some(), "{reply:?}");
                        // Without a pause, the crowd would have nothing but refusals.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                answers
            })
        });
        let members = members.collect();
        Self { stop, members }
    }

    async fn stop(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        let answers = join_all(self.members).await;
        answers.into_iter().flat_map(Result::unwrap).collect()
    }
}

/// How many logins hash or wait.
async fn in_line(doorward: &Doorward) -> f64 {
    let text = send(doorward.ops, "GET", "/metrics", &[], "").await;
    let line = text
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("doorward_hash_queue "));
    line.unwrap().parse().unwrap()
}

/// Everybody else logs in while the crowd asks.
async fn nobody_else_notices(
    doorward: &Doorward,
    door: SocketAddr,
    what: &str,
    who: impl Fn(usize) -> (String, String, String),
) -> Vec<u16> {
    let crowd = Crowd::gather(door, who);
    until("the crowd is there", Duration::from_secs(10), async || {
        (in_line(doorward).await > 20.0).then_some(())
    })
    .await;
    for _ in 0..OTHERS {
        let reply = login(door, BOB, "203.0.113.9").await;
        let log = || doorward.log().pop();
        assert_eq!(reply.status, 200, "{what}: {reply:?} {:?}", log());
    }
    let answers = crowd.stop().await;
    until(
        "nobody waits any more",
        Duration::from_secs(10),
        async || (in_line(doorward).await == 0.0).then_some(()),
    )
    .await;
    answers
}

fn count(answers: &[u16], status: u16) -> usize {
    answers.iter().filter(|own| **own == status).count()
}

async fn crowds(doorward: &Doorward, door: SocketAddr) {
    // Right passwords of one account, from one address and from many.
    for (what, one) in [("one address", true), ("many addresses", false)] {
        let answers = nobody_else_notices(doorward, door, what, |number| {
            let last = if one { 1 } else { number + 1 };
            let client = format!("198.51.100.{last}");
            (ADA.0.to_owned(), ADA.1.to_owned(), client)
        })
        .await;
        assert!(count(&answers, 200) > 0, "{what}");
        assert!(count(&answers, 429) > 0, "{what}");
    }
    // Wrong passwords of one account, which the throttle refuses before there is a line.
    let crowd = Crowd::gather(door, |number| {
        let client = format!("198.51.101.{}", number + 1);
        ("eve".to_owned(), format!("guess {number}"), client)
    });
    for _ in 0..OTHERS {
        let reply = login(door, BOB, "203.0.113.9").await;
        assert_eq!(reply.status, 200, "guesses: {reply:?}");
    }
    let answers = crowd.stop().await;
    // Five are free, and each one more doubles the wait.
    assert!(count(&answers, 401) <= 12);
    assert_eq!(count(&answers, 200), 0);
    // Names that nobody has, from one address.
    nobody_else_notices(doorward, door, "names", |number| {
        let name = format!("made-up-{number}");
        (name, "guess".to_owned(), "198.51.102.1".to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_one_account_or_from_one_address_keeps_nobody_else_out() {
    let choose = |chosen: &mut Settings| {
        settings(chosen);
        // Envoy puts the address of the peer behind what the client has sent.
        chosen.env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:2");
    };
    let front = Front::open(Envoy::NEWEST, choose, |config| config).await;
    crowds(&front.doorward, front.envoy.edge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_at_the_http_port() {
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
async fn who_hangs_up_while_waiting_leaves_the_line() {
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
    until("they wait", Duration::from_secs(5), async || {
        (in_line(&doorward).await > 10.0).then_some(())
    })
    .await;
    drop(open);
    until("they are gone", Duration::from_secs(2), async || {
        (in_line(&doorward).await == 0.0).then_some(())
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
