//! `[sign_in]`: signing in with a browser.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    fault::ValueFault,
    key::{Key, Optional, Section},
    reader::Reader,
    value::{DAY, boolean, directory, duration, name},
};
use crate::pages::Pages;

/// Settings of signing in with a browser.
#[derive(Clone, Debug)]
pub(crate) struct SignInSettings {
    /// How long a browser stays signed in.
    pub(crate) session: Duration,
    /// Whether `http://localhost` gets a cookie without `Secure`.
    pub(crate) localhost: bool,
    /// What browsers see.
    pub(crate) pages: Arc<Pages>,
}

pub(super) static KEYS: Section = &[
    &ENABLED,
    &SESSION,
    &INSECURE_COOKIE_FOR_LOCALHOST,
    &NAME,
    &LOGO,
    &TEMPLATES,
];

static ENABLED: Key<bool> = Key::new(
    "sign_in.enabled",
    "false",
    boolean,
    "Whether people can sign in with a browser, and a cookie counts as a credential.",
);

static SESSION: Key<Duration> = Key::new(
    "sign_in.session",
    "12h",
    |text| duration(text, Duration::from_secs(60), 366 * DAY),
    "How long a user stays signed in after entering the password, 1min to 366days. The cookie is renewed until then, if `jwt.lifetime` is shorter.",
)
.reloads();

static INSECURE_COOKIE_FOR_LOCALHOST: Key<bool> = Key::new(
    "sign_in.insecure_cookie_for_localhost",
    "false",
    boolean,
    "Whether `http://localhost` gets a cookie without `Secure`, for a demonstration on one machine. Other hosts are not affected.",
)
.reloads();

static NAME: Key<String> = Key::new(
    "sign_in.name",
    "Doorward",
    name,
    "The name of the team or product on the pages.",
)
.reloads();

static LOGO: Optional<String> = Key::new(
    "sign_in.logo",
    "none",
    logo,
    "Path or https URL of an image on the pages. The path must be public.",
)
.reloads()
.optional();

static TEMPLATES: Optional<PathBuf> = Key::new(
    "sign_in.templates",
    "none",
    directory,
    "Directory with templates that replace the built-in ones of the pages: `base.html`, `sign-in.html`, `signed-in.html`, `signed-out.html`, `loop.html`, `keys.html`, `new-key.html`.",
)
.reloads()
.optional();

impl SignInSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let enabled = reader.get(&ENABLED);
        let (session, localhost) = (
            reader.get(&SESSION),
            reader.get(&INSECURE_COOKIE_FOR_LOCALHOST),
        );
        let (name, logo) = (reader.get(&NAME), reader.find(&LOGO));
        let templates = reader.find(&TEMPLATES);
        let read = reader.reads();
        let pages = match Pages::new(name, logo, templates.as_deref(), read) {
            Ok(pages) => pages,
            Err(fault) => {
                reader.fault_of(&TEMPLATES, fault);
                return None;
            }
        };
        enabled.then(|| Self {
            session,
            localhost,
            pages: Arc::new(pages),
        })
    }
}

fn logo(text: &str) -> Result<String, ValueFault> {
    let is_visible = text.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
    let is_path = text.starts_with('/') && !text.starts_with("//");
    match is_visible && (is_path || text.starts_with("https://")) {
        true => Ok(text.to_owned()),
        false => Err(ValueFault::Logo(text.to_owned())),
    }
}
