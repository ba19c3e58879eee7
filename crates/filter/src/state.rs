//! What configurations know. Configurations with the same content share it: a second listener or a reload keeps verified
//! tokens and revocations, and asks Doorward only once. One thread wakes Envoy's main thread for all of them.

use std::{
    sync::{Arc, Mutex, Weak},
    thread,
    time::{Duration, Instant},
};

use doorward_rules::{
    current::Current,
    feed::{InForce, Known, Options},
};

use crate::{
    abi::{Config, ConfigId, Reply},
    follower::{Follower, locked},
    rule_counts::{Counted, RuleCounts},
    settings::{Settings, SettingsFault},
};

/// What is known from one source.
#[derive(Debug)]
pub(crate) struct State {
    /// Equal for configurations that share this state.
    identity: String,
    in_force: Current<Option<Counted>>,
    counts: RuleCounts,
    /// Follows the feed, if the configuration names one.
    follower: Option<Follower>,
}

static STATES: Mutex<Vec<Weak<State>>> = Mutex::new(Vec::new());

impl State {
    /// The state of a configuration: an existing one with the same content, or a new one.
    ///
    /// # Errors
    ///
    /// A fault of the configuration, or of a file that it names.
    pub(crate) fn of(settings: &Settings) -> Result<Arc<Self>, SettingsFault> {
        let secrets = settings.secrets()?;
        let rules = settings.rules()?;
        let identity = settings.identity(&secrets, rules.as_deref());
        let mut states = locked(&STATES);
        states.retain(|state| state.strong_count() > 0);
        let mut all = states.iter().filter_map(Weak::upgrade);
        if let Some(known) = all.find(|state| state.identity == identity) {
            return Ok(known);
        }
        let state = Arc::new(match &settings.feed {
            Some(feed) => {
                let options = Options {
                    stale_after: feed.stale_after,
                    secrets,
                    instead: settings.instead(rules)?,
                };
                let mut before = states.iter().filter_map(Weak::upgrade);
                let before = before.find_map(|state| {
                    let follower = state.follower.as_ref()?;
                    let is_of_the_same = follower.feed.cluster == feed.cluster;
                    is_of_the_same.then(|| state.keep()).flatten()
                });
                let counts = RuleCounts::new();
                Self {
                    identity,
                    // Until its own feed is complete, it decides by what another state knows from the same Doorward.
                    in_force: Current::new(before.clone().map(|known| counts.of(known))),
                    counts,
                    follower: Some(Follower::new(
                        feed.clone(),
                        Known::new(options),
                        before.is_some(),
                    )),
                }
            }
            None => {
                let content = settings.content(rules)?;
                let in_force = Known::without_feed(content, secrets)?;
                let counts = RuleCounts::new();
                Self {
                    identity,
                    in_force: Current::new(Some(counts.of(Arc::new(in_force)))),
                    counts,
                    follower: None,
                }
            }
        });
        states.push(Arc::downgrade(&state));
        Ok(state)
    }

    /// All states in use.
    fn all() -> Vec<Arc<Self>> {
        let mut states = locked(&STATES);
        states.retain(|state| state.strong_count() > 0);
        states.iter().filter_map(Weak::upgrade).collect()
    }

    /// Passes what decides requests now; `None` before the first answer of the feed.
    pub(crate) fn with<T>(&self, decide: impl FnOnce(Option<&Counted>) -> T) -> T {
        decide(self.in_force.now().as_ref().as_ref())
    }

    /// The same, for longer than one hook.
    pub(crate) fn keep(&self) -> Option<Arc<InForce>> {
        let in_force = self.in_force.now();
        in_force
            .as_ref()
            .as_ref()
            .map(|known| Arc::clone(&known.in_force))
    }

    /// The decisions by rule that Envoy's counters do not have yet.
    pub(crate) fn counts(&self) -> &RuleCounts {
        &self.counts
    }

    /// Whether there is a feed to follow.
    pub(crate) fn has_feed(&self) -> bool {
        self.follower.is_some()
    }

    /// Whether everything is known that requests are decided by.
    pub(crate) fn is_complete(&self) -> bool {
        self.follower.as_ref().is_none_or(Follower::is_complete)
    }

    /// Lets a configuration send the requests for the feed, unless Envoy only validates its configuration.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(crate) fn join(&self, config: &Config<'_>) -> Result<(), SettingsFault> {
        match &self.follower {
            Some(follower) if !config.is_validated() => {
                follower.join(config);
                start()
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Forgets a configuration that is gone, with the request that it has sent.
    pub(crate) fn leave(&self, id: ConfigId) {
        if let Some(follower) = &self.follower {
            follower.leave(id);
        }
    }

    /// Asks for the feed.
    pub(crate) fn ask(&self, config: &Config<'_>) {
        if let Some(follower) = &self.follower {
            follower.ask(config);
        }
    }

    /// Takes an answer of the feed.
    pub(crate) fn take(&self, config: &Config<'_>, reply: Option<Reply>) {
        if let Some(follower) = &self.follower {
            follower.take(config, reply, |next| {
                self.in_force.exchange(Some(self.counts.of(next)));
            });
        }
    }
}

/// Whether the thread runs.
static RUNS: Mutex<bool> = Mutex::new(false);

/// Whether the thread runs, for tests that wait for its end.
#[cfg(test)]
pub(crate) fn runs() -> bool {
    *locked(&RUNS)
}

/// Starts the thread, unless it runs.
fn start() -> Result<(), SettingsFault> {
    let mut runs = locked(&RUNS);
    if !*runs {
        let thread = thread::Builder::new().name("doorward".into());
        thread.spawn(run).map_err(SettingsFault::Thread)?;
        *runs = true;
    }
    Ok(())
}

/// Wakes Envoy's main thread for every state in use; ends when none follows a feed. Only bootstrap extensions have timers,
/// and one thread is enough for any number of configurations.
fn run() {
    loop {
        let at = Instant::now();
        let mut next = at + Duration::from_millis(250);
        {
            // Held until the thread has decided whether it ends, so that `start` does not count on a thread that ends.
            let mut runs = locked(&RUNS);
            let states = State::all();
            if !states.iter().any(|state| state.has_feed()) {
                *runs = false;
                return;
            }
            for follower in states.iter().filter_map(|state| state.follower.as_ref()) {
                next = next.min(follower.wake(at));
            }
        }
        thread::sleep(
            next.saturating_duration_since(Instant::now())
                .max(Duration::from_millis(5)),
        );
    }
}
