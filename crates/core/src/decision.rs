//! The result of a request: what every door must answer, without any wire format.
//!
//! A denial has two texts. [`Denial::answer`] is what the client reads, identical for cases that it must not
//! distinguish; [`Denial::reason`] is what the log shows.

mod answer;
mod denial;
mod reason;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use zeroize::Zeroizing;

use self::answer::{JSON, NO_STORE, PLAIN, refuse};
pub use self::{
    answer::{Answer, Realm},
    denial::{CheckFault, Denial, InvalidKey, Refusal, Unavailable, WeakPassword, Whose},
    reason::Reason,
};
use super::{
    account::Identity,
    browser_session::Renewal,
    cookie::{CookieEdit, CookieName, Transport},
    machine_key::MachineKeyId,
    principal::Principal,
    request::TokenForm,
    return_target::ReturnTarget,
    session::RefreshToken,
    token::Token,
};

/// The verdict on one request. There is no default, so each verdict is an explicit decision.
#[derive(Clone, Debug)]
pub enum Decision {
    /// The request may pass.
    Allow(Admission),
    /// The request may not pass.
    Deny(Denial),
    /// A token is issued.
    Issue(Issued),
    /// An endpoint of Doorward has finished, and there is no token to return.
    Done(Done),
}

impl Decision {
    /// The kind of the decision.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Allow(_) => Verdict::Allow,
            Self::Deny(_) => Verdict::Deny,
            Self::Issue(_) => Verdict::Issue,
            Self::Done(_) => Verdict::Done,
        }
    }

    /// The stable code of the reason, for the log.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Allow(admission) => match &admission.caller {
                Caller::Anonymous => Reason::Anonymous,
                Caller::Known(principal) if principal.key().is_some() => Reason::Key,
                Caller::Known(_) => Reason::Token,
            },
            Self::Deny(denial) => denial.reason(),
            Self::Issue(issued) => issued.by.reason(),
            Self::Done(done) => done.reason(),
        }
    }

    /// The user id, if it is known; never the name as typed.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Deny(denial) => denial.subject(),
            Self::Done(done) => done.subject(),
            Self::Allow(_) | Self::Issue(_) => {
                self.identity().map(|identity| identity.subject.as_str())
            }
        }
    }

    /// The user of the valid token that was presented or issued, if there is one.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Issue(issued) => Some(&issued.identity),
            Self::Allow(_) | Self::Deny(_) | Self::Done(_) => {
                self.principal().map(|principal| principal.identity())
            }
        }
    }

    /// The key for machines that was shown, whether or not it is valid.
    #[must_use]
    pub fn key(&self) -> Option<MachineKeyId> {
        match self {
            Self::Deny(Denial::InvalidKey(invalid)) => invalid.id,
            Self::Deny(denial) if let Denial::KeyRepeated(id) = denial.plain() => Some(*id),
            Self::Done(Done::Keys(keys)) => match keys.what {
                KeysChange::Added(id) | KeysChange::Ended(id) => Some(id),
                KeysChange::Listed => None,
            },
            Self::Allow(_) | Self::Deny(_) | Self::Issue(_) | Self::Done(_) => {
                self.principal().and_then(Principal::key)
            }
        }
    }

    /// The caller of the valid token that was presented, if there is one.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Allow(admission) => match &admission.caller {
                Caller::Anonymous => None,
                Caller::Known(principal) => Some(principal),
            },
            Self::Deny(Denial::MissingRole(principal) | Denial::KeyPath(principal)) => {
                Some(principal)
            }
            Self::Deny(_) | Self::Issue(_) | Self::Done(_) => None,
        }
    }
}

/// The kind of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The request passes.
    Allow,
    /// The request does not pass.
    Deny,
    /// A token is issued.
    Issue,
    /// An endpoint has finished.
    Done,
}

impl Verdict {
    /// The word in log, metrics and audit trail.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Issue => "issue",
            Self::Done => "done",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The result of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// One token, or all tokens of a user, are revoked.
    LoggedOut {
        /// The user id.
        subject: String,
        /// Whether all tokens are revoked.
        everywhere: bool,
    },
    /// A user is added.
    Registered {
        /// The user id, if the table returns it.
        subject: Option<String>,
    },
    /// A page is shown to a browser.
    Page(Box<Answer>),
    /// A browser has signed out.
    SignedOut {
        /// The user id, if there was a valid token.
        subject: Option<String>,
        /// The page, which also drops the cookie.
        page: Box<Answer>,
    },
    /// The keys of a user are listed, or one is made or ended.
    Keys(KeysDone),
}

/// The result of a request for keys for machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysDone {
    /// The user id.
    pub subject: String,
    /// What was done.
    pub what: KeysChange,
    /// The answer as JSON or as a page, which has the key itself if one was made.
    pub answer: KeysAnswer,
}

/// The answer to a request for keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysAnswer {
    /// For programs.
    Json(SecretText),
    /// For browsers.
    Page(Box<Answer>),
}

/// What was done with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysChange {
    /// They were listed.
    Listed,
    /// This one was made.
    Added(MachineKeyId),
    /// This one was ended.
    Ended(MachineKeyId),
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub Zeroizing<String>);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

impl Done {
    /// The stable code for the log.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::LoggedOut {
                everywhere: false, ..
            } => Reason::Logout,
            Self::LoggedOut {
                everywhere: true, ..
            } => Reason::LogoutEverywhere,
            Self::Registered { .. } => Reason::Register,
            Self::Page(_) => Reason::Page,
            Self::SignedOut { .. } => Reason::SignOut,
            Self::Keys(keys) => match keys.what {
                KeysChange::Listed => Reason::KeyList,
                KeysChange::Added(_) => Reason::KeyAdd,
                KeysChange::Ended(_) => Reason::KeyEnd,
            },
        }
    }

    /// The user id, if it is known.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::LoggedOut { subject, .. } => Some(subject),
            Self::Registered { subject } | Self::SignedOut { subject, .. } => subject.as_deref(),
            Self::Page(_) => None,
            Self::Keys(keys) => Some(&keys.subject),
        }
    }

    /// What the client reads.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let (status, body) = match self {
            Self::LoggedOut { .. } => (200, "Logged out"),
            Self::Registered { .. } => (201, "Registered"),
            Self::Page(page) | Self::SignedOut { page, .. } => return (**page).clone(),
            Self::Keys(keys) => match &keys.answer {
                KeysAnswer::Page(page) => return (**page).clone(),
                KeysAnswer::Json(body) => {
                    return Answer {
                        status: match keys.what {
                            KeysChange::Added(_) => 201,
                            KeysChange::Listed | KeysChange::Ended(_) => 200,
                        },
                        headers: vec![JSON, NO_STORE],
                        body: body.0.to_string().into(),
                    };
                }
            },
        };
        refuse(status, body, [])
    }
}

/// How a request passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Who is asking.
    pub caller: Caller,
    /// What happens to the `Authorization` header.
    pub authorization: Forwarding,
    /// The signed assertion about the caller, if services get one.
    pub assertion: Option<Assertion>,
    /// What happens to the `Cookie` header.
    pub cookies: CookieEdit,
    /// The cookie to renew, if half of its life is over.
    pub renewal: Option<Box<Renewal>>,
    /// The cookie that the answer of the service sets, if the door can add it.
    pub set_cookie: Option<Box<str>>,
}

/// A signed assertion about the caller. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Assertion(pub Arc<str>);

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertion(..)")
    }
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No valid token.
    Anonymous,
    /// The user of a valid token.
    Known(Arc<Principal>),
}

/// What happens to the `Authorization` header before the request reaches the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// It is forwarded unchanged.
    Keep,
    /// It is removed.
    Strip,
}

/// A successful login.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Who logged in.
    pub identity: Identity,
    /// The token that is issued.
    pub token: Token,
    /// The form in which the client wants it.
    pub form: TokenForm,
    /// Who answers the login.
    pub reply: LoginReply,
    /// The refresh token and its lifetime.
    pub refresh: Option<(RefreshToken, Duration)>,
    /// Why the token is issued.
    pub by: By,
    /// Where a browser goes with its cookie.
    pub entry: Option<Entry>,
}

/// How a browser enters after it has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it goes.
    pub target: ReturnTarget,
    /// How it reaches Doorward.
    pub transport: Transport,
}

/// Why a token is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A user name and a password.
    Login,
    /// A refresh token.
    Refresh,
    /// A change of the password, which revoked the previous token.
    Password,
    /// The form of the sign-in page.
    SignIn,
    /// A cookie at half of its life.
    Renewal,
}

impl By {
    /// The stable code for the log.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Login => Reason::Login,
            Self::Refresh => Reason::Refresh,
            Self::Password => Reason::Password,
            Self::SignIn => Reason::SignIn,
            Self::Renewal => Reason::Renewal,
        }
    }
}

/// Who answers a successful login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginReply {
    /// Doorward, with the token in header and body.
    Direct,
    /// The service behind the gateway; the token is added to its answer as a header.
    Through,
}

impl Issued {
    /// The headers that carry the token to the client, for both kinds of reply.
    #[must_use]
    pub fn token_headers(&self) -> Vec<(&'static str, Cow<'static, str>)> {
        let bearer = format!("Bearer {}", self.token.expose());
        let mut headers = vec![("authorization", bearer.into()), NO_STORE];
        if let Some((refresh, _)) = &self.refresh {
            headers.push(("x-refresh-token", refresh.expose().to_string().into()));
        }
        headers
    }

    /// The value of `Set-Cookie` for a browser.
    #[must_use]
    pub fn cookie(&self, transport: Transport) -> String {
        CookieName::Session(transport).set(self.token.expose(), self.token.lifetime.as_secs())
    }

    /// The whole answer, for [`LoginReply::Direct`] (RFC 6750, 4), or for a browser.
    #[must_use]
    pub fn answer(&self) -> Answer {
        if let Some(Entry { target, transport }) = &self.entry {
            let mut answer = Answer::see_other(target.as_str());
            (answer.headers).push(("set-cookie", self.cookie(*transport).into()));
            return answer;
        }
        let mut headers = self.token_headers();
        headers.push(("pragma", "no-cache".into()));
        headers.push(("vary", "accept, authorization".into()));
        let body = match self.form {
            // A cookie has an entry, so that its token never stands in a body.
            TokenForm::Cookie => {
                return refuse(403, "Forbidden", []);
            }
            TokenForm::Plain => {
                headers.push(PLAIN);
                self.token.expose().to_owned()
            }
            TokenForm::Json => {
                headers.push(JSON);
                let mut body = serde_json::json!({
                    "access_token": self.token.expose(),
                    "token_type": "Bearer",
                    "expires_in": self.token.lifetime.as_secs(),
                });
                if let (Some((refresh, lifetime)), Some(body)) =
                    (&self.refresh, body.as_object_mut())
                {
                    body.insert("refresh_token".into(), refresh.expose().as_str().into());
                    body.insert("refresh_expires_in".into(), lifetime.as_secs().into());
                }
                body.to_string()
            }
        };
        Answer {
            status: 200,
            headers,
            body: body.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::LoginFault;

    #[test]
    fn all_refusals_of_a_login_have_the_same_answer() {
        let realm = Realm::parse("doorward").unwrap();
        let answers = [
            Refusal::Basic(LoginFault::NoColon),
            Refusal::UnknownUser,
            Refusal::WrongPassword("1".into()),
            Refusal::Disabled("2".into()),
            Refusal::UnsupportedHash("3".into()),
            Refusal::ForeignName("4".into()),
        ]
        .map(|refusal| {
            let Answer {
                status,
                headers,
                body,
            } = Denial::InvalidCredentials(refusal).answer(&realm);
            (status, headers, body)
        });
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(answers[0].0, 401);
        assert_eq!(answers[0].2, "Invalid credentials");
    }
}
