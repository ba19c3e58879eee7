//! One round of a load on a server: the answers per second, and the CPU time of each.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::{cost::Cost, load::Load};

/// How long a server rests before its memory is measured.
pub const REST: Duration = Duration::from_secs(2);

/// The results of one round.
pub struct Round {
    pub per_second: f64,
    /// Of the compared server, in microseconds.
    pub cpu_per_request: f64,
}

pub const WARM_UP: Duration = Duration::from_millis(500);

pub async fn round<L: Load>((pid, load): &mut (u32, L), length: Duration) -> anyhow::Result<Round> {
    let (before, start) = (Cost::of(*pid)?, Instant::now());
    let answers = load.run(length).await?;
    let (took, cost) = (start.elapsed(), Cost::of(*pid)?.since(before));
    if answers == 0 {
        bail!("not one answer");
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let answers = answers as f64;
    Ok(Round {
        per_second: answers / took.as_secs_f64(),
        cpu_per_request: cost.as_secs_f64() * 1e6 / answers,
    })
}

/// A reported value, and how to get it from a round.
pub type Measure = (&'static str, fn(&Round) -> f64);

pub const RATE: Measure = ("answers per second", |round| round.per_second);
pub const CPU: Measure = ("CPU µs of a check", |round| round.cpu_per_request);
