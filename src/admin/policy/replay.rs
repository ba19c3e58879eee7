//! What other rules would have changed for the requests in access logs.

mod effect;
mod lines;
mod reading;

use std::{collections::HashMap, path::Path};

use anyhow::{Context as _, anyhow};
use doorward_rules::routes::{self, RouteOptions};
use serde_json::{Value, json};

use self::{
    effect::{Effect, effect, name, number},
    lines::{End, Logged, Who},
    reading::Reading,
};
use super::check::cut;
use crate::{
    admin::{Outcome, table},
    cli::{self, Format},
    config::Settings,
    domain::{path::Tolerance, policy::Policy, request::RequestLine, shadow::Direction},
};

/// Reads logs, and prints the changed verdicts.
///
/// # Errors
///
/// The rules or a log cannot be read.
pub(super) fn replay(settings: &Settings, command: &cli::PolicyReplay) -> anyhow::Result<Outcome> {
    let next = match &command.rules {
        Some(file) => rules(settings, file)?,
        None => {
            let next = settings.next.as_ref();
            let next = next.context(
                "there are no rules to compare with: name a file with --rules, or set rules.next",
            )?;
            next.policy.clone()
        }
    };
    let host = command.host.as_deref().unwrap_or_default();
    let mut replay = Replay::new(&settings.policy, &next, settings.paths, host);
    for log in &command.logs {
        let mut reading = Reading::open(log)?;
        while let Some(line) = reading.next()? {
            replay.line(line);
        }
    }
    let changed = replay.changed();
    match command.output.output {
        Format::Json => replay.print_json(&changed, command.top)?,
        Format::Text => replay.print_text(&changed, command.top),
    }
    Ok(match changed.is_empty() {
        true => Outcome::Yes,
        false => Outcome::No,
    })
}

fn rules(settings: &Settings, file: &Path) -> anyhow::Result<Policy> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("{name} cannot be read"))?;
    let options = RouteOptions {
        endpoints: &settings.endpoints,
        tolerance: settings.paths,
        keys: settings.keys.enabled,
        assertions: (settings.identity.assertion.as_ref()).map(|_| &*settings.jwt.terms.audience),
    };
    routes::of_file(&name, &text, options).map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        anyhow!("{}", faults.join("\n"))
    })
}

/// The largest number of different requests, and of different users, that are counted separately.
const MOST: usize = 100_000;

/// The rules that decide a request before and after, how it ended, and who asked.
type Case = (usize, usize, End, Who);

struct Replay<'a> {
    before: &'a Policy,
    after: &'a Policy,
    tolerance: Tolerance,
    /// The host of requests whose lines have none.
    host: &'a str,
    names_hosts: bool,
    cases: HashMap<Case, (Effect, u64)>,
    requests: HashMap<String, (Direction, u64)>,
    users: HashMap<String, u64>,
    /// Changed requests that are not in `requests`.
    others: u64,
    lines: u64,
    read: u64,
    unreadable: u64,
    ambiguous: u64,
    without_host: u64,
}

/// Requests with a changed verdict, by the rules that decide them.
struct Changed<'a> {
    before: &'a str,
    after: &'a str,
    direction: Direction,
    certain: u64,
    possible: u64,
}

impl<'a> Replay<'a> {
    fn new(before: &'a Policy, after: &'a Policy, tolerance: Tolerance, host: &'a str) -> Self {
        Self {
            before,
            after,
            tolerance,
            host,
            names_hosts: names_hosts(before) || names_hosts(after),
            cases: HashMap::new(),
            requests: HashMap::new(),
            users: HashMap::new(),
            others: 0,
            lines: 0,
            read: 0,
            unreadable: 0,
            ambiguous: 0,
            without_host: 0,
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        let text = str::from_utf8(line).unwrap_or_default();
        match lines::read(text) {
            Some(logged) => {
                self.read += 1;
                self.request(&logged);
            }
            None if lines::is_about_something_else(text) => {}
            None => self.unreadable += 1,
        }
    }

    fn request(&mut self, logged: &Logged<'_>) {
        let (host, target) = placed(logged);
        let host = match host {
            "" => self.host,
            host => host,
        };
        let line = RequestLine {
            method: logged.method.as_bytes(),
            host: host.as_bytes(),
            target: target.as_bytes(),
        };
        // A request that cannot be parsed is refused, whatever the rules are.
        let Ok((method, named, path)) = line.parse(self.tolerance) else {
            self.ambiguous += 1;
            return;
        };
        let before = self.before.access(method, named, &path);
        let after = self.after.access(method, named, &path);
        let case = (
            number(self.before, before),
            number(self.after, after),
            logged.end,
            logged.who,
        );
        if host.is_empty() && self.names_hosts {
            self.without_host += 1;
        }
        let (found, count) = (self.cases)
            .entry(case)
            .or_insert_with(|| (effect(before, after, logged.end, logged.who), 0));
        *count += 1;
        let (Effect::Certain(direction) | Effect::Possible(direction)) = *found else {
            return;
        };
        let path = target.split('?').next().unwrap_or_default();
        let key = format!("{} {host}{path}", logged.method);
        let room = self.requests.len() < MOST;
        match self.requests.get_mut(&key) {
            Some((_, count)) => *count += 1,
            None if room => drop(self.requests.insert(key, (direction, 1))),
            None => self.others += 1,
        }
        if let Some(user) = &logged.user
            && (self.users.len() < MOST || self.users.contains_key(&**user))
        {
            *self.users.entry(user.to_string()).or_default() += 1;
        }
    }

    /// The changes, most frequent first.
    fn changed(&self) -> Vec<Changed<'a>> {
        let mut sums = HashMap::<(usize, usize, Direction), (u64, u64)>::new();
        for ((before, after, _, _), (effect, count)) in &self.cases {
            let (direction, certain, possible) = match effect {
                Effect::Same => continue,
                Effect::Certain(direction) => (*direction, *count, 0),
                Effect::Possible(direction) => (*direction, 0, *count),
            };
            let sum = sums.entry((*before, *after, direction)).or_default();
            *sum = (sum.0 + certain, sum.1 + possible);
        }
        let changed = sums.into_iter();
        let mut changed: Vec<_> = changed
            .map(
                |((before, after, direction), (certain, possible))| Changed {
                    before: name(self.before, before),
                    after: name(self.after, after),
                    direction,
                    certain,
                    possible,
                },
            )
            .collect();
        changed.sort_by(|left, right| {
            let key = |one: &Changed<'_>| (one.certain + one.possible, one.certain);
            (key(right).cmp(&key(left)))
                .then_with(|| (left.before, left.after).cmp(&(right.before, right.after)))
        });
        changed
    }

    fn top(&self, most: usize) -> Vec<(&str, Direction, u64)> {
        let mut all: Vec<_> = self.requests.iter().collect();
        all.sort_by(|(left, (_, fewer)), (right, (_, more))| more.cmp(fewer).then(left.cmp(right)));
        let top = all.into_iter().take(most);
        top.map(|(request, (direction, count))| (&**request, *direction, *count))
            .collect()
    }

    fn top_users(&self, most: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self
            .users
            .iter()
            .map(|(name, count)| (&**name, *count))
            .collect();
        all.sort_by(|(left, fewer), (right, more)| more.cmp(fewer).then(left.cmp(right)));
        all.truncate(most);
        all
    }

    fn print_json(&self, changed: &[Changed<'_>], top: usize) -> anyhow::Result<()> {
        let changes = changed.iter().map(|one| {
            json!({
                "rule": one.before, "next_rule": one.after, "direction": one.direction.name(),
                "certain": one.certain, "possible": one.possible,
            })
        });
        let requests = self.top(top).into_iter().map(|(request, direction, count)| {
            json!({"request": request, "direction": direction.name(), "count": count})
        });
        let users = self.top_users(top).into_iter();
        let users = users.map(|(user, count)| json!({"user": user, "count": count}));
        let whole = json!({
            "lines": self.lines, "requests": self.read, "unreadable": self.unreadable,
            "ambiguous": self.ambiguous, "without_host": self.without_host,
            "changed": changes.collect::<Vec<Value>>(), "top": requests.collect::<Vec<Value>>(),
            "users": users.collect::<Vec<Value>>(),
        });
        println!("{}", serde_json::to_string_pretty(&whole)?);
        Ok(())
    }

    fn print_text(&self, changed: &[Changed<'_>], top: usize) {
        println!(
            "{} lines, {} requests, {} unreadable.",
            self.lines, self.read, self.unreadable
        );
        if self.ambiguous > 0 {
            println!(
                "{} requests are malformed or ambiguous; Doorward refuses them, whatever the rules are.",
                self.ambiguous
            );
        }
        if self.without_host > 0 {
            println!(
                "{} requests have no host in the log, and some rules name hosts; --host gives one.",
                self.without_host
            );
        }
        if changed.is_empty() {
            println!("No verdict changes.");
            return;
        }
        let mut lines = table(["RULE", "NEXT RULE", "VERDICT", "CERTAIN", "POSSIBLE"]);
        for one in changed {
            lines.add_row([
                one.before.to_owned(),
                one.after.to_owned(),
                one.direction.name().to_owned(),
                one.certain.to_string(),
                one.possible.to_string(),
            ]);
        }
        println!("\n{lines}");
        let mut lines = table(["REQUEST", "VERDICT", "COUNT"]);
        for (request, direction, count) in self.top(top) {
            // Clients wrote it: it must not control the terminal.
            let request = request.escape_debug().to_string();
            lines.add_row([request, direction.name().to_owned(), count.to_string()]);
        }
        println!("\n{lines}");
        if self.others > 0 {
            println!("and {} other requests", self.others);
        }
        let users = self.top_users(top);
        if !users.is_empty() {
            let mut lines = table(["USER", "COUNT"]);
            for (user, count) in users {
                lines.add_row([user.escape_debug().to_string(), count.to_string()]);
            }
            println!("\n{lines}");
        }
    }
}

/// Host and path; a request line may have both.
fn placed<'l>(logged: &'l Logged<'_>) -> (&'l str, &'l str) {
    let target: &str = &logged.target;
    let absolute = ["http://", "https://"];
    match absolute.iter().any(|scheme| target.starts_with(scheme)) {
        true => cut(target),
        false => (&logged.host, target),
    }
}

fn names_hosts(policy: &Policy) -> bool {
    policy
        .rules()
        .iter()
        .any(|rule| rule.hosts().next().is_some())
}
