use std::net::{IpAddr, Ipv4Addr};

use aws_lc_rs::hmac;
use futures_util::future::{Either, join_all, select};
use tokio::task::JoinSet;

use super::*;
use crate::{
    domain::{
        account::Username,
        histogram::{Histogram, TO_TEN_SECONDS},
    },
    login::throttle::Free,
};

fn line(places: usize, entries: usize) -> Line {
    let seal = hmac::Key::new(hmac::HMAC_SHA256, b"seal");
    Line::new(
        Limits {
            places,
            memory: 10,
            entries,
        },
        Arc::new(Throttle::new(
            seal,
            Free {
                account: 5,
                address: 100,
                unknown: 1000,
            },
        )),
        Arc::new(HashTimes {
            waiting: Histogram::new(&TO_TEN_SECONDS),
            hashing: Histogram::new(&TO_TEN_SECONDS),
        }),
    )
}

impl Line {
    fn join(&self, name: &str) -> Result<Ticket, Full> {
        let client = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
        let limited = self
            .0
            .throttle
            .limited(&Username::parse(name).unwrap(), client);
        self.enter(self.0.throttle.own(&limited), None, Some(limited))
    }
}

#[tokio::test]
async fn a_disconnected_client_holds_no_slot_and_no_count() {
    let line = line(1, 2);
    let first = line.join("ada").unwrap().turn(1).await.unwrap();
    // This client disconnects before its turn.
    let waiting = Box::pin(line.join("bob").unwrap().turn(1));
    let waiting = match select(waiting, Box::pin(tokio::task::yield_now())).await {
        Either::Left(_) => panic!("the turn came too early"),
        Either::Right(((), waiting)) => waiting,
    };
    assert!(matches!(line.join("eve"), Err(Full::All)));
    drop(waiting);
    // This login gets its turn, but its client disconnects before it is polled again.
    let mut told = Box::pin(line.join("eve").unwrap().turn(1));
    assert!(futures_util::poll!(&mut told).is_pending());
    drop(first);
    drop(told);
    assert_eq!(line.len(), 0);
    for _ in 0..4 {
        drop(line.join("eve").unwrap().turn(1).await.unwrap());
    }
    // Four attempts count as failed, because nobody reported their results; the attempt that did not see its turn does
    // not count.
    let mut fifth = line.join("eve").unwrap().turn(1).await.unwrap();
    drop(fifth.failed());
    drop(fifth);
    let sixth = line.join("eve").unwrap().turn(1).await;
    assert!(matches!(sixth, Err(NoTurn::Throttled(_))), "{sixth:?}");
}

#[tokio::test]
async fn a_delayed_answer_blocks_only_its_own_account() {
    let line = line(1, 4);
    let mut first = line.join("ada").unwrap().turn(1).await.unwrap();
    let second = line.join("ada").unwrap();
    first.hashed();
    // Another account gets its turn, the same account does not.
    let other = line.join("bob").unwrap().turn(1).await.unwrap();
    let mut second = Box::pin(second.turn(1));
    drop(other);
    assert!(futures_util::poll!(&mut second).is_pending());
    // Hashes a second time; no attempt is admitted twice.
    first.again(1).await.unwrap();
    drop(first.succeeded());
    drop(first);
    assert!(second.await.is_ok());
}

#[tokio::test]
async fn concurrent_guesses_get_no_more_attempts_than_sequential_ones() {
    let line = line(4, 64);
    let tries = (0..32).map(|_| {
        let ticket = line.join("ada").unwrap();
        async {
            let mut turn = ticket.turn(1).await?;
            tokio::task::yield_now().await;
            turn.hashed();
            drop(turn.failed());
            Ok::<_, NoTurn>(())
        }
    });
    let taken = join_all(tries).await;
    assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 5);
    assert_eq!(line.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_login_gets_its_turn() {
    let line = line(3, 200);
    let mut all = JoinSet::new();
    for number in 0..180_u64 {
        let line = line.clone();
        all.spawn(async move {
            let name = format!("user-{}", number % 7);
            let Ok(ticket) = line.join(&name) else {
                return false;
            };
            if number % 11 == 0 {
                drop(ticket);
                return true;
            }
            let Ok(mut turn) = ticket.turn(1 + number % 9).await else {
                return false;
            };
            tokio::task::yield_now().await;
            turn.hashed();
            if number % 5 == 0 {
                turn.again(3).await.unwrap();
                turn.hashed();
            }
            drop(turn.succeeded());
            true
        });
    }
    assert!(all.join_all().await.into_iter().all(|served| served));
    assert_eq!(line.len(), 0);
    assert!(line.state().waiters.is_empty());
}
