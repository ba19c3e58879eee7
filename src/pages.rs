//! What a browser sees: the pages of signing in and out and of a person's keys, made from templates that the program
//! contains and a team may replace.
//!
//! Must not know: who may do what, tables, wire formats.

mod own_keys;

use std::{fmt, io, path::Path, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use minijinja::{Environment, UndefinedBehavior, Value, context};

pub(crate) use self::own_keys::{KeyShown, KeysShown};
use crate::domain::{
    cookie::{CookieName, Transport},
    decision::{Answer, Denial, Realm},
    sign_in::{FormKey, LoopCause, Page},
};

/// The pages of a team.
pub(crate) struct Pages {
    templates: Environment<'static>,
    name: String,
    logo: Option<String>,
}

/// The templates, by the names of the files that replace them.
const TEMPLATES: [(&str, &str); 7] = [
    ("base.html", include_str!("pages/templates/base.html")),
    ("sign-in.html", include_str!("pages/templates/sign-in.html")),
    (
        "signed-in.html",
        include_str!("pages/templates/signed-in.html"),
    ),
    (
        "signed-out.html",
        include_str!("pages/templates/signed-out.html"),
    ),
    ("loop.html", include_str!("pages/templates/loop.html")),
    ("keys.html", include_str!("pages/templates/keys.html")),
    ("new-key.html", include_str!("pages/templates/new-key.html")),
];

/// How long a form may stay open.
const FORM_TIME: Duration = Duration::from_secs(3600);

/// How long a renewal that failed is not tried again.
const LATER: Duration = Duration::from_secs(60);

/// Why templates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PagesFault {
    /// A file cannot be read.
    #[error("{0:?} cannot be read: {1}")]
    Read(String, io::Error),
    /// A template is no template, or uses a name that no page has.
    #[error("{0}: {1}")]
    Template(&'static str, minijinja::Error),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// The directory has no template.
    #[error(
        "the directory has none of: base.html, sign-in.html, signed-in.html, signed-out.html, loop.html, keys.html, new-key.html"
    )]
    NoTemplate,
}

impl Pages {
    /// The pages of a team with this name and logo. Files in `dir` replace the templates. Each page is rendered once, so
    /// that a fault is found before a browser sees it.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or is no template of its page.
    pub(crate) fn new(
        name: String,
        logo: Option<String>,
        dir: Option<&Path>,
        read: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, PagesFault> {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.add_filter("time", own_keys::time);
        let mut replaced = 0;
        for (file, own) in TEMPLATES {
            let text = match dir.map(|dir| dir.join(file)) {
                None => own.to_owned(),
                Some(path) => match read(&path) {
                    Ok(text) => {
                        replaced += 1;
                        text
                    }
                    Err(fault) if fault.kind() == io::ErrorKind::NotFound => own.to_owned(),
                    Err(fault) => return Err(PagesFault::Read(path.display().to_string(), fault)),
                },
            };
            (templates.add_template_owned(file, text))
                .map_err(|fault| PagesFault::Template(file, fault))?;
        }
        if dir.is_some() && replaced == 0 {
            return Err(PagesFault::NoTemplate);
        }
        let pages = Self {
            templates,
            name,
            logo,
        };
        pages.try_all()?;
        Ok(pages)
    }

    fn try_all(&self) -> Result<(), PagesFault> {
        let paths = Paths {
            sign_in: "/sign-in",
            sign_out: "/sign-out",
            signed_in: "/signed-in",
            keys: Some("/my-keys"),
            action: "/sign-in?return=/",
            target: "/",
        };
        for error in [None, Some("Wrong")] {
            self.render("sign-in.html", &paths, "", error, "key")?;
        }
        for (template, who) in [
            ("signed-in.html", "ada"),
            ("signed-out.html", ""),
            ("loop.html", ""),
        ] {
            self.render(template, &paths, who, Some("Why"), "")?;
        }
        self.try_keys(&paths)
    }

    /// The form, with its cookie.
    ///
    /// # Errors
    ///
    /// [`PagesFault`].
    pub(crate) fn form(&self, page: &Page, error: Option<&Denial>) -> Result<Answer, PagesFault> {
        let key = kept_or_drawn(page.form.as_ref())?;
        let error_text = error.map(explain);
        let action = page.target.behind(&page.places.sign_in);
        let paths = Paths::of(page, &action);
        let html = self.render(
            "sign-in.html",
            &paths,
            "",
            error_text.as_deref(),
            key.expose(),
        )?;
        Ok(self.answer_with_form(page, html, &key, error))
    }

    /// Who has signed in, with the button to sign out.
    ///
    /// # Errors
    ///
    /// [`PagesFault`].
    pub(crate) fn signed_in(&self, page: &Page, who: &str) -> Result<Answer, PagesFault> {
        let html = self.render("signed-in.html", &Paths::of(page, ""), who, None, "")?;
        Ok(self.answer(200, html))
    }

    /// The page after signing out. It drops the cookie.
    ///
    /// # Errors
    ///
    /// [`PagesFault`].
    pub(crate) fn signed_out(&self, page: &Page) -> Result<Answer, PagesFault> {
        let html = self.render("signed-out.html", &Paths::of(page, ""), "", None, "")?;
        let mut answer = self.answer(200, html);
        let cookie = CookieName::Session(page.transport).set("", 0);
        answer.headers.push(("set-cookie", cookie.into()));
        Ok(answer)
    }

    /// Why a browser that has signed in comes back to the form.
    ///
    /// # Errors
    ///
    /// [`PagesFault`].
    pub(crate) fn loops(&self, page: &Page, cause: LoopCause) -> Result<Answer, PagesFault> {
        let why = explain_loop(cause, page.transport);
        let action = page.target.behind(&page.places.sign_in);
        let html = self.render("loop.html", &Paths::of(page, &action), "", Some(&why), "")?;
        Ok(self.answer(200, html))
    }

    fn render(
        &self,
        template: &'static str,
        paths: &Paths<'_>,
        who: &str,
        error: Option<&str>,
        key: &str,
    ) -> Result<String, PagesFault> {
        self.fill(template, self.shared(paths, who, error, key))
    }

    /// What every template can use, because a team's `base.html` is part of every page.
    fn shared(&self, paths: &Paths<'_>, who: &str, error: Option<&str>, key: &str) -> Value {
        context! {
            name => &self.name,
            logo => &self.logo,
            sign_in => paths.sign_in,
            sign_out => paths.sign_out,
            signed_in => paths.signed_in,
            my_keys => paths.keys,
            action => paths.action,
            target => paths.target,
            who => who,
            error => error,
            form_key => key,
        }
    }

    fn fill(&self, template: &'static str, values: Value) -> Result<String, PagesFault> {
        let found = self.templates.get_template(template);
        let rendered = found.and_then(|html| html.render(values));
        rendered.map_err(|fault| PagesFault::Template(template, fault))
    }

    /// A page with a form, the form's cookie, and the status if the form was refused.
    fn answer_with_form(
        &self,
        page: &Page,
        html: String,
        key: &FormKey,
        refused: Option<&Denial>,
    ) -> Answer {
        let mut answer = self.answer(200, html);
        let cookie = CookieName::Form(page.transport).set(key.expose(), FORM_TIME.as_secs());
        answer.headers.push(("set-cookie", cookie.into()));
        if let Some(denial) = refused {
            let plain = denial.answer(&Realm::default());
            answer.status = status(denial, &plain);
            let retry = plain
                .headers
                .into_iter()
                .find(|(name, _)| *name == "retry-after");
            answer.headers.extend(retry);
        }
        answer
    }

    /// A page that no script runs in, that nobody frames, and that nothing stores.
    fn answer(&self, status: u16, html: String) -> Answer {
        let styles = styles(&html);
        let policy = format!(
            "default-src 'none'; style-src {styles}; img-src 'self' https: data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        );
        Answer {
            status,
            headers: vec![
                ("content-type", "text/html; charset=utf-8".into()),
                ("cache-control", "no-store".into()),
                ("content-security-policy", policy.into()),
                ("referrer-policy", "same-origin".into()),
                ("x-content-type-options", "nosniff".into()),
                ("x-frame-options", "DENY".into()),
            ],
            body: html.into(),
        }
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({:?})", self.name)
    }
}

/// The links of a page.
struct Paths<'a> {
    sign_in: &'a str,
    sign_out: &'a str,
    signed_in: &'a str,
    keys: Option<&'a str>,
    action: &'a str,
    target: &'a str,
}

impl<'a> Paths<'a> {
    fn of(page: &'a Page, action: &'a str) -> Self {
        Self {
            sign_in: &page.places.sign_in,
            sign_out: &page.places.sign_out,
            signed_in: &page.places.signed_in,
            keys: page.places.keys.as_deref(),
            action,
            target: page.target.as_str(),
        }
    }
}

/// The value of a form: the one that it has already, or a new one.
fn kept_or_drawn(own: Option<&FormKey>) -> Result<FormKey, PagesFault> {
    match own {
        Some(key) => Ok(key.clone()),
        None => FormKey::draw().map_err(|_| PagesFault::NoRandomness),
    }
}

/// The cookie by which a renewal that failed is not tried again at once.
pub(crate) fn later(transport: Transport) -> String {
    CookieName::Later(transport).set("1", LATER.as_secs())
}

/// The status of a page that says why something was refused.
fn status(denial: &Denial, plain: &Answer) -> u16 {
    // A 401 would need a challenge, and the browser would ask in a dialog.
    match matches!(denial, Denial::InvalidCredentials(_)) {
        true => 422,
        false => plain.status,
    }
}

/// The hashes of the `style` elements: no other style counts.
fn styles(html: &str) -> String {
    let contents = html.split("<style>").skip(1);
    let hashes = contents.filter_map(|rest| {
        let (content, _) = rest.split_once("</style>")?;
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content.as_bytes());
        Some(format!("'sha256-{}'", BASE64_STANDARD.encode(hash)))
    });
    let hashes: Vec<_> = hashes.collect();
    match hashes.is_empty() {
        true => "'none'".into(),
        false => hashes.join(" "),
    }
}

/// What the user can do about a refusal. All wrong credentials read the same.
fn explain(denial: &Denial) -> String {
    if let Denial::Throttled(wait) = denial {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        return format!("Too many attempts. Please wait {seconds} seconds, then try again.");
    }
    let text = if matches!(denial, Denial::InvalidCredentials(_)) {
        "The name or the password is wrong."
    } else if matches!(denial, Denial::QueueFull(_)) {
        "Too many attempts. Please try again in a moment."
    } else if matches!(denial, Denial::ForeignForm) {
        "This page was open for too long, or your browser blocks cookies. Please try again."
    } else if matches!(denial, Denial::CrossSite) {
        "Another site sent this form. Please sign in here."
    } else if matches!(denial, Denial::Body(_)) {
        "Please enter your name and your password."
    } else if matches!(denial, Denial::Unavailable(_) | Denial::CallerGone) {
        "Signing in does not work at the moment. Please try again soon."
    } else {
        "This request cannot be answered. Please try again."
    };
    text.into()
}

fn explain_loop(cause: LoopCause, transport: Transport) -> String {
    match cause {
        LoopCause::NoCookies => match transport {
            Transport::Https => "Your browser sends no cookies. Either it blocks them for this site, or the page was loaded without https, where browsers refuse these cookies.".into(),
            Transport::Localhost => "Your browser sends no cookies. It probably blocks them for this site.".into(),
        },
        LoopCause::OnlySmall => "Your browser keeps small cookies, but not the one that signs you in. Either it is longer than 4096 bytes, because you have very many roles, or a gateway removes it on the way.".into(),
        LoopCause::Ambiguous(fault) => format!("Your browser sends a cookie that cannot be used: {fault}. Please delete the cookies of this site."),
        LoopCause::Refused(fault) => format!("The token in your cookie is refused: {fault}. The server that signed you in and the server that checks it may have different keys or clocks."),
    }
}

#[cfg(test)]
mod tests;
