//! Signing in with a browser: which cookies count for a host, who is sent to the page, and what the page and its forms are
//! asked for.
//!
//! Must not know: what a page looks like, passwords.

use std::{sync::Arc, time::Duration};

pub use super::{
    browser_session::{BrowserSession, Renewal},
    form_key::FormKey,
};
use super::{
    cookie::{CookieFault, Transport},
    decision::{Answer, Denial},
    own_keys::KeysVisit,
    policy::{Demand, Endpoint, Policy},
    principal::Principal,
    request::{Host, browser::Browser},
    return_target::ReturnTarget,
    token::Presented,
    token_fault::TokenFault,
};

/// The settings of signing in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// How long a browser stays signed in after a password.
    pub session: Duration,
    /// Whether `http://localhost` gets a cookie without `Secure`.
    pub localhost: bool,
    /// Where browsers find the pages.
    pub places: Places,
}

/// The paths of the pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The form.
    pub sign_in: String,
    /// Where the button to sign out posts to.
    pub sign_out: String,
    /// The page that says who has signed in.
    pub signed_in: String,
    /// The page with the keys of a user, if a rule names it.
    pub keys: Option<String>,
}

impl Places {
    /// Where rules put the pages; otherwise the paths of the HTTP port.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        Self {
            sign_in: policy.place_of(Endpoint::SignIn),
            sign_out: policy.place_of(Endpoint::SignOut),
            signed_in: policy.place_of(Endpoint::SignedIn),
            keys: (policy.rules().iter())
                .any(|rule| *rule.demand() == Demand::Endpoint(Endpoint::KeysPage))
                .then(|| policy.place_of(Endpoint::KeysPage)),
        }
    }
}

impl SignIn {
    /// How a browser reaches this host.
    #[must_use]
    pub fn transport(&self, host: Host<'_>) -> Transport {
        let is_localhost = host
            .name()
            .is_some_and(|name| name.eq_ignore_ascii_case("localhost"));
        match self.localhost && is_localhost {
            true => Transport::Localhost,
            false => Transport::Https,
        }
    }

    /// A denial that a browser sees as the redirect to the page, and back to `target`.
    pub(crate) fn redirected(&self, denial: Denial, target: &ReturnTarget) -> Denial {
        Denial::Shown(Box::new(denial), Box::new(self.redirect(target)))
    }

    /// The redirect of a browser to the page, and back to `target`.
    #[must_use]
    fn redirect(&self, target: &ReturnTarget) -> Answer {
        Answer::see_other(&self.back(target).behind(&self.places.sign_in))
    }

    /// Where to go after the page: never to a page that leads to it again.
    #[must_use]
    pub fn back(&self, target: &ReturnTarget) -> ReturnTarget {
        let Places {
            sign_in,
            sign_out,
            signed_in: _,
            keys: _,
        } = &self.places;
        match target.path() == sign_in || target.path() == sign_out {
            true => ReturnTarget::root(),
            false => target.clone(),
        }
    }

    /// Whether a browser comes from the form of the page: only the redirects after a form lead back to the page.
    #[must_use]
    pub(crate) fn comes_from_form(&self, browser: &Browser<'_>) -> bool {
        let rest = browser.referer.and_then(|referer| {
            [&b"https://"[..], b"http://"]
                .into_iter()
                .find_map(|scheme| referer.strip_prefix(scheme))
        });
        let path = rest.and_then(|rest| {
            let path = rest.get(rest.iter().position(|byte| *byte == b'/')?..)?;
            path.split(|byte| *byte == b'?').next()
        });
        path == Some(self.places.sign_in.as_bytes())
    }
}

/// The scheme in the `Origin` of a page.
pub(crate) fn scheme(transport: Transport) -> &'static str {
    match transport {
        Transport::Https => "https",
        Transport::Localhost => "http",
    }
}

/// A page, and what its form must contain.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where the browser goes afterwards.
    pub target: ReturnTarget,
    /// The value that binds the form to the browser, if it has one already: two tabs have the same.
    pub form: Option<FormKey>,
    /// How the browser reaches Doorward.
    pub transport: Transport,
    /// The paths of the pages.
    pub places: Places,
}

/// What a page is asked for.
#[derive(Debug)]
pub enum Visit {
    /// The form, and why the browser has come back to it after it signed in.
    Form(Option<LoopCause>),
    /// The form was refused.
    Refused(Denial),
    /// The user has signed in already, and goes on. At half of its life, the cookie is renewed.
    Enter(Arc<Principal>, Option<Box<Renewal>>),
    /// Who has signed in.
    SignedIn(Arc<Principal>),
    /// The token of the cookie is to end, if it is valid.
    SignOut(Option<Box<Presented>>),
    /// The keys of a user, and what is to be done with them.
    Keys(Arc<Principal>, Box<KeysVisit>),
}

/// Why a browser that has signed in is not signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopCause {
    /// No cookie comes back, not even that of the form.
    NoCookies,
    /// The cookie of the form comes back, but not the session's, which is larger.
    OnlySmall,
    /// Two cookies of this name, or a malformed one.
    Ambiguous(CookieFault),
    /// The token in the cookie is refused.
    Refused(TokenFault),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign_in(localhost: bool) -> SignIn {
        SignIn {
            session: Duration::from_secs(3600),
            localhost,
            places: Places {
                sign_in: "/sign-in".into(),
                sign_out: "/sign-out".into(),
                signed_in: "/signed-in".into(),
                keys: None,
            },
        }
    }

    #[test]
    fn only_localhost_may_do_without_https() {
        for (allowed, host, expected) in [
            (true, "localhost", Transport::Localhost),
            (true, "LOCALHOST:8080", Transport::Localhost),
            (true, "localhost.example", Transport::Https),
            (true, "127.0.0.1:8080", Transport::Https),
            (true, "", Transport::Https),
            (false, "localhost", Transport::Https),
        ] {
            let host = Host::parse(host.as_bytes()).unwrap();
            assert_eq!(sign_in(allowed).transport(host), expected, "{host:?}");
        }
    }

    #[test]
    fn a_redirect_never_leads_in_a_circle() {
        let to = |target: &str| {
            let target = ReturnTarget::parse(target.as_bytes()).unwrap();
            let answer = sign_in(false).redirect(&target);
            assert_eq!(answer.status, 303);
            let (_, location) = (answer.headers.into_iter())
                .find(|(name, _)| *name == "location")
                .unwrap();
            location.into_owned()
        };
        assert_eq!(to("/a?b=c&d"), "/sign-in?return=/a%3Fb%3Dc%26d");
        assert_eq!(to("/sign-in?return=/a"), "/sign-in?return=/");
        assert_eq!(to("/sign-out"), "/sign-in?return=/");
        assert_eq!(to("/signed-in"), "/sign-in?return=/signed-in");
    }

    #[test]
    fn only_the_form_leads_back_to_the_form() {
        for (referer, expected) in [
            (Some("https://app.example/sign-in?return=/a"), true),
            (Some("http://localhost:8080/sign-in"), true),
            (Some("https://app.example/a?/sign-in"), false),
            (Some("https://app.example"), false),
            (Some("/sign-in"), false),
            (None, false),
        ] {
            let browser = Browser {
                referer: referer.map(str::as_bytes),
                ..Browser::default()
            };
            assert_eq!(
                sign_in(false).comes_from_form(&browser),
                expected,
                "{referer:?}"
            );
        }
    }
}
