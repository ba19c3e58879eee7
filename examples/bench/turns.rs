//! Several programs that answer the same load in turn, and a table of them. The others are compared with the first one.

use std::time::Duration;

use anyhow::Context as _;
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Map, Value, json};

use super::{
    Arguments, Measure, Ratio, Round, WARM_UP, cost, load::Load, mebibytes, median, number, right,
    round, sorted,
};

pub struct Program<L> {
    pub key: &'static str,
    pub name: String,
    /// Its process, and the load on it.
    pub server: (u32, L),
}

/// What was measured of a program.
pub struct Measured {
    pub key: &'static str,
    pub name: String,
    pub rounds: Vec<Round>,
    /// In bytes, right after the last round.
    pub resident: u64,
}

/// Lets each program answer once in every round.
pub async fn measure<L: Load>(
    arguments: &Arguments,
    what: &str,
    mut programs: Vec<Program<L>>,
) -> anyhow::Result<Vec<Measured>> {
    let length = Duration::from_secs(arguments.seconds);
    for Program { name, server, .. } in &mut programs {
        let (_, load) = server;
        load.run(WARM_UP).await.with_context(|| name.clone())?;
    }
    let mut measured = Vec::new();
    for program in &programs {
        measured.push(Measured {
            key: program.key,
            name: program.name.clone(),
            rounds: Vec::new(),
            resident: 0,
        });
    }
    for number in 1..=arguments.rounds {
        eprintln!("{what}: round {number} of {}", arguments.rounds);
        for (program, measured) in programs.iter_mut().zip(&mut measured) {
            let round = round(&mut program.server, length).await;
            measured
                .rounds
                .push(round.with_context(|| program.name.clone())?);
            measured.resident = cost::resident(program.server.0)?;
        }
    }
    Ok(measured)
}

/// One line for each program, with the ratio of the first program's value to its own.
pub fn table(measured: &[Measured], rate: Measure, cpu: Measure) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "",
        rate.0,
        "ratio",
        "rounds",
        cpu.0,
        "ratio",
        "rounds",
        "resident MiB",
    ]);
    for other in measured {
        let mut row = vec![other.name.clone()];
        for (_, value) in [rate, cpu] {
            let [ratio, rounds] = ratio(measured, other, value).cells();
            row.extend([number(middle(other, value)), ratio, rounds]);
        }
        row.push(number(mebibytes(other.resident)));
        table.add_row(row);
    }
    right(&mut table);
    table
}

pub fn json(measured: &[Measured], rate: Measure, cpu: Measure) -> Value {
    let lines = measured.iter().map(|other| {
        let value = |(_, value): Measure| {
            let ratio = ratio(measured, other, value);
            json!({
                "measured": middle(other, value),
                "ratio": ratio.median,
                "ratio_least": ratio.least,
                "ratio_most": ratio.most,
            })
        };
        let line = json!({
            "per_second": value(rate),
            "cpu": value(cpu),
            "resident_bytes": other.resident,
        });
        (other.key.to_owned(), line)
    });
    Value::Object(lines.collect::<Map<_, _>>())
}

fn middle(measured: &Measured, value: fn(&Round) -> f64) -> f64 {
    median(&sorted(measured.rounds.iter().map(value)))
}

/// The ratio of the first program's value to that of another, in the same rounds.
fn ratio(measured: &[Measured], other: &Measured, value: fn(&Round) -> f64) -> Ratio {
    let first = measured.first().map(|first| &*first.rounds);
    let pairs = first.unwrap_or_default().iter().zip(&other.rounds);
    Ratio::of(pairs.map(|(first, other)| value(first) / value(other)))
}
