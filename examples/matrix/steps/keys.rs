//! A rotation of the signing key while requests come.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep};

use crate::{
    columns::Column,
    findings::Findings,
    harness::tampered,
    requests::status,
    world::{Authorizer, BOB, World, log_in},
};

/// Longer than a Doorward needs to read its files again, and than a module needs to follow the feed.
const AFTER: &str = "5s";

const LIMIT: Duration = Duration::from_secs(30);

pub async fn rotate(world: &World, column: Column, found: &mut Findings) -> anyhow::Result<()> {
    let setup = world.setup(column, None).await?;
    let Authorizer::Doorward(doorward) = &setup.authorizer else {
        return Ok(());
    };
    let old = setup.bearer("bob")?;
    let rotate = ["keys", "rotate", "--algorithm", "EdDSA", "--after", AFTER];
    doorward.run(&rotate, "").await.ok();
    let start = Instant::now();
    let mut rounds = 0_u32;
    // Three rounds with the new key are enough.
    let mut left = 3;
    while left > 0 {
        let new = log_in(doorward.http, BOB).await?;
        if key(&new) != key(&old) {
            left -= 1;
        }
        for (token, name) in [(&old, "the first token"), (&new, "the newest token")] {
            let status = status(setup.gateway.edge, "/echo", Some(token)).await?;
            found.demand(status == 200, || {
                format!("{name}: {status} {:?} after the command", start.elapsed())
            });
        }
        rounds += 1;
        if start.elapsed() > LIMIT {
            found.refused(format!("after {LIMIT:?} the old key still signs"));
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    found.demand(rounds > 3, || "no round with the old key".to_owned());
    let bad = tampered(&log_in(doorward.http, BOB).await?);
    let answer = status(setup.gateway.edge, "/echo", Some(&bad)).await;
    let status = answer.context("a bad token")?;
    if status < 300 {
        found.open(format!("a wrong signature with the new key: {status}"));
    }
    Ok(())
}

/// The header of a token, which names its key.
fn key(bearer: &str) -> Option<&str> {
    bearer.split('.').next()
}
