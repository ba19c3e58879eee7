//! Signing in and out with a browser: the flows of a login and a logout, whose answers are pages, and the renewal of a
//! cookie.

use std::sync::Arc;

use super::{Concluded, INTERNAL, Refused, Run, turn::CountedCaller};
use crate::{
    domain::{
        decision::{Answer, By, Decision, Denial, Done, Entry, Issued},
        judge::{Attempt, Logout},
        request::TokenForm,
        sign_in::{Page, Renewal, Visit},
    },
    login::desk::Grant,
    observe::spans::step,
    pages::{self, Pages, PagesFault},
    tables::users::UsersFault,
};

/// The result of a renewal.
#[derive(Debug)]
pub(in crate::actions) enum Renewed {
    Issued(Box<Issued>),
    /// The account is gone, disabled or changed.
    Refused,
    /// The row could not be read.
    Later,
}

impl Run {
    pub(super) async fn sign_in(
        &self,
        attempt: Box<Attempt>,
        page: &Page,
        caller: &CountedCaller,
    ) -> Result<Concluded, Refused> {
        let pages = self.pages()?;
        match self.login(attempt, caller).await {
            Ok(Concluded {
                decision: Decision::Issue(issued),
                cause,
                upgrade,
            }) => Ok(Concluded {
                decision: Decision::Issue(enter(issued, page)),
                cause,
                upgrade,
            }),
            Ok(_) => Err(INTERNAL.into()),
            Err(refused) => {
                let denial = shown(&pages, page, refused.denial);
                Err(Refused { denial, ..refused })
            }
        }
    }

    pub(super) async fn visit(&self, visit: Visit, page: &Page) -> Result<Concluded, Refused> {
        let pages = self.pages()?;
        let decision = match visit {
            Visit::Form(None) => done(pages.form(page, None))?,
            Visit::Form(Some(cause)) => {
                tracing::warn!(
                    ?cause,
                    "a browser returned to the sign-in form after a login; its cookie is missing or refused"
                );
                done(pages.loops(page, cause))?
            }
            Visit::Refused(denial) => return Err(shown(&pages, page, denial).into()),
            Visit::SignedIn(principal) => {
                done(pages.signed_in(page, principal.identity().username.as_str()))?
            }
            Visit::Enter(_, None) => go_on(page),
            Visit::Enter(_, Some(renewal)) => match self.renew(&renewal).await {
                Renewed::Issued(issued) => Decision::Issue(enter(*issued, page)),
                // The cookie is valid for a while yet.
                Renewed::Refused | Renewed::Later => {
                    let Decision::Done(Done::Page(mut answer)) = go_on(page) else {
                        return Err(INTERNAL.into());
                    };
                    let later = pages::later(page.transport);
                    answer.headers.push(("set-cookie", later.into()));
                    Decision::Done(Done::Page(answer))
                }
            },
            Visit::Keys(principal, visit) => {
                return self
                    .keys_page(principal.identity(), *visit, page, &pages)
                    .await;
            }
            Visit::SignOut(presented) => {
                let subject = match presented {
                    None => None,
                    Some(presented) => {
                        let logout = Logout {
                            presented: *presented,
                            everywhere: false,
                        };
                        if let Err(refused) = self.logout(&logout).await {
                            let denial = shown(&pages, page, refused.denial);
                            return Err(Refused { denial, ..refused });
                        }
                        Some(logout.presented.identity.subject)
                    }
                };
                let page = pages.signed_out(page).map_err(|fault| broken(&fault))?;
                Decision::Done(Done::SignedOut {
                    subject,
                    page: Box::new(page),
                })
            }
        };
        Ok(decision.into())
    }

    /// Issues the next token of a browser's session, if the account may still have one. Its roles are those of the row.
    pub(in crate::actions) async fn renew(&self, renewal: &Renewal) -> Renewed {
        let Renewal {
            identity,
            session,
            generation: own,
            transport: _,
        } = renewal;
        let find = self.actions.store.users.find(&identity.username);
        let account = match step("fetch row", find).await {
            Ok(account) => account,
            Err(UsersFault::Row(_)) => None,
            Err(_) => return Renewed::Later,
        };
        let revoked = &self.rules.judge.revoked;
        let generation = (self.actions.store)
            .generation(&identity.subject, revoked)
            .await;
        let account = account.filter(|account| {
            account.id == identity.subject
                && !account.disabled
                && generation <= *own
                && self.rules.desk.names.is_foreign(account).is_none()
        });
        let Some(account) = account else {
            return Renewed::Refused;
        };
        let issued = self.issue(Grant {
            identity: account.into(),
            generation,
            refresh: None,
            browser: Some(session.clone()),
            form: TokenForm::Cookie,
            by: By::Renewal,
        });
        issued.map_or(Renewed::Later, |issued| Renewed::Issued(Box::new(issued)))
    }

    fn pages(&self) -> Result<Arc<Pages>, Denial> {
        self.rules.pages.clone().ok_or(Denial::Nobody)
    }
}

fn enter(issued: Issued, page: &Page) -> Issued {
    Issued {
        entry: Some(Entry {
            target: page.target.clone(),
            transport: page.transport,
        }),
        ..issued
    }
}

/// The redirect of a browser that has a valid cookie.
fn go_on(page: &Page) -> Decision {
    let answer = Answer::see_other(page.target.as_str());
    Decision::Done(Done::Page(Box::new(answer)))
}

fn done(page: Result<Answer, PagesFault>) -> Result<Decision, Denial> {
    let page = page.map_err(|fault| broken(&fault))?;
    Ok(Decision::Done(Done::Page(Box::new(page))))
}

/// A refusal that the browser sees as the form with a message.
fn shown(pages: &Pages, page: &Page, denial: Denial) -> Denial {
    match pages.form(page, Some(&denial)) {
        Ok(answer) => Denial::Shown(Box::new(denial), Box::new(answer)),
        Err(fault) => broken(&fault),
    }
}

pub(super) fn broken(fault: &PagesFault) -> Denial {
    tracing::error!(cause = %fault, "a page cannot be rendered");
    INTERNAL
}
