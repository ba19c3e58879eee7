//! What keys for machines cost: memory for 100,000 of them, and a judgement. In this process.

use std::{hint::black_box, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use comfy_table::{Table, presets::NOTHING};
use doorward::domain::{
    account::{Identity, Role, Roles, Username},
    body::Body,
    credential::{Compact, Credential},
    decision::Decision,
    judge::{Judge, Step},
    keyring::Keyring,
    machine_key::{KeyName, MachineKey},
    machine_keys::{KeyEntry, KeySource, MachineKeys, Owner, OwnerState},
    path::Tolerance,
    policy::Policy,
    request::{Answerable, Request, RequestLine, TokenForm},
    revocation::Generation,
    token::{Secret, Signer, UnixTime, Verifier},
};
use serde_json::{Value, json};

use super::{
    Arguments, Ratio, cost::resident, figures::mebibytes, median, number, right, sorted,
    tokens::terms,
};

/// The time of every judgement.
const NOW: UnixTime = UnixTime(1_800_000_000);

/// How many keys, and how many of them share an owner. The first line is the base of the comparison of times.
const SIZES: [(usize, usize); 3] = [(1, 1), (100_000, 1), (100_000, 10)];

/// Judgements in a row, and how often that is repeated in each round.
const BATCH: usize = 5_000;
const AGAIN: usize = 20;

/// One number of keys and its results.
struct Side {
    keys: usize,
    per_owner: usize,
    /// What the resident memory grew by, in bytes.
    memory: u64,
    judge: Judge,
    shown: Vec<String>,
    /// Seconds per judgement, with keys and with one token that was verified before.
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
        // Drawn before, so that only what Doorward keeps is measured.
        let new: Result<Vec<_>, _> = (0..keys).map(|_| MachineKey::generate()).collect();
        let new = new?;
        let roles = Arc::new(Roles::collect(
            ["reader", "writer"].into_iter().filter_map(Role::parse),
        )?);
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
        let signing = Arc::new(Keyring::of_secret(
            &Secret::parse(b"f3b1c2d4e5a60718293a4b5c6d7e8f90")?,
            terms().lasts(),
        ));
        let identity = Identity {
            subject: "4711".into(),
            username: Username::parse("alice").context("no name")?,
            roles: (*roles).clone(),
        };
        let signer = Signer::new(Arc::clone(&signing), terms());
        let token = signer.issue(&identity, Generation(0), None, NOW)?;
        // Neighbours are far from each other in memory.
        let shown = (0..BATCH).filter_map(|at| new.get(at * 7919 % keys));
        Ok(Self {
            keys,
            per_owner,
            memory: memory_bytes,
            judge: Judge {
                policy: Policy::built_in(&[]),
                verifier: Verifier::of(&signing, terms()),
                revoked: Arc::default(),
                forwards_bearer: true,
                allows_preflight: false,
                keys: KeySource::Here(Arc::new(memory)),
            },
            shown: shown.map(|key| key.expose().to_owned()).collect(),
            by_key: Vec::new(),
            by_token: Vec::new(),
            token: token.expose().to_owned(),
        })
    }

    /// Seconds per judgement.
    fn judge<'a>(&self, shown: impl Iterator<Item = &'a str>) -> anyhow::Result<f64> {
        let line = RequestLine {
            method: b"GET",
            host: b"www.example.com",
            target: b"/orders/2026/11",
        };
        let mut requests = Vec::with_capacity(BATCH);
        for shown in shown.take(BATCH) {
            let (method, host, path) = line.parse(Tolerance::default())?;
            requests.push(Request {
                method,
                host,
                path,
                credential: Credential::Bearer(Compact::parse(shown).context("not a token")?),
                preflight: None,
                body: Body::Absent,
                all: false,
                form: TokenForm::Plain,
                answerable: Answerable::Anything,
            });
        }
        let start = Instant::now();
        for request in &requests {
            let judged = black_box(self.judge.judge(request, NOW));
            ensure!(
                matches!(judged.step, Step::Done(Decision::Allow(_))),
                "does not pass"
            );
        }
        Ok(start.elapsed().as_secs_f64() / BATCH as f64)
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
            "{table}\n\nThe judge alone, in one thread; the token was verified before. Expected: 100,000 keys need at most 30 MiB, and a judgement by key takes about a microsecond."
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
