//! What configurations know, shared by those that say the same: so a second listener or a reload forgets neither verified
//! tokens nor what is revoked, and Doorward is asked once.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{SystemTime, UNIX_EPOCH},
};

use doorward_core::time::UnixTime;
use doorward_rules::{
    current::Current,
    feed::{InForce, Known, Options},
};

use crate::{
    follower::Follower,
    settings::{Settings, SettingsFault},
};

/// What is known of one source.
#[derive(Debug)]
pub(crate) struct State {
    identity: String,
    in_force: Current<Option<Arc<InForce>>>,
    /// What asks for the feed, where there is one.
    pub(crate) follower: Option<Follower>,
}

static STATES: Mutex<Vec<Weak<State>>> = Mutex::new(Vec::new());

/// A panic while a lock was held is logged where it happens, and what the lock protects is whole after each step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time of day.
pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| since.as_secs()))
}

impl State {
    /// The state of a configuration: that of another one that says the same, or a new one.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration, or with a file that it names.
    pub(crate) fn of(settings: &Settings) -> Result<Arc<Self>, SettingsFault> {
        let secrets = settings.secrets()?;
        let identity = settings.identity(&secrets);
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
                    policy: None,
                    instead: settings.instead()?,
                };
                let mut before = states.iter().filter_map(Weak::upgrade);
                let before = before.find_map(|state| {
                    let follower = state.follower.as_ref()?;
                    let is_of_the_same = follower.feed.cluster == feed.cluster;
                    is_of_the_same
                        .then(|| state.in_force.now().as_ref().clone())
                        .flatten()
                });
                Self {
                    identity,
                    // Until the first answer has come, by what another configuration knows from the same Doorward.
                    in_force: Current::new(before.clone()),
                    follower: Some(Follower::new(
                        feed.clone(),
                        Known::new(options),
                        before.is_some(),
                    )),
                }
            }
            None => Self {
                identity,
                in_force: Current::new(Some(Arc::new(Known::without_feed(
                    settings.content()?,
                    secrets,
                    None,
                )?))),
                follower: None,
            },
        });
        states.push(Arc::downgrade(&state));
        Ok(state)
    }

    /// All states that are in use.
    pub(crate) fn all() -> Vec<Arc<Self>> {
        let mut states = locked(&STATES);
        states.retain(|state| state.strong_count() > 0);
        states.iter().filter_map(Weak::upgrade).collect()
    }

    /// What decides requests now; nothing before the first answer.
    pub(crate) fn with<T>(&self, decide: impl FnOnce(Option<&InForce>) -> T) -> T {
        decide(self.in_force.now().as_deref())
    }

    /// The same, for longer than one hook.
    pub(crate) fn keep(&self) -> Option<Arc<InForce>> {
        self.in_force.now().as_ref().clone()
    }

    /// Puts something else in force.
    pub(crate) fn exchange(&self, next: Arc<InForce>) {
        self.in_force.exchange(Some(next));
    }
}
