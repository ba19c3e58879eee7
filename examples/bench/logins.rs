//! Logins: successful logins per second, as a ratio to what hashing alone allows; and the effect of a flood of
//! logins, at ten times that rate, on steady Bearer checks and on memory.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use comfy_table::{Table, presets::NOTHING};
use doorward::{
    domain::password::Password,
    login::password::{Hasher, PasswordHash, Verdict},
};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Arguments, REST, Ratio, binary, cost,
    harness::Doorward,
    load::{self, Browsers, Checks, Connection, PASSWORD, Question},
    mebibytes, median, number, right, round, sorted,
};

/// The number of users, so that none of them is a special case.
const USERS: usize = 8;

/// Connections with successful logins, per hashing thread.
const CLIENTS: u16 = 4;

/// Bearer checks per second, with and without the flood.
const BEARER: u32 = 500;

/// The rate of the flood, relative to what hashing allows.
const TIMES: f64 = 10.0;

/// Memory of one hash, and how much everything else may grow, in MiB.
const HASH: f64 = 19.0;
const ELSE: f64 = 8.0;

pub async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let hash_threads = arguments
        .hash_threads
        .map_or_else(|| u16::try_from(cores.min(256)), Ok)?;
    let home = Doorward::prepare(|settings| {
        settings
            .binary(binary(arguments))
            .env("DOORWARD_LOGIN__HASH_THREADS", hash_threads.to_string())
            // The default for production; the test harness has another default because it runs many programs at once.
            .env("DOORWARD_LOGIN__HASH_PRIORITY", "idle");
    });
    for name in (0..USERS).map(user) {
        home.add_user(&name, PASSWORD, &[]).await;
    }
    home.add_user(load::USER, PASSWORD, &[]).await;
    let doorward = home.serve().await;
    sleep(REST).await;
    let before = cost::resident(doorward.pid())?;

    let token = load::log_in(doorward.grpc).await?;
    let bearer = Checks::open(doorward.grpc, &load::check(&token)?, 1).await?;
    let good: anyhow::Result<Arc<[Question]>> = (0..USERS)
        .map(|number| load::login(&user(number), PASSWORD))
        .collect();
    let clients = CLIENTS * hash_threads;
    let crowd = Browsers::with(doorward.http, good?, clients).await?;
    let mut crowd = (doorward.pid(), crowd);
    let hashes = Hashes::new()?;
    let length = Duration::from_secs(arguments.seconds);
    bearer.steadily(BEARER, SETTLE).await?;

    let mut rounds = Vec::new();
    let mut flood = Flooded::default();
    for number in 1..=arguments.rounds {
        eprintln!("logins: round {number} of {}", arguments.rounds);
        let hash_time = hashes.one_by_one();
        let capacity = f64::from(hash_threads) / hash_time.as_secs_f64();
        let together = hashes.together(hash_threads);
        let logins = round(&mut crowd, length).await.context("good logins")?;
        sleep(SETTLE).await;
        let quiet = Latency::of(bearer.steadily(BEARER, length).await?);
        let task = in_a_thread(doorward.http, doorward.pid(), TIMES * capacity, length);
        let flooded = Latency::of(bearer.steadily(BEARER, length).await?);
        flood.add(task.await??);
        rounds.push(Round {
            hash_time,
            capacity,
            together,
            logins: logins.per_second,
            cpu: logins.cpu_per_request / 1e3,
            quiet,
            flooded,
        });
    }
    Ok(Report {
        hash_threads,
        clients,
        rounds,
        before,
        end: cost::resident(doorward.pid())?,
        flood,
    })
}

/// The pause between two parts of a round.
const SETTLE: Duration = Duration::from_millis(500);

fn user(number: usize) -> String {
    format!("user-{number}")
}

/// Measures hashing in this process, with Doorward's code.
struct Hashes {
    hasher: Hasher,
    password: Password,
    hash: PasswordHash,
}

/// The number of timed hashes per thread.
const TIMED: u16 = 20;

impl Hashes {
    fn new() -> anyhow::Result<Self> {
        let hasher = Hasher::new()?;
        let password = Password::parse(PASSWORD).context("no password")?;
        let hash = hasher.hash(&password)?;
        Ok(Self {
            hasher,
            password,
            hash,
        })
    }

    /// The duration of one hash while no other hash runs.
    fn one_by_one(&self) -> Duration {
        let times = (0..TIMED).map(|_| self.verify().as_secs_f64());
        Duration::from_secs_f64(median(&sorted(times)))
    }

    /// Hashes per second on this many threads.
    fn together(&self, threads: u16) -> f64 {
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..TIMED).map(|_| self.verify()).sum::<Duration>());
            }
        });
        f64::from(threads) * f64::from(TIMED) / start.elapsed().as_secs_f64()
    }

    fn verify(&self) -> Duration {
        let start = Instant::now();
        let verdict = self.hasher.verify(&self.password, Some(&self.hash));
        assert_eq!(verdict, Verdict::Match);
        start.elapsed()
    }
}

/// The results of the floods.
#[derive(Default)]
struct Flooded {
    asked_per_second: Vec<f64>,
    answers: BTreeMap<StatusCode, u64>,
    /// The highest resident memory, in bytes.
    peak: u64,
}

impl Flooded {
    fn add(&mut self, other: Self) {
        self.asked_per_second.extend(other.asked_per_second);
        for (status, count) in other.answers {
            *self.answers.entry(status).or_default() += count;
        }
        self.peak = self.peak.max(other.peak);
    }
}

/// Runs the flood in a separate thread, so that the timed checks do not wait for it in this process.
fn in_a_thread(
    address: SocketAddr,
    pid: u32,
    per_second: f64,
    length: Duration,
) -> tokio::task::JoinHandle<anyhow::Result<Flooded>> {
    tokio::task::spawn_blocking(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(async {
                let peak = AtomicU64::new(0);
                let mut flooded = tokio::select! {
                    flooded = flood(address, per_second, length) => flooded?,
                    fault = watch(pid, &peak) => return Err(fault),
                };
                flooded.peak = peak.into_inner();
                Ok(flooded)
            })
    })
}

/// Floods a Doorward with logins, and returns its highest resident memory meanwhile, in bytes.
pub async fn flood_in_a_thread(
    address: SocketAddr,
    pid: u32,
    per_second: f64,
    length: Duration,
) -> anyhow::Result<u64> {
    Ok(in_a_thread(address, pid, per_second, length).await??.peak)
}

/// Records the peak of the memory until it is dropped.
async fn watch(pid: u32, peak: &AtomicU64) -> anyhow::Error {
    loop {
        match cost::resident(pid) {
            Ok(resident) => peak.fetch_max(resident, Ordering::Relaxed),
            Err(fault) => return fault,
        };
        sleep(LOOK).await;
    }
}

const LOOK: Duration = Duration::from_millis(20);

/// Sends logins at a fixed rate, whether or not they are answered.
async fn flood(address: SocketAddr, per_second: f64, length: Duration) -> anyhow::Result<Flooded> {
    let mut asked = JoinSet::new();
    let mut idle = Vec::new();
    let mut flooded = Flooded::default();
    let mut sent: usize = 0;
    let (start, mut moments) = (Instant::now(), interval(MOMENT));
    moments.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while start.elapsed() < length {
        moments.tick().await;
        while let Some(answered) = asked.try_join_next() {
            let (status, connection) = answered??;
            *flooded.answers.entry(status).or_default() += 1;
            idle.push(connection);
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        while (sent as f64) < per_second * start.elapsed().as_secs_f64() {
            let connection = match idle.pop() {
                Some(connection) => connection,
                None => load::connect(address).await?,
            };
            asked.spawn(ask(connection, attempt(sent)?));
            sent += 1;
            ensure!(asked.len() < MOST, "{MOST} logins wait for an answer");
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let asked_per_second = sent as f64 / start.elapsed().as_secs_f64();
    flooded.asked_per_second.push(asked_per_second);
    for (status, _) in load::all(asked, Duration::ZERO).await? {
        *flooded.answers.entry(status).or_default() += 1;
    }
    Ok(flooded)
}

/// How often the flood checks which logins are due.
const MOMENT: Duration = Duration::from_millis(2);

/// The most logins without an answer at the same time; Doorward queues far fewer.
const MOST: usize = 1000;

/// Mostly unknown names; every second attempt with a real name uses the right password.
fn attempt(number: usize) -> anyhow::Result<Question> {
    match number % 20 {
        0 => load::login(&user(number / 20 % USERS), PASSWORD),
        10 => load::login(&user(number / 20 % USERS), "difference-engine"),
        _ => load::login(&format!("made-up-{number}"), "difference-engine"),
    }
}

async fn ask(
    mut connection: Connection,
    question: Question,
) -> anyhow::Result<(StatusCode, Connection)> {
    connection.ready().await?;
    let answer = connection.send_request(question).await?;
    let status = answer.status();
    answer.into_body().collect().await?;
    Ok((status, connection))
}

/// In microseconds.
struct Latency {
    p50: f64,
    p99: f64,
}

impl Latency {
    fn of(times: Vec<Duration>) -> Self {
        let sorted = sorted(times.iter().map(|time| time.as_secs_f64() * 1e6));
        let at = |percent: usize| {
            let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(place).copied().unwrap_or(f64::NAN)
        };
        Self {
            p50: at(50),
            p99: at(99),
        }
    }
}

struct Round {
    hash_time: Duration,
    /// Logins per second if a login were only its hash.
    capacity: f64,
    /// Hashes per second in this process, on as many threads.
    together: f64,
    logins: f64,
    /// CPU time of Doorward per login, in milliseconds.
    cpu: f64,
    quiet: Latency,
    flooded: Latency,
}

pub struct Report {
    hash_threads: u16,
    clients: u16,
    rounds: Vec<Round>,
    /// Resident bytes before the first login and after the last flood.
    before: u64,
    end: u64,
    flood: Flooded,
}

/// Two values whose ratio is reported.
type Measure = fn(&Round) -> (f64, f64);

/// Threads that hash at the same time share caches and memory, so as many of them are slower than one times their number.
const TOGETHER: Measure = |round| (round.capacity, round.together);
const LOGINS: Measure = |round| (round.together, round.logins);
const CPU: Measure = |round| (round.hash_time.as_secs_f64() * 1e3, round.cpu);
const P50: Measure = |round| (round.quiet.p50, round.flooded.p50);
const P99: Measure = |round| (round.quiet.p99, round.flooded.p99);

impl Report {
    pub fn table(&self) -> String {
        let Self {
            hash_threads,
            clients,
            ..
        } = self;
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["", "", "base", "measured", "ratio", "rounds", "expected"]);
        for (way, what, measure, expected) in [
            (
                format!("good logins, {clients} at once, to what {hash_threads} threads hash"),
                "answers per second",
                LOGINS,
                "at least 0.92",
            ),
            (String::new(), "CPU ms of a login", CPU, ""),
            (
                "hashes alone, all threads at once, to one after the other".into(),
                "hashes per second",
                TOGETHER,
                "",
            ),
            (
                format!("{BEARER} Bearer checks a second, in a flood to quiet"),
                "p50 µs",
                P50,
                "",
            ),
            (String::new(), "p99 µs", P99, "at most 2"),
        ] {
            let (base, measured, ratio) = self.values(measure);
            let [ratio, rounds] = ratio.cells();
            let (base, measured) = (number(base), number(measured));
            table.add_row([
                way,
                what.into(),
                base,
                measured,
                ratio,
                rounds,
                expected.into(),
            ]);
        }
        let [before, peak, end] = [self.before, self.flood.peak, self.end].map(mebibytes);
        table.add_row([
            "memory, at most in the flood to before any login".into(),
            "resident MiB".into(),
            number(before),
            number(peak),
            format!("+{:.1}", peak - before),
            format!("end +{:.1}", end - before),
            format!("at most +{:.1}", self.growth()),
        ]);
        right(&mut table);
        let answers: Vec<_> = self
            .flood
            .answers
            .iter()
            .map(|(status, count)| format!("{count} {}", status.as_u16()))
            .collect();
        format!(
            "{table}\n\nThe flood: {:.0} logins a second were asked for; the answers: {}.\n{NOTE}",
            self.asked(),
            answers.join(", "),
        )
    }

    pub fn json(&self) -> Value {
        let value = |measure| {
            let (base, measured, ratio) = self.values(measure);
            json!({
                "base": base,
                "measured": measured,
                "ratio": ratio.median,
                "ratio_least": ratio.least,
                "ratio_most": ratio.most,
            })
        };
        let answers: BTreeMap<_, _> = self
            .flood
            .answers
            .iter()
            .map(|(status, count)| (status.as_str(), count))
            .collect();
        json!({
            "hash_threads": self.hash_threads,
            "clients": self.clients,
            "logins_per_second": value(LOGINS),
            "login_cpu_millis": value(CPU),
            "hashes_per_second": value(TOGETHER),
            "bearer_p50_micros": value(P50),
            "bearer_p99_micros": value(P99),
            "flood_per_second": self.asked(),
            "flood_answers": answers,
            "resident_bytes": {
                "before": self.before,
                "peak": self.flood.peak,
                "end": self.end,
            },
        })
    }

    fn values(&self, measure: Measure) -> (f64, f64, Ratio) {
        let values = || self.rounds.iter().map(measure);
        (
            median(&sorted(values().map(|(base, _)| base))),
            median(&sorted(values().map(|(_, measured)| measured))),
            Ratio::of(values().map(|(base, measured)| measured / base)),
        )
    }

    fn asked(&self) -> f64 {
        median(&sorted(self.flood.asked_per_second.iter().copied()))
    }

    /// The growth of memory that is allowed, in MiB.
    fn growth(&self) -> f64 {
        f64::from(self.hash_threads) * HASH + ELSE
    }
}

const NOTE: &str = "The load runs on the cores that hash. With few cores, such as two, this slows the logins down, and the \
                    latency of a check in the flood includes the time for which the load generator waited for a core.";
