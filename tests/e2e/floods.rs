//! A flood of attempts does not remove counts that make attempts wait, neither in memory nor in the shared rows.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    direct::login_from,
    front::BOB,
    harness::{Database, Doorward, Engine, PATIENCE, until},
};

const SECRET: &str = "2b7e151628aed2a6abf7158809cf4f3c";

/// More rows than a replica reads at once.
const FLOOD: usize = 60_000;

on_each_database!(a_replica_that_starts_during_a_flood_reads_the_long_waits);

async fn a_replica_that_starts_during_a_flood_reads_the_long_waits<E: Engine>() {
    let database = Database::<E>::start().await;
    let start = async || {
        let home = Doorward::prepare(|settings| {
            settings
                .envs(database.env())
                .env("JWT_SECRET", SECRET)
                .env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:1");
        });
        home.run(&["migrate"], "").await.ok();
        home.serve().await
    };
    let first = start().await;
    first.add_user(BOB.0, BOB.1, &[]).await;
    for number in 0..5 {
        let client = format!("192.0.2.{number}");
        let reply = login_from(&first, (BOB.0, "a wrong password"), &client).await;
        assert_eq!(reply.status, 401);
    }
    // Failures are written after the answers are sent.
    until("bob's count is shared", PATIENCE, async || {
        let listed = first
            .run(&["throttle", "list", "--output", "json"], "")
            .await
            .ok();
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
        let counts = listed.as_array().unwrap().iter();
        let mut bobs = counts.filter(|count| count["username"] == BOB.0);
        bobs.any(|count| count["failures"] == 5).then_some(())
    })
    .await;
    drop(first);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (seconds, millis) = (now.as_secs(), now.as_millis());
    // bob must wait long, followed by a flood: names and addresses that failed once, each later than bob.
    database.sql(&format!(
        "UPDATE doorward_tallies SET failures = 14, last_failure = {millis}, changed_at = {seconds} WHERE tally_key LIKE 'n:%'"
    ));
    let rows: Vec<_> = (0..FLOOD)
        .map(|number| {
            let kind = ["n", "a"][number % 2];
            format!("('{kind}:{number:032x}', 0, 1, {millis}, {})", seconds + 1)
        })
        .collect();
    for rows in rows.chunks(1_000) {
        database.sql(&format!(
            "INSERT INTO doorward_tallies (tally_key, epoch, failures, last_failure, changed_at) VALUES {}",
            rows.join(", ")
        ));
    }
    let second = start().await;
    let reply = login_from(&second, BOB, "203.0.113.5").await;
    assert_eq!(reply.status, 429, "{reply:?}");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((200..=300).contains(&wait), "{wait}");
    // The list of waits contains bob among 60,000 entries.
    let listed = second.run(&["throttle", "list"], "").await.ok().stdout;
    assert!(listed.contains(BOB.0), "{listed}");
}
