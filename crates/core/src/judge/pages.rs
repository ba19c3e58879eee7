//! What the judge decides for browsers: which cookie counts, who is sent to the sign-in page, and what the pages and their
//! forms are asked for.

use std::sync::Arc;

use super::{Action, Attempt, Judge};
use crate::{
    cookie::{CookieEdit, CookieName},
    credential::{Compact, Credential, CredentialFault, Login},
    decision::{Denial, Unavailable},
    own_keys::KeysVisit,
    policy::Endpoint,
    principal::Principal,
    request::{Request, TokenForm},
    return_target::ReturnTarget,
    sign_in::{FormKey, LoopCause, Page, Renewal, SignIn, Visit, scheme},
    time::UnixTime,
};

type Cookie = (Arc<Principal>, Option<Box<Renewal>>);

impl Judge {
    /// The credential that counts: a cookie only if sign-in is on and there is neither `Authorization` nor a key.
    pub(super) fn shown<'a>(&self, request: &Request<'a>) -> Credential<'a> {
        match (&self.sign_in, request.credential) {
            (Some(sign_in), Credential::Absent) => {
                Credential::of_cookie(request.browser.cookies, sign_in.transport(request.host))
            }
            (_, credential) => credential,
        }
    }

    /// What the service sees of `Cookie`.
    pub(super) fn cookies(&self, request: &Request<'_>) -> CookieEdit {
        match &self.sign_in {
            Some(_) => request.browser.cookies.without_ours(),
            None => CookieEdit::Keep,
        }
    }

    /// The user of a cookie, if the cookie may count for this request.
    pub(super) fn cookie(
        &self,
        compact: Compact<'_>,
        request: &Request<'_>,
        now: UnixTime,
    ) -> Result<Cookie, Denial> {
        let Some(sign_in) = &self.sign_in else {
            return Err(Denial::MissingToken);
        };
        let transport = sign_in.transport(request.host);
        let browser = &request.browser;
        if !browser.may_use_cookie(request.method, scheme(transport)) {
            return Err(Denial::CrossSite);
        }
        self.verify_cookie(sign_in, compact, request, now)
    }

    fn verify_cookie(
        &self,
        sign_in: &SignIn,
        compact: Compact<'_>,
        request: &Request<'_>,
        now: UnixTime,
    ) -> Result<Cookie, Denial> {
        if self.revoked.are_stale(now) {
            return Err(Denial::Unavailable(Unavailable::Stale));
        }
        let transport = sign_in.transport(request.host);
        let token = (self.verifier)
            .verify_cookie(compact, now, &self.revoked, sign_in.session)
            .map_err(Denial::InvalidToken)?;
        // A renewal that failed a moment ago is not tried again at once.
        let waits = (request.browser.cookies.find(CookieName::Later(transport)))
            .is_ok_and(|later| later.is_some());
        let renewal = token.renewal.filter(|_| !waits);
        let renewal = renewal.map(|(session, generation)| {
            Box::new(Renewal {
                identity: token.principal.identity().clone(),
                session,
                generation,
                transport,
            })
        });
        Ok((token.principal, renewal))
    }

    /// Sends a user who goes to a page to the sign-in page; everything else gets the plain denial.
    pub(super) fn to_sign_in(&self, denial: Denial, request: &Request<'_>) -> Denial {
        let Some(sign_in) = &self.sign_in else {
            return denial;
        };
        let is_browser = matches!(
            self.shown(request),
            Credential::Absent
                | Credential::Cookie(_)
                | Credential::Malformed(CredentialFault::Cookie(_))
        );
        let helps = matches!(
            denial,
            Denial::MissingToken | Denial::InvalidToken(_) | Denial::MalformedToken(_)
        );
        match is_browser && helps && request.browser.navigates(request.method) {
            true => {
                let target = ReturnTarget::of_request(request.browser.target);
                sign_in.redirected(denial, &target)
            }
            false => denial,
        }
    }

    /// The redirect that renews a cookie, for doors that cannot add a header to the answer of the service.
    #[must_use]
    pub fn renewing_redirect(&self, request: &Request<'_>) -> Option<Denial> {
        let sign_in = self.sign_in.as_ref()?;
        request.browser.navigates(request.method).then(|| {
            let target = ReturnTarget::of_request(request.browser.target);
            sign_in.redirected(Denial::RenewalDue, &target)
        })
    }

    /// What a page or its form is asked for.
    pub(super) fn visit(
        &self,
        endpoint: Endpoint,
        request: &Request<'_>,
        now: UnixTime,
    ) -> Result<Action, Denial> {
        let sign_in = self.sign_in.as_ref().ok_or(Denial::Nobody)?;
        let transport = sign_in.transport(request.host);
        let page = Page {
            target: sign_in.back(&ReturnTarget::in_query(request.browser.target)),
            form: FormKey::of(&request.browser, transport),
            transport,
            places: sign_in.places.clone(),
        };
        if endpoint == Endpoint::KeysPage {
            return self.keys_page(sign_in, page, request, now);
        }
        let posts = request.method.as_str() == "POST";
        if let Credential::Malformed(fault) = request.credential {
            let denial = Denial::MalformedCredentials(fault);
            return Ok(Action::Visit(Visit::Refused(denial), Box::new(page)));
        }
        let visit = match endpoint {
            // A foreign site could sign the user out, or in as somebody else.
            _ if posts && !request.browser.is_same_origin(scheme(transport)) => {
                Visit::Refused(Denial::CrossSite)
            }
            Endpoint::SignIn if posts => match form(request, &page) {
                Ok(attempt) => return Ok(Action::SignIn(Box::new(attempt), Box::new(page))),
                Err(denial) => Visit::Refused(denial),
            },
            Endpoint::SignIn => match self.own_cookie(sign_in, request, now) {
                Ok((principal, renewal)) => Visit::Enter(principal, renewal),
                Err(Denial::Unavailable(unavailable)) => {
                    Visit::Refused(Denial::Unavailable(unavailable))
                }
                Err(denial) => Visit::Form(
                    (sign_in.comes_from_form(&request.browser)).then(|| cause(&denial, &page)),
                ),
            },
            Endpoint::SignedIn => match self.own_cookie(sign_in, request, now) {
                Ok((principal, _)) => Visit::SignedIn(principal),
                Err(denial @ Denial::Unavailable(_)) => Visit::Refused(denial),
                Err(denial) => {
                    let target = ReturnTarget::of_request(request.browser.target);
                    return Err(sign_in.redirected(denial, &target));
                }
            },
            Endpoint::SignOut => {
                let presented = match Credential::of_cookie(request.browser.cookies, transport) {
                    Credential::Cookie(compact) => {
                        self.verifier.open(compact, now, &self.revoked).ok()
                    }
                    Credential::Absent
                    | Credential::Basic(_)
                    | Credential::Bearer(_)
                    | Credential::Key(_)
                    | Credential::Foreign
                    | Credential::Malformed(_) => None,
                };
                Visit::SignOut(presented.map(Box::new))
            }
            Endpoint::Login
            | Endpoint::Logout
            | Endpoint::Refresh
            | Endpoint::Register
            | Endpoint::Password
            | Endpoint::Keys
            | Endpoint::KeysPage => return Err(Denial::Nobody),
        };
        Ok(Action::Visit(visit, Box::new(page)))
    }

    /// A person's own keys: only for a cookie that counts, so never for a key.
    fn keys_page(
        &self,
        sign_in: &SignIn,
        page: Page,
        request: &Request<'_>,
        now: UnixTime,
    ) -> Result<Action, Denial> {
        if !self.keys.is_on() {
            return Err(Denial::Nobody);
        }
        let own = ReturnTarget::of_request(request.browser.target);
        let page = Page {
            target: own.without_query(),
            ..page
        };
        let credential = self.shown(request);
        let verified = match credential {
            Credential::Cookie(compact) => self.verify_cookie(sign_in, compact, request, now),
            Credential::Absent => Err(Denial::MissingToken),
            Credential::Malformed(fault @ CredentialFault::Cookie(_)) => {
                Err(Denial::MalformedToken(fault))
            }
            // Without a redirect: the browser would be sent back at once, because its cookie is good.
            Credential::Basic(_)
            | Credential::Bearer(_)
            | Credential::Key(_)
            | Credential::Foreign
            | Credential::Malformed(_) => {
                self.bearer(credential, now)?;
                return Err(Denial::MissingToken);
            }
        };
        let principal = match verified {
            Ok((principal, _)) => principal,
            Err(denial @ Denial::Unavailable(_)) => {
                return Ok(Action::Visit(Visit::Refused(denial), Box::new(page)));
            }
            Err(denial) => return Err(sign_in.redirected(denial, &page.target)),
        };
        let visit = if request.method.as_str() != "POST" {
            KeysVisit::list()
        } else if !request.browser.is_same_origin(scheme(page.transport)) {
            KeysVisit::refused(Denial::CrossSite)
        } else {
            KeysVisit::of_form(request.body, page.form.as_ref(), principal.identity())
        };
        let visit = Visit::Keys(principal, Box::new(visit));
        Ok(Action::Visit(visit, Box::new(page)))
    }

    /// The cookie at one of the pages, whatever else the request has.
    fn own_cookie(
        &self,
        sign_in: &SignIn,
        request: &Request<'_>,
        now: UnixTime,
    ) -> Result<Cookie, Denial> {
        let transport = sign_in.transport(request.host);
        match Credential::of_cookie(request.browser.cookies, transport) {
            Credential::Cookie(compact) => self.verify_cookie(sign_in, compact, request, now),
            Credential::Malformed(fault) => Err(Denial::MalformedToken(fault)),
            Credential::Absent
            | Credential::Basic(_)
            | Credential::Bearer(_)
            | Credential::Key(_)
            | Credential::Foreign => Err(Denial::MissingToken),
        }
    }
}

/// The name and the password in the form, if the form is the one that this browser got.
fn form(request: &Request<'_>, page: &Page) -> Result<Attempt, Denial> {
    let [key] = request.body.read(["form"]).map_err(Denial::Body)?;
    if !page.form.as_ref().is_some_and(|own| own.is(&key)) {
        return Err(Denial::ForeignForm);
    }
    Ok(Attempt {
        login: Login::from_body(request.body).map_err(Denial::Body)?,
        form: TokenForm::Cookie,
    })
}

/// Why a browser comes back that was given a cookie a moment ago.
fn cause(denial: &Denial, page: &Page) -> LoopCause {
    if let Denial::InvalidToken(fault) = denial {
        LoopCause::Refused(*fault)
    } else if let Denial::MalformedToken(CredentialFault::Cookie(fault)) = denial {
        LoopCause::Ambiguous(*fault)
    } else if page.form.is_some() {
        LoopCause::OnlySmall
    } else {
        LoopCause::NoCookies
    }
}
