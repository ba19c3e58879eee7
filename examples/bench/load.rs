//! Load generators: the checks of one Envoy worker on one connection, or many browsers in front of a real Envoy.

mod browsers;
mod grpc;

use std::time::Duration;

use anyhow::Context as _;
use tokio::{task::JoinSet, time::timeout};

pub use self::{
    browsers::{Browsers, Connection, Question, connect, login, question_with},
    grpc::{Checks, Crowd, check, log_in},
};

pub const USER: &str = "ada";
pub const PASSWORD: &str = "analytical-engine";

/// A constant number of concurrent requests.
pub trait Load {
    /// Sends requests for `length`, and returns the number of answers. Every answer must let its request pass.
    async fn run(&mut self, length: Duration) -> anyhow::Result<u64>;
}

pub const PATH: &str = "/profile?tab=orders";
const HOST: &str = "gateway.example";
const BROWSER: [(&str, &str); 4] = [
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.5"),
];

/// Stops a round that would not end by itself.
const MOST: u64 = 10_000_000;

/// How long to wait for outstanding answers when a round is over.
const LATE: Duration = Duration::from_secs(10);

pub async fn all<T: 'static>(
    mut tasks: JoinSet<anyhow::Result<T>>,
    length: Duration,
) -> anyhow::Result<Vec<T>> {
    let whole = async {
        let mut results = Vec::new();
        while let Some(result) = tasks.join_next().await {
            results.push(result??);
        }
        Ok(results)
    };
    timeout(length + LATE, whole)
        .await
        .with_context(|| format!("answers are still missing {LATE:?} after the round"))?
}
