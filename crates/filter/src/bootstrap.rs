//! The module as a bootstrap extension. It holds Envoy's start until the first feed is complete, so that no client meets an
//! Envoy without rules and keys.

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
    /// Reads the configuration, which has the form of the filter's, and starts to follow the feed.
    ///
    /// # Errors
    ///
    /// A fault of the configuration.
    pub(crate) fn new(config: &Config<'_>, text: &[u8]) -> Result<Self, SettingsFault> {
        let settings = Settings::read(text)?;
        let bootstrap = Self {
            state: State::of(&settings)?,
            id: config.id(),
            since: Instant::now(),
            hold: settings.hold,
            is_started: Cell::new(false),
        };
        bootstrap.state.join(config)?;
        if config.is_validated() || !bootstrap.state.has_feed() {
            bootstrap.start(config);
        }
        Ok(bootstrap)
    }

    /// A request for the feed is due.
    pub(crate) fn woken(&self, config: &Config<'_>) {
        self.state.ask(config);
        self.start_in_time(config);
    }

    /// The answer to a request for the feed, or none.
    pub(crate) fn fed(&self, config: &Config<'_>, reply: Option<Reply>) {
        self.state.take(config, reply);
        self.start_in_time(config);
    }

    /// Lets Envoy start when the feed is complete, or at the latest after `hold`.
    fn start_in_time(&self, config: &Config<'_>) {
        if self.is_started.get() {
            return;
        }
        if self.state.is_complete() {
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
        self.state.leave(self.id);
    }
}
