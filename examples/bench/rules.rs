//! The cost of a decision, alone and with the next rules beside it, and of reading the settings, by the number of
//! rules; measured in this process.

use std::{collections::BTreeMap, hint::black_box, io, time::Instant};

use anyhow::{anyhow, ensure};
use comfy_table::{Table, presets::NOTHING};
use doorward::{
    config::{Settings, Sources},
    domain::{judge::Judge, machine_keys::KeySource, policy::Policy, request::Request},
};
use serde_json::{Value, json};

use super::{
    Arguments, Ratio,
    judging::{judge, request, seconds, seconds_beside},
    median, number, right, sorted,
};

/// How many rules; the first is the base of the comparison.
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

/// Rules of one service; the host and the name of each service are its own.
const SERVICE: [(&str, &str, &str, &str); 10] = [
    ("/shop/service{}/*", "", "", "\"signed-in\""),
    ("/shop/service{}/public/*", "", "", "\"public\""),
    ("/shop/service{}/admin/*", "", "", "\"role:admin\""),
    ("/shop/service{}/items/*", "\"GET\"", "", "\"role:reader\""),
    (
        "/shop/service{}/items/*",
        "\"POST\", \"PUT\"",
        "",
        "\"role:writer\"",
    ),
    ("/shop/service{}/items/archive", "", "", "\"role:admin\""),
    (
        "/shop/service{}/reports/yearly/*",
        "\"GET\"",
        "",
        "\"role:reader\", \"role:auditor\"",
    ),
    ("/*", "", "\"service{}.example.com\"", "\"signed-in\""),
    ("/health", "", "\"service{}.example.com\"", "\"public\""),
    ("/*", "", "\"*.tenant{}.example.com\"", "\"signed-in\""),
];

/// Requests for one service, which all pass.
const REQUESTS: [(&str, &str, &str); 6] = [
    (
        "GET",
        "www.example.com",
        "/shop/service{}/items/4711/details",
    ),
    ("POST", "www.example.com", "/shop/service{}/items/4711"),
    ("GET", "www.example.com", "/shop/service{}/public/logo.svg"),
    ("HEAD", "www.example.com", "/shop/service{}/cart"),
    ("GET", "service{}.example.com", "/orders/2026/11"),
    ("GET", "eu.tenant{}.example.com", "/orders/2026/11"),
];

/// Decisions of one size in a row, and how often that is repeated in each round.
const BATCH: usize = 6_000;
const AGAIN: usize = 20;

pub fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let mut sides = Vec::new();
    for size in SIZES {
        sides.push(Side::new(size)?);
    }
    for number in 1..=arguments.rounds {
        eprintln!("rules: round {number} of {}", arguments.rounds);
        let mut times = vec![(Vec::new(), Vec::new()); sides.len()];
        for _ in 0..AGAIN {
            for (side, (alone, beside)) in sides.iter().zip(&mut times) {
                let requests = side.requests()?;
                alone.push(seconds(&side.judge, &requests)?);
                beside.push(seconds_beside(&side.judge, &side.next, &requests)?);
            }
        }
        for (side, (alone, beside)) in sides.iter_mut().zip(times) {
            side.judged.push(median(&sorted(alone.into_iter())));
            side.beside.push(median(&sorted(beside.into_iter())));
            side.loaded.push(side.load()?);
        }
    }
    Ok(Report { sides })
}

/// One number of rules and its results, in seconds.
struct Side {
    size: usize,
    file: String,
    judge: Judge,
    /// The same rules again, as the next ones.
    next: Policy,
    token: String,
    /// Method, host and path.
    requests: Vec<(&'static str, String, String)>,
    judged: Vec<f64>,
    /// With `rules.next`.
    beside: Vec<f64>,
    loaded: Vec<f64>,
}

impl Side {
    fn new(size: usize) -> anyhow::Result<Self> {
        let services = size / SERVICE.len();
        let file: String = (0..services).map(rules_of).collect();
        let policy = settings(&file)?.policy;
        ensure!(policy.rules().len() == size, "not {size} rules");
        let (judge, token) = judge(policy, KeySource::Off)?;
        // Neighbours of a request are for other services.
        let requests = (0..BATCH).zip(REQUESTS.iter().cycle());
        let requests = requests.map(|(at, (method, host, path))| {
            let service = (at * 7919 % services).to_string();
            let fill = |text: &str| text.replace("{}", &service);
            (*method, fill(host), fill(path))
        });
        Ok(Self {
            size,
            judge,
            next: settings(&file)?.policy,
            file,
            token,
            requests: requests.collect(),
            judged: Vec::new(),
            beside: Vec::new(),
            loaded: Vec::new(),
        })
    }

    /// The requests, with a token that has been verified before.
    fn requests(&self) -> anyhow::Result<Vec<Request<'_>>> {
        let requests = self.requests.iter();
        requests
            .map(|(method, host, path)| request(method, host, path, &self.token))
            .collect()
    }

    /// Seconds to read the settings, and to find rules that tie.
    fn load(&self) -> anyhow::Result<f64> {
        let start = Instant::now();
        black_box(settings(&self.file)?);
        Ok(start.elapsed().as_secs_f64())
    }
}

fn rules_of(service: usize) -> String {
    let rules = SERVICE.map(|(path, methods, hosts, allow)| {
        let list = |name: &str, items: &str| match items {
            "" => String::new(),
            _ => format!("{name} = [{items}]\n"),
        };
        let (methods, hosts) = (list("methods", methods), list("hosts", hosts));
        let allow = match allow.contains(", ") {
            true => format!("[{}]", allow.replace("role:", "")),
            false => allow.to_owned(),
        };
        format!("[[route]]\npath = \"{path}\"\n{methods}{hosts}allow = {allow}\n\n")
    });
    rules.concat().replace("{}", &service.to_string())
}

fn settings(file: &str) -> anyhow::Result<Settings> {
    let sources = Sources {
        flags: Vec::new(),
        environment: BTreeMap::new(),
        file: Some(("doorward.toml".into(), file.into())),
        read: &|_| Err(io::ErrorKind::NotFound.into()),
    };
    Settings::load(sources).map_err(|faults| anyhow!("{faults}"))
}

pub struct Report {
    sides: Vec<Side>,
}

impl Report {
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        let first = self.sides.first().map_or(0, |side| side.size);
        let to = format!("ratio to {first}");
        table.set_header([
            "rules",
            "",
            "ns of a decision",
            &to,
            "rounds",
            "ns with next rules",
            "ratio to without",
            "ms to load",
            &to,
        ]);
        for (side, judged, beside, loaded) in self.ratios() {
            let [ratio, rounds] = judged.cells();
            table.add_row([
                side.size.to_string(),
                String::new(),
                number(1e9 * median(&sorted(side.judged.iter().copied()))),
                ratio,
                rounds,
                number(1e9 * median(&sorted(side.beside.iter().copied()))),
                format!("{:.3}", beside.median),
                number(1e3 * median(&sorted(side.loaded.iter().copied()))),
                format!("{:.3}", loaded.median),
            ]);
        }
        right(&mut table);
        format!(
            "{table}\n\nThe judge alone, with a token that was verified before, in one thread; a whole check costs more (ONLY=directly). Expected: a check with 10,000 rules costs at most 1.1 times one with 10, and loading 10,000 rules takes under 300 ms."
        )
    }

    pub fn json(&self) -> Value {
        let lines = self.ratios().map(|(side, judged, beside, loaded)| {
            json!({
                "rules": side.size,
                "judgement_seconds": median(&sorted(side.judged.iter().copied())),
                "judgement_ratio": judged.median,
                "judgement_ratio_least": judged.least,
                "judgement_ratio_most": judged.most,
                "with_next_seconds": median(&sorted(side.beside.iter().copied())),
                "with_next_ratio": beside.median,
                "load_seconds": median(&sorted(side.loaded.iter().copied())),
                "load_ratio": loaded.median,
            })
        });
        lines.collect()
    }

    /// Each side, with the cost of a decision and of loading as ratios to the first side, and between them the cost of a
    /// decision beside the next rules as a ratio to the decision alone.
    fn ratios(&self) -> impl Iterator<Item = (&Side, Ratio, Ratio, Ratio)> {
        let first = self.sides.first();
        self.sides.iter().filter_map(move |side| {
            let ratio = |of: fn(&Side) -> &[f64]| {
                let pairs = of(side).iter().zip(of(first?));
                Some(Ratio::of(pairs.map(|(own, base)| own / base)))
            };
            Some((
                side,
                ratio(|side| &side.judged)?,
                Ratio::of(
                    side.beside
                        .iter()
                        .zip(&side.judged)
                        .map(|(with, alone)| with / alone),
                ),
                ratio(|side| &side.loaded)?,
            ))
        })
    }
}
