//! Costs that grow with replicas and users: polls, logins and logouts at the database, reading and keeping a million
//! revocations, and finding one row among a million. Starts its own MariaDB.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use comfy_table::{Table, presets::NOTHING};
use doorward::{
    domain::{account::Username, revocation::Revocations},
    login::throttle::{Free, Throttle},
    tables::{
        database::{Connections, Database as Place, Tls},
        state::{Kept, Mark, State},
        users::Users,
    },
};
use serde_json::{Map, Value, json};

use super::{
    Arguments, binary,
    cost::{self, Cost},
    harness::{Database, Doorward, MariaDb, Reply, send},
    number, right, sorted,
};

/// Rows of the user table, and revocations of tokens that have not expired.
const USERS: u32 = 1_000_000;
const ENDED: u32 = 1_000_000;

/// The number of logins, refreshes and logouts to measure.
const MANY: u32 = 200;

/// How long each operation is repeated.
const LENGTH: Duration = Duration::from_secs(3);

/// Revocations of one second, in many pages.
const BURST: u32 = 100_000;

/// How long a burst is read again, with room for rounding.
const OVERLAP: Duration = Duration::from_secs(14);

/// Rows that a poll reads.
const READ: [u32; 4] = [0, 100, 1000, 10_000];

pub struct Report(Vec<Line>);

struct Line {
    key: String,
    what: String,
    value: f64,
    unit: &'static str,
}

impl Report {
    fn add(
        &mut self,
        key: impl Into<String>,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) {
        let (key, what) = (key.into(), what.into());
        eprintln!("scale: {what}: {} {unit}", number(value));
        self.0.push(Line {
            key,
            what,
            value,
            unit,
        });
    }

    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["", "", "measured"]);
        for Line {
            what, value, unit, ..
        } in &self.0
        {
            table.add_row([what.as_str(), unit, &number(*value)]);
        }
        right(&mut table);
        table
    }

    pub fn json(&self) -> Value {
        let lines = (self.0.iter()).map(|line| (line.key.clone(), json!(line.value)));
        Value::Object(lines.collect::<Map<_, _>>())
    }
}

pub async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let mut report = Report(Vec::new());
    let database = Database::<MariaDb>::start().await;
    database.sql("SET GLOBAL innodb_buffer_pool_size = 1073741824; SET GLOBAL innodb_log_file_size = 536870912");
    let env = database.env();
    let home = Doorward::prepare(|settings| {
        settings
            .binary(binary(arguments))
            .envs(env)
            .env("JWT_SECRET", "0b8f1c6d2e7a495386fcdab017e3294d")
            .env("DOORWARD_REFRESH__ENABLED", "true")
            // The benchmark measures costs, not how fast a busy machine answers.
            .env("DOORWARD_DATABASE__TIMEOUT", "10s")
            // Polls should not be part of the measurement.
            .env("DOORWARD_REVOCATION__POLL", "2s");
    });
    home.run(&["migrate"], "").await.ok();
    home.add_user("ada", "analytical-engine", &[]).await;
    errands(&mut report, &database, home.serve().await).await?;

    let url = format!(
        "mysql://auth_user:a%20password%20for%20tests@{}/auth",
        database.address()
    );
    let place = Place::from_url(&url)?.protected(Tls::Disabled, None);
    let connections = |most| Connections::open(&place, most, Duration::from_secs(60));
    database.sql(&format!(
        "INSERT INTO users SELECT CONCAT(MD5(seq), '0000'), CONCAT('user-', seq), password_hash, '', FALSE, 0, 0 FROM seq_1_to_{USERS}, (SELECT password_hash FROM users LIMIT 1) AS ada"
    ));
    rows(&mut report, &database, &Users::new(connections(8)?, None)).await?;
    endings(&mut report, &database, &State::new(connections(8)?)).await?;
    sizes(&mut report, &database);
    Ok(report)
}

/// The work of the database so far: statements of clients, and CPU time.
struct Done(u64, Cost);

impl Done {
    fn now(database: &Database<MariaDb>) -> anyhow::Result<Self> {
        let status = database.sql("SHOW GLOBAL STATUS LIKE 'Com_%'");
        let counts = status.lines().filter_map(|line| {
            let (name, count) = line.split_once('\t')?;
            let counted = [
                "Com_select",
                "Com_insert",
                "Com_update",
                "Com_delete",
                "Com_begin",
                "Com_commit",
            ];
            counted.contains(&name).then(|| count.parse::<u64>().ok())?
        });
        Ok(Self(counts.sum(), Cost::of(database.pid())?))
    }
}

/// Measures logins, refreshes and logouts of one Doorward.
async fn errands(
    report: &mut Report,
    database: &Database<MariaDb>,
    doorward: Doorward,
) -> anyhow::Result<()> {
    let basic = BASE64_STANDARD.encode("ada:analytical-engine");
    let basic = format!("Basic {basic}");
    let of = |reply: &Reply, name: &str| reply.header(name).map(str::to_owned);
    let mut sessions = Vec::new();
    let login = async || {
        send(
            doorward.http,
            "POST",
            "/login",
            &[("authorization", &basic)],
            "",
        )
        .await
    };
    login().await;
    // Measure the polls alone first, to subtract them below.
    let (start, done) = (Instant::now(), Done::now(database)?);
    tokio::time::sleep(2 * LENGTH).await;
    let idle = Done::now(database)?;
    let second = start.elapsed().as_secs_f64();
    let polls = precise(idle.0 - done.0) / second;
    let polls_cost = idle.1.since(done.1).as_secs_f64() / second;

    for kind in ["login", "refresh", "logout"] {
        let (start, done) = (Instant::now(), Done::now(database)?);
        let own = Cost::of(doorward.pid())?;
        for nth in 0..MANY as usize {
            let reply = match kind {
                "login" => login().await,
                "refresh" => {
                    let (_, refresh): &(String, String) = sessions.get(nth).context("a session")?;
                    let body = json!({ "refresh_token": refresh }).to_string();
                    let json = [("content-type", "application/json")];
                    send(doorward.http, "POST", "/refresh", &json, body).await
                }
                _ => {
                    let (bearer, _) = sessions.get(nth).context("a session")?;
                    send(
                        doorward.http,
                        "POST",
                        "/logout",
                        &[("authorization", bearer)],
                        "",
                    )
                    .await
                }
            };
            ensure!(
                reply.status == 200,
                "{kind}: {reply:?}\n{}",
                doorward.output()
            );
            if kind == "login" {
                let session = of(&reply, "authorization").zip(of(&reply, "x-refresh-token"));
                sessions.push(session.context("a session")?);
            }
        }
        let (now, took) = (Done::now(database)?, start.elapsed().as_secs_f64());
        let each = |value: f64| value / f64::from(MANY);
        let cpu = now.1.since(done.1).as_secs_f64() - polls_cost * took;
        let own = Cost::of(doorward.pid())?.since(own).as_secs_f64();
        let statements = precise(now.0 - done.0) - polls * took;
        report.add(
            format!("{kind}_statements"),
            format!("{kind}: statements, with BEGIN and COMMIT"),
            each(statements),
            "",
        );
        report.add(
            format!("{kind}_database_micros"),
            format!("{kind}: CPU at the database"),
            each(cpu) * 1e6,
            "µs",
        );
        report.add(
            format!("{kind}_own_micros"),
            format!("{kind}: CPU of Doorward"),
            each(own) * 1e6,
            "µs",
        );
    }
    Ok(())
}

/// Measures the lookup of one row, as in a login.
async fn rows(
    report: &mut Report,
    database: &Database<MariaDb>,
    users: &Users,
) -> anyhow::Result<()> {
    let mut took = Vec::new();
    let (start, done) = (Instant::now(), Done::now(database)?);
    let mut number = 1_u32;
    while start.elapsed() < LENGTH {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let name =
            Username::parse(&format!("user-{}", 1 + (number >> 8) % USERS)).context("a name")?;
        let start = Instant::now();
        ensure!(users.find(&name).await?.is_some(), "{name:?}");
        took.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let cpu = Done::now(database)?.1.since(done.1).as_secs_f64() * 1e6;
    let count = took.len();
    let took = sorted(took.into_iter());
    let at = |percent: usize| took.get(count * percent / 100).copied().unwrap_or(f64::NAN);
    let among = "a row among a million users";
    report.add("row_p50_micros", format!("{among}, p50"), at(50), "µs");
    report.add("row_p99_micros", format!("{among}, p99"), at(99), "µs");
    report.add(
        "row_database_micros",
        format!("{among}, CPU at the database"),
        cpu / precise(count as u64),
        "µs",
    );
    Ok(())
}

/// Measures the polls, and the full read of all revocations.
async fn endings(
    report: &mut Report,
    database: &Database<MariaDb>,
    state: &State,
) -> anyhow::Result<()> {
    let free = Free {
        account: 5,
        address: 100,
        unknown: 1000,
    };
    let throttle = Throttle::new(hmac::Key::new(hmac::HMAC_SHA256, b"of a benchmark"), free);
    let end = |from: u32, to: u32, at: &str| {
        database.sql(&format!(
            "INSERT INTO doorward_endings SELECT CONCAT(MD5(seq), '0000'), UNIX_TIMESTAMP() + 86400, {at} FROM seq_{from}_to_{to}"
        ));
    };
    database.sql("DELETE FROM doorward_endings; DELETE FROM doorward_generations; DELETE FROM doorward_tallies");
    // The revocations are spread over a day.
    end(
        1,
        ENDED,
        &format!("UNIX_TIMESTAMP() - 100 - seq * 86400 DIV {ENDED}"),
    );
    let kept = Kept::always(Duration::from_secs(86400));
    let known = Revocations::new(None);
    let before = cost::resident(std::process::id())?;
    let (start, done) = (Instant::now(), Done::now(database)?);
    let mark = state.read_endings(&Mark::default(), &kept, &known).await?;
    let took = start.elapsed().as_secs_f64();
    let now = Done::now(database)?;
    ensure!(known.len() == ENDED as usize, "{}", known.len());
    let bytes = cost::resident(std::process::id())?.saturating_sub(before);
    let all = "all of a million endings, read at a start";
    report.add("whole_seconds", all, took, "s");
    report.add(
        "whole_statements",
        format!("{all}: statements"),
        precise(now.0 - done.0),
        "",
    );
    report.add(
        "whole_database_seconds",
        format!("{all}: CPU at the database"),
        now.1.since(done.1).as_secs_f64(),
        "s",
    );
    report.add(
        "ending_bytes",
        "memory of an ending",
        precise(bytes) / f64::from(ENDED),
        "bytes",
    );
    let start = Instant::now();
    known.forget(doorward::domain::token::UnixTime(1));
    report.add(
        "retain_millis",
        "forgetting among a million endings, every five minutes",
        start.elapsed().as_secs_f64() * 1e3,
        "ms",
    );

    let mut marks = (mark, state.read_tallies(&Mark::default(), &throttle).await?);
    let known = Revocations::new(None);
    let mut there = 0;
    for rows in READ {
        if rows > 0 {
            database.sql("DELETE FROM doorward_endings WHERE changed_at > UNIX_TIMESTAMP() - 60");
            end(ENDED + 1, ENDED + rows, "UNIX_TIMESTAMP()");
            there = rows;
        }
        marks.0 = state.read_endings(&marks.0, &kept, &known).await?;
        let (mut polls, mut took) = (0_u32, Vec::new());
        let (start, done, own) = (
            Instant::now(),
            Done::now(database)?,
            Cost::of(std::process::id())?,
        );
        while start.elapsed() < LENGTH {
            let start = Instant::now();
            marks.0 = state.read_endings(&marks.0, &kept, &known).await?;
            marks.1 = state.read_tallies(&marks.1, &throttle).await?;
            took.push(start.elapsed().as_secs_f64() * 1e6);
            polls += 1;
        }
        let now = Done::now(database)?;
        let own = Cost::of(std::process::id())?.since(own).as_secs_f64();
        let took = sorted(took.into_iter());
        let what = format!("a poll that reads {there} rows");
        let each = |seconds: f64| seconds * 1e6 / f64::from(polls);
        let middle = took.get(took.len() / 2).copied().unwrap_or(f64::NAN);
        report.add(
            format!("poll_{rows}_micros"),
            format!("{what}: time"),
            middle,
            "µs",
        );
        report.add(
            format!("poll_{rows}_database_micros"),
            format!("{what}: CPU at the database"),
            each(now.1.since(done.1).as_secs_f64()),
            "µs",
        );
        report.add(
            format!("poll_{rows}_own_micros"),
            format!("{what}: CPU of the replica"),
            each(own),
            "µs",
        );
        report.add(
            format!("poll_{rows}_statements"),
            format!("{what}: statements"),
            precise(now.0 - done.0) / f64::from(polls),
            "",
        );
    }
    database.sql("DELETE FROM doorward_endings WHERE changed_at > UNIX_TIMESTAMP() - 60");
    end(ENDED + 1, ENDED + BURST, "UNIX_TIMESTAMP()");
    let burst = "a burst of a hundred thousand in one second";
    let start = Instant::now();
    let mut mark = state.read_endings(&marks.0, &kept, &known).await?;
    let took = start.elapsed().as_secs_f64();
    report.add("burst_seconds", format!("{burst}, read"), took, "s");
    let (start, mut again) = (Instant::now(), 0);
    while start.elapsed() < OVERLAP {
        tokio::time::sleep(Duration::from_secs(1)).await;
        mark = state.read_endings(&mark, &kept, &known).await?;
        again += mark.rows();
    }
    let what = format!("{burst}: rows that polls of a second read again");
    report.add("burst_rows_again", what, precise(again), "");
    mark = state.read_endings(&mark, &kept, &known).await?;
    let what = format!("{burst}: rows of each poll after that");
    report.add("burst_rows_later", what, precise(mark.rows()), "");
    Ok(())
}

/// Bytes per row, including its indexes.
fn sizes(report: &mut Report, database: &Database<MariaDb>) {
    database.sql("ANALYZE TABLE users, doorward_endings");
    for (table, rows) in [("users", USERS), ("doorward_endings", ENDED)] {
        let size = database.sql(&format!("SELECT data_length + index_length FROM information_schema.tables WHERE table_schema = 'auth' AND table_name = '{table}'"));
        let size: f64 = size.trim().parse().unwrap_or(f64::NAN);
        report.add(
            format!("{table}_row_bytes"),
            format!("a row of {table}, with its indexes"),
            size / f64::from(rows),
            "bytes",
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn precise(count: u64) -> f64 {
    count as f64
}
