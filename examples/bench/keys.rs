//! The cost of keys for machines: memory for 100,000 keys, and the time of a decision; measured in this process.

use std::sync::Arc;

use anyhow::Context as _;
use comfy_table::{Table, presets::NOTHING};
use doorward::domain::{
    account::Username,
    judge::Judge,
    machine_key::{KeyName, MachineKey},
    machine_keys::{KeyEntry, KeySource, MachineKeys, Owner, OwnerState},
    policy::Policy,
    token::UnixTime,
};
use serde_json::{Value, json};

use super::{
    Arguments, Ratio,
    cost::resident,
    judging::{NOW, judge, request, roles, seconds},
    mebibytes, median, number, right, sorted,
};

/// How many keys, and how many of them share an owner.
const SIZES: [(usize, usize); 3] = [(1, 1), (100_000, 1), (100_000, 10)];

/// Decisions in a row, and how often that is repeated in each round.
const BATCH: usize = 5_000;
const AGAIN: usize = 20;

/// One number of keys and its results.
struct Side {
    keys: usize,
    per_owner: usize,
    /// Growth of the resident memory, in bytes.
    memory: u64,
    judge: Judge,
    shown: Vec<String>,
    /// Seconds per decision, with keys and with one token that was verified before.
    by_key: Vec<f64>,
    by_token: Vec<f64>,
    token: String,
}

pub fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let mut sides = Vec::new();
    for (keys, per_owner) in SIZES {
        sides.push(Side::new(keys, per_owner)?);
    }
    for number in 1..=arguments.rounds {
        eprintln!("keys: round {number} of {}", arguments.rounds);
        for side in &mut sides {
            let (mut by_key, mut by_token) = (Vec::new(), Vec::new());
            for _ in 0..AGAIN {
                by_key.push(side.judge(side.shown.iter().map(String::as_str).cycle())?);
                by_token.push(side.judge(std::iter::repeat(&*side.token))?);
            }
            side.by_key.push(median(&sorted(by_key.into_iter())));
            side.by_token.push(median(&sorted(by_token.into_iter())));
        }
    }
    Ok(Report { sides })
}

impl Side {
    fn new(keys: usize, per_owner: usize) -> anyhow::Result<Self> {
        // Generated before the measurement, which is of Doorward's memory only.
        let new: Result<Vec<_>, _> = (0..keys).map(|_| MachineKey::generate()).collect();
        let new = new?;
        let roles = Arc::new(roles()?);
        let before = resident(std::process::id())?;
        let memory = MachineKeys::default();
        memory.have_been_read();
        let mut owner = None;
        for (nth, key) in new.iter().enumerate() {
            if nth % per_owner == 0 {
                // As long as the ids of Doorward's own table.
                let subject = format!("01890a5d-ac96-774b-bcce-{nth:012}");
                owner = Some(Arc::new(Owner {
                    subject: subject.into(),
                    username: Username::parse(&format!("service-{nth}")).context("no name")?,
                    state: OwnerState::Active(Arc::clone(&roles)),
                }));
            }
            let entry = KeyEntry {
                hash: key.hash(),
                name: KeyName::parse(&format!("deploy-{nth}")).context("no name")?,
                limits: None,
                expires: Some(UnixTime(NOW.0 + 1_000_000)),
                ended: false,
            };
            let owner = owner.clone().context("no owner")?;
            memory.set(key.id(), entry, owner);
        }
        let memory_bytes = resident(std::process::id())?.saturating_sub(before);
        let keys_here = KeySource::Here(Arc::new(memory));
        let (judge, token) = judge(Policy::built_in(&[]), keys_here)?;
        // Neighbours are far from each other in memory.
        let shown = (0..BATCH).filter_map(|at| new.get(at * 7919 % keys));
        Ok(Self {
            keys,
            per_owner,
            memory: memory_bytes,
            judge,
            shown: shown.map(|key| key.expose().to_owned()).collect(),
            by_key: Vec::new(),
            by_token: Vec::new(),
            token,
        })
    }

    /// Seconds per decision.
    fn judge<'a>(&self, shown: impl Iterator<Item = &'a str>) -> anyhow::Result<f64> {
        let requests: Result<Vec<_>, _> = shown
            .take(BATCH)
            .map(|shown| request("GET", "www.example.com", "/orders/2026/11", shown))
            .collect();
        seconds(&self.judge, &requests?)
    }

    fn ratio(&self) -> Ratio {
        Ratio::of(
            self.by_key
                .iter()
                .zip(&self.by_token)
                .map(|(key, token)| key / token),
        )
    }
}

pub struct Report {
    sides: Vec<Side>,
}

impl Report {
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header([
            "keys",
            "each owner has",
            "MiB",
            "bytes a key",
            "ns by key",
            "ns by token",
            "ratio",
            "rounds",
        ]);
        for side in &self.sides {
            let [ratio, rounds] = side.ratio().cells();
            let nanoseconds = |times: &[f64]| number(1e9 * median(&sorted(times.iter().copied())));
            table.add_row([
                side.keys.to_string(),
                side.per_owner.to_string(),
                number(mebibytes(side.memory)),
                number(side.memory as f64 / side.keys as f64),
                nanoseconds(&side.by_key),
                nanoseconds(&side.by_token),
                ratio,
                rounds,
            ]);
        }
        right(&mut table);
        format!(
            "{table}\n\nThe judge alone, in one thread; the token was verified before. Expected: 100,000 keys need at most 30 MiB, and a decision by key takes about a microsecond."
        )
    }

    pub fn json(&self) -> Value {
        let lines = self.sides.iter().map(|side| {
            json!({
                "keys": side.keys,
                "keys_per_owner": side.per_owner,
                "bytes": side.memory,
                "key_seconds": median(&sorted(side.by_key.iter().copied())),
                "token_seconds": median(&sorted(side.by_token.iter().copied())),
                "ratio": side.ratio().median,
            })
        });
        lines.collect()
    }
}
