//! Rules, keys and whom to trust, read again while Doorward serves: on SIGHUP, and when a file they came from has changed.
//! What cannot be read, or does not hold together, changes nothing.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash as _, Hasher as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use crate::{
    config::Settings,
    domain::{
        foreign::Issuers, gate::Gate, keyring::Keyring, password::Hasher, revocation::Revocations,
        token::Tokens,
    },
    keys,
    live::{Live, Rules},
};

/// Reads the settings anew, as at the start, and says which files they came from.
pub type Load = Box<dyn Fn() -> anyhow::Result<(Settings, Vec<PathBuf>)> + Send>;

/// How often files are looked at. A mount may be exchanged by a link, or on a file system that tells nobody: so they are
/// read, which for a few small files costs next to nothing.
const LOOK: Duration = Duration::from_secs(2);

/// What rules share with those before them.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// Which tokens have ended.
    pub ended: Arc<Revocations>,
    /// Hashes and verifies passwords.
    pub hasher: Arc<Hasher>,
    /// Whose tokens are accepted beside ours.
    pub issuers: Issuers,
}

impl Lasting {
    /// The rules of these settings.
    #[must_use]
    pub fn rules(&self, settings: &Settings, keys: Keyring) -> Rules {
        Rules {
            gate: Gate {
                policy: settings.policy.clone(),
                tokens: Tokens::of(Arc::new(keys), settings.terms.clone())
                    .believing(Arc::clone(&self.issuers)),
                ended: Arc::clone(&self.ended),
                hasher: Arc::clone(&self.hasher),
                passwords: settings.passwords.clone(),
                sessions: settings.refresh.0,
                reply: settings.reply,
                forwards_bearer: settings.forwards_bearer,
                allows_preflight: settings.allows_preflight,
            },
            realm: settings.realm.clone(),
            tolerance: settings.tolerance,
            trusted: settings.trusted.clone(),
            client_address: settings.client_address,
        }
    }
}

/// Watches, reads and exchanges.
pub struct Reloader {
    /// As they were at the start: what needs a restart is still so.
    first: Settings,
    load: Load,
    live: Live,
    lasting: Lasting,
}

impl Reloader {
    /// Takes what is in force.
    #[must_use]
    pub fn new(first: Settings, load: Load, live: Live, lasting: Lasting) -> Self {
        Self {
            first,
            load,
            live,
            lasting,
        }
    }

    /// Reloads for ever.
    pub async fn follow(self) {
        let Ok(mut asked) = signal(SignalKind::hangup()) else {
            return;
        };
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut files = (self.load)().map(|(_, files)| files).unwrap_or_default();
        let mut seen = fingerprint(&files, &self.first.keys_dir);
        loop {
            let by = tokio::select! {
                _ = asked.recv() => "SIGHUP",
                _ = looks.tick() => {
                    let now = fingerprint(&files, &self.first.keys_dir);
                    if now == seen {
                        continue;
                    }
                    "a file has changed"
                }
            };
            // Taken before reading: what changes meanwhile is seen the next time.
            seen = fingerprint(&files, &self.first.keys_dir);
            match self.reload() {
                Ok(read) => {
                    if read != files {
                        files = read;
                        seen = fingerprint(&files, &self.first.keys_dir);
                    }
                    tracing::info!(by, keys = %self.key_names(), "reloaded");
                }
                Err(fault) => {
                    let cause = one_line(&format!("{fault:#}"));
                    tracing::error!(by, cause, "not reloaded; what was in force stays");
                }
            }
        }
    }

    fn reload(&self) -> anyhow::Result<Vec<PathBuf>> {
        let (settings, files) = (self.load)()?;
        let keys = keys::load(&settings)?;
        let fixed = self.first.fixed_keys_that_differ(&settings);
        if !fixed.is_empty() {
            tracing::warn!(
                keys = fixed.join(", "),
                "changed, and will be so after a restart only"
            );
        }
        self.live.exchange(self.lasting.rules(&settings, keys));
        Ok(files)
    }

    fn key_names(&self) -> String {
        let rules = self.live.now();
        let names: Vec<_> = (rules.gate.tokens.keys().names())
            .map(|name| name.as_str().to_owned())
            .collect();
        names.join(",")
    }
}

/// Told apart by their contents: times and inodes of a mount say nothing.
fn fingerprint(files: &[PathBuf], keys_dir: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let keys = keys::files(keys_dir).unwrap_or_default();
    for path in files.iter().chain(&keys) {
        path.hash(&mut hasher);
        fs::read(path).ok().hash(&mut hasher);
    }
    hasher.finish()
}

/// A fault of many lines, for a log of one line an event.
fn one_line(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines.join(" ")
}
