//! The module as a bootstrap extension: holds Envoy's start until the first feed has come, so that no client meets an Envoy
//! that knows nothing.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    abi::{self, Config, ConfigId, Level, Reply},
    settings::{Settings, SettingsFault},
    state::State,
};

/// A configured extension.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    state: Arc<State>,
    id: ConfigId,
    since: Instant,
    hold: Duration,
    is_started: Cell<bool>,
}

impl Bootstrap {
    /// Reads the configuration, which is that of the filter, and begins to follow the feed.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub(crate) fn new(config: &Config<'_>, text: &[u8]) -> Result<Self, SettingsFault> {
        let settings = Settings::read(text)?;
        let bootstrap = Self {
            state: State::of(&settings)?,
            id: config.id(),
            since: Instant::now(),
            hold: settings.hold,
            is_started: Cell::new(false),
        };
        match &bootstrap.state.follower {
            Some(follower) if !config.is_validated() => follower.join(config)?,
            Some(_) | None => bootstrap.start(config),
        }
        Ok(bootstrap)
    }

    /// It is time to ask for the feed.
    pub(crate) fn woken(&self, config: &Config<'_>) {
        if let Some(follower) = &self.state.follower {
            follower.ask(config);
        }
        self.look(config);
    }

    /// An answer has come, or none.
    pub(crate) fn fed(&self, config: &Config<'_>, reply: Option<Reply<'_>>) {
        if let Some(follower) = &self.state.follower {
            follower.take(&self.state, config, reply);
        }
        self.look(config);
    }

    fn look(&self, config: &Config<'_>) {
        if self.is_started.get() {
            return;
        }
        let is_ready =
            (self.state.follower.as_ref()).is_none_or(crate::follower::Follower::is_complete);
        if is_ready {
            self.start(config);
        } else if self.since.elapsed() > self.hold {
            abi::write(
                Level::Error,
                "doorward: no feed has come, and Envoy starts without it; requests get 503 until one comes",
            );
            self.start(config);
        }
    }

    fn start(&self, config: &Config<'_>) {
        self.is_started.set(true);
        config.let_envoy_start();
    }
}

impl Drop for Bootstrap {
    fn drop(&mut self) {
        if let Some(follower) = &self.state.follower {
            follower.leave(self.id);
        }
    }
}
