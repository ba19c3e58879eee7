//! The pages for a person's own keys: all keys with the form for a new one, and the new key, which is shown once.

use std::time::{Duration, UNIX_EPOCH};

use minijinja::{Value, context};

use super::{Pages, PagesFault, Paths, kept_or_drawn};
use crate::domain::{
    body::BodyFault,
    decision::{Answer, Denial},
    machine_key::MAX_NAME,
    machine_keys::MAX_PATHS,
    own_keys::Typed,
    sign_in::Page,
};

/// A key, without its secret. Times are in seconds.
#[derive(Clone, Debug)]
pub(crate) struct KeyShown {
    pub(crate) id: String,
    pub(crate) name: String,
    /// `None` for all roles of its owner.
    pub(crate) roles: Option<Vec<String>>,
    /// Empty for all paths.
    pub(crate) paths: Vec<String>,
    pub(crate) state: &'static str,
    pub(crate) created: u64,
    pub(crate) expires: Option<u64>,
    pub(crate) used: Option<u64>,
}

impl KeyShown {
    fn value(&self) -> Value {
        let Self {
            id,
            name,
            roles,
            paths,
            state,
            created,
            expires,
            used,
        } = self;
        context! {
            id => id, name => name, roles => roles.clone(), paths => paths.clone(), state => *state,
            created_at => *created, expires_at => *expires, used_at => *used,
        }
    }
}

/// What the page of a person's keys shows.
pub(crate) struct KeysShown<'a> {
    /// The name of the person, and the person's roles.
    pub(crate) who: &'a str,
    pub(crate) roles: Vec<&'a str>,
    /// The keys, or `None` if they cannot be read.
    pub(crate) keys: Option<Vec<KeyShown>>,
    /// How many keys are left out, because they cannot be used any more.
    pub(crate) left_out: usize,
    /// The longest lifetime of a new key.
    pub(crate) longest: Duration,
    /// The form as it was typed, and why it was refused.
    pub(crate) typed: &'a Typed,
    pub(crate) refused: Option<&'a Denial>,
}

impl Pages {
    /// The keys of a person, and the form for a new one, with its cookie.
    ///
    /// # Errors
    ///
    /// [`PagesFault`].
    pub(crate) fn keys(&self, page: &Page, shown: &KeysShown<'_>) -> Result<Answer, PagesFault> {
        let key = kept_or_drawn(page.form.as_ref())?;
        // A form that has made its key gets a new value. Every other form keeps its value: its first answer may have been
        // lost, and sending it again must not make a second key.
        let is_done = matches!(shown.refused, Some(Denial::KeyRepeated(_)));
        let once = kept_or_drawn(shown.typed.once.as_ref().filter(|_| !is_done))?;
        let html = self.render_keys(&Paths::of(page, ""), shown, key.expose(), once.expose())?;
        Ok(self.answer_with_form(page, html, &key, shown.refused))
    }

    /// A key that was made just now.
    ///
    /// # Errors
    ///
    /// [`PagesFault`].
    pub(crate) fn new_key(
        &self,
        page: &Page,
        who: &str,
        key: &KeyShown,
        secret: &str,
    ) -> Result<Answer, PagesFault> {
        let html = self.render_new_key(&Paths::of(page, ""), who, key, secret)?;
        Ok(self.answer(200, html))
    }

    fn render_new_key(
        &self,
        paths: &Paths<'_>,
        who: &str,
        key: &KeyShown,
        secret: &str,
    ) -> Result<String, PagesFault> {
        let own = context! { key => key.value(), secret => secret };
        let shared = self.shared(paths, who, None, "");
        self.fill("new-key.html", context! { ..own, ..shared })
    }

    fn render_keys(
        &self,
        paths: &Paths<'_>,
        shown: &KeysShown<'_>,
        key: &str,
        once: &str,
    ) -> Result<String, PagesFault> {
        let KeysShown {
            who,
            roles,
            keys,
            left_out,
            longest,
            typed,
            refused,
        } = shown;
        let (field, error) = refused.map(explain).unzip();
        let own = context! {
            own_roles => roles.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>(),
            keys => keys.as_ref().map(|keys| keys.iter().map(KeyShown::value).collect::<Vec<_>>()),
            left_out => *left_out,
            longest_days => longest.as_secs().div_ceil(24 * 3600),
            field => field.flatten(),
            once => once,
            typed_name => &typed.name,
            typed_roles => &typed.roles,
            typed_no_roles => typed.no_roles,
            typed_paths => &typed.paths,
            typed_days => &typed.days,
        };
        let shared = self.shared(paths, who, error.as_deref(), key);
        self.fill("keys.html", context! { ..own, ..shared })
    }

    /// Renders both pages with everything that they may show.
    pub(super) fn try_keys(&self, paths: &Paths<'_>) -> Result<(), PagesFault> {
        let key = |state| KeyShown {
            id: "0123456789abcdef".into(),
            name: "ci".into(),
            roles: Some(vec!["editor".into()]),
            paths: vec!["/a".into()],
            state,
            created: 1,
            expires: Some(2),
            used: None,
        };
        for (keys, refused) in [
            (None, None),
            (Some(vec![]), None),
            (
                Some(vec![key("usable"), key("expired"), key("ended")]),
                Some(&Denial::Body(BodyFault::Impossible("name"))),
            ),
        ] {
            let shown = KeysShown {
                who: "ada",
                roles: Vec::new(),
                left_out: usize::from(refused.is_some()),
                keys,
                longest: Duration::from_secs(1),
                typed: &Typed::default(),
                refused,
            };
            self.render_keys(paths, &shown, "key", "once")?;
        }
        self.render_new_key(paths, "ada", &key("usable"), "dwk_")
            .map(drop)
    }
}

/// A time in seconds, as people read it, to the day or to the minute; in UTC.
pub(super) fn time(seconds: u64, precision: &str) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.min(LAST)));
    let text = at.map(|at| humantime::format_rfc3339_seconds(at).to_string());
    let text = text.unwrap_or_default();
    let (day, rest) = text.split_once('T').unwrap_or((&text, ""));
    match precision {
        "minute" => format!("{day} {} UTC", rest.get(..5).unwrap_or_default()),
        _ => day.to_owned(),
    }
}

/// The end of the year 9999, beyond which there is no text of this form.
const LAST: u64 = 253_402_300_799;

/// The field of the form, if it is to blame, and what the user can do.
fn explain(denial: &Denial) -> (Option<&'static str>, String) {
    if let Denial::Body(BodyFault::Impossible(name)) = denial
        && let Some(text) = explain_field(name)
    {
        return (Some(name), text);
    }
    (None, explain_all(denial).into())
}

fn explain_field(name: &str) -> Option<String> {
    Some(match name {
        "name" => format!(
            "Write 1 to {MAX_NAME} letters, digits and . _ : @ / - that begin with a letter or a digit."
        ),
        "roles" => {
            "Write roles that you have, separated by commas, or tick the box for none.".into()
        }
        "paths" => format!(
            "Write at most {MAX_PATHS} paths that begin with /, such as /repo or /repo/*, separated by blanks."
        ),
        "days" => "Write a whole number of days.".into(),
        _ => return None,
    })
}

fn explain_all(denial: &Denial) -> &'static str {
    if matches!(denial, Denial::KeyRepeated(_)) {
        "This form has made its key already, and the key was shown then. If you do not have it, end it and make another one."
    } else if matches!(denial, Denial::TooManyKeys(_)) {
        "You have as many keys as you may have. End one that you do not need."
    } else if matches!(denial, Denial::KeyNotFound) {
        "You have no such key."
    } else if matches!(denial, Denial::Body(BodyFault::TooLong)) {
        "The form is too long."
    } else if matches!(denial, Denial::ForeignForm) {
        "This page was open for too long, or your browser blocks cookies. Please try again."
    } else if matches!(denial, Denial::CrossSite) {
        "Another site sent this form. Nothing was changed."
    } else if matches!(denial, Denial::InvalidCredentials(_)) {
        "Your account may not have keys."
    } else if matches!(denial, Denial::Unavailable(_)) {
        "Keys cannot be read or changed at the moment. Please try again soon."
    } else {
        "This request cannot be answered. Please try again."
    }
}
