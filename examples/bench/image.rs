//! The program of the image, compared with the one that `cargo build` makes here: the cost of a check and of a login, the
//! size of the file, and the resident memory after a flood of logins.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::Context as _;
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    Arguments, CPU, Measure, RATE, REST, binary, cost,
    harness::Doorward,
    load::{self, Browsers, Checks, PASSWORD, Question, USER},
    logins, mebibytes, number, peers, right,
    turns::{self, Measured, Program},
};

const LOGIN_CPU: Measure = ("CPU ms of a login", |round| round.cpu_per_request / 1e3);

/// How long the flood of logins takes, and how long after it memory is measured again.
const FLOOD: Duration = Duration::from_secs(8);
const LATER: Duration = Duration::from_secs(60);

/// Logins at once.
const CLIENTS: u16 = 8;

/// The rate of the flood: more than ten times what two cores can hash.
const PER_SECOND: f64 = 800.0;

pub struct Report {
    checks: Vec<Measured>,
    logins: Vec<Measured>,
    memory: Vec<Memory>,
}

struct Memory {
    key: &'static str,
    name: String,
    /// Of the file, in bytes.
    size: u64,
    /// Resident bytes: at rest, the peak in the flood, at its end, and later.
    resident: [u64; 4],
}

pub async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let image = arguments.image.clone();
    let image = image.context("name the program of the image with --image")?;
    let mut programs = vec![
        ("image", "the image", image),
        ("here", "built here", binary(arguments)),
    ];
    if let Some(before) = &arguments.before {
        programs.push(("before", "earlier", before.clone()));
    }
    let mut all = Vec::new();
    for (key, name, program) in programs {
        all.push(Serving::start(key, name, program).await?);
    }

    let mut checks = Vec::new();
    for serving in &all {
        let token = load::log_in(serving.doorward.grpc).await?;
        let check = load::check(&token)?;
        checks.push(
            serving.program(Checks::open(serving.doorward.grpc, &check, arguments.streams).await?),
        );
    }
    let checks = turns::measure(arguments, "checks", checks).await?;

    let mut logins = Vec::new();
    for serving in &all {
        let login: [Question; 1] = [load::login(USER, PASSWORD)?];
        let load = Browsers::with(serving.doorward.http, login.into(), CLIENTS).await?;
        logins.push(serving.program(load));
    }
    let logins = turns::measure(arguments, "logins", logins).await?;

    let mut memory = Vec::new();
    for serving in &all {
        eprintln!("a flood of logins: {}", serving.name);
        let (address, pid) = (serving.doorward.http, serving.doorward.pid());
        let peak = logins::flood_in_a_thread(address, pid, PER_SECOND, FLOOD).await?;
        memory.push(Memory {
            key: serving.key,
            name: serving.name.to_owned(),
            size: serving.size,
            resident: [serving.at_rest, peak, cost::resident(pid)?, 0],
        });
    }
    eprintln!("a minute of rest");
    sleep(LATER).await;
    for (serving, memory) in all.iter().zip(&mut memory) {
        let [.., later] = &mut memory.resident;
        *later = cost::resident(serving.doorward.pid())?;
    }
    Ok(Report {
        checks,
        logins,
        memory,
    })
}

/// A Doorward of one of the programs.
struct Serving {
    key: &'static str,
    name: &'static str,
    doorward: Doorward,
    size: u64,
    at_rest: u64,
}

impl Serving {
    async fn start(
        key: &'static str,
        name: &'static str,
        program: PathBuf,
    ) -> anyhow::Result<Self> {
        let program = fs::canonicalize(&program).with_context(|| program.display().to_string())?;
        let size = fs::metadata(&program)?.len();
        let doorward = peers::serve(program, None).await;
        sleep(REST).await;
        Ok(Self {
            key,
            name,
            size,
            at_rest: cost::resident(doorward.pid())?,
            doorward,
        })
    }

    fn program<L>(&self, load: L) -> Program<L> {
        Program {
            key: self.key,
            name: self.name.to_owned(),
            server: (self.doorward.pid(), load),
        }
    }
}

impl Report {
    pub fn table(&self) -> String {
        let mut memory = Table::new();
        memory.load_style(NOTHING);
        memory.set_header([
            "resident MiB",
            "file MiB",
            "at rest",
            "peak in a flood of logins",
            "after the flood",
            "a minute later",
        ]);
        for line in &self.memory {
            let mut row = vec![line.name.clone(), number(mebibytes(line.size))];
            row.extend(line.resident.map(|bytes| number(mebibytes(bytes))));
            memory.add_row(row);
        }
        right(&mut memory);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        format!(
            "{}\n\n{}\n\n{memory}\n\n{CLIENTS} logins at once. The load uses the same {cores} cores.",
            turns::table(&self.checks, RATE, CPU),
            turns::table(&self.logins, RATE, LOGIN_CPU),
        )
    }

    pub fn json(&self) -> Value {
        let memory = self.memory.iter().map(|line| {
            let [at_rest, peak, after, later] = line.resident;
            let value = json!({
                "file_bytes": line.size,
                "at_rest": at_rest,
                "peak": peak,
                "after": after,
                "later": later,
            });
            (line.key.to_owned(), value)
        });
        json!({
            "checks": turns::json(&self.checks, RATE, CPU),
            "logins": turns::json(&self.logins, RATE, LOGIN_CPU),
            "memory": memory.collect::<serde_json::Map<_, _>>(),
        })
    }
}
