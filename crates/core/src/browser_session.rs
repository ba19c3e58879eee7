//! The session of a browser: from a password to the end of what it allows there, over all tokens of its cookie.

use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use std::time::Duration;

use super::{
    account::Identity, cookie::Transport, revocation::Generation, session::NoRandomness,
    time::UnixTime,
};

/// What a renewed token continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The user.
    pub identity: Identity,
    /// The session of the browser.
    pub session: BrowserSession,
    /// The generation of the user's tokens.
    pub generation: Generation,
    /// How the browser reaches Doorward.
    pub transport: Transport,
}

/// The time from a password to the end of what it allows in one browser. Its tokens end with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowserSession {
    /// `sid` of all its tokens.
    pub id: String,
    /// When the user showed the password.
    pub since: UnixTime,
    /// How long it lasts.
    pub lasts: Duration,
}

impl BrowserSession {
    /// Starts a session.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`].
    pub fn start(since: UnixTime, lasts: Duration) -> Result<Self, NoRandomness> {
        Ok(Self {
            id: random()?,
            since,
            lasts,
        })
    }

    /// When it ends.
    #[must_use]
    pub fn ends(&self) -> UnixTime {
        UnixTime(self.since.0.saturating_add(self.lasts.as_secs()))
    }
}

pub(crate) const RANDOM: usize = 16;

/// A random name or key, as text that may stand in a cookie, in a claim and in a form.
pub(crate) fn random() -> Result<String, NoRandomness> {
    let mut bytes = [0; RANDOM];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}
