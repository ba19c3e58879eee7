//! The table of the house: what becomes of every credential on every kind of route.

use super::{
    account::Account,
    credential::{Credential, Login, LoginBodyFault},
    decision::{
        Admission, Caller, Decision, Denial, Forwarding, Issued, LoginReply, Refusal, Unavailable,
    },
    password::{Hasher, Verdict},
    policy::{Access, Demand, Policy},
    request::{Answerable, LoginBody, Request, TokenForm},
    token::{Tokens, UnixTime},
};

/// The pure judge.
#[derive(Debug)]
pub struct Gate {
    /// What routes demand.
    pub policy: Policy,
    /// The key and the terms of tokens.
    pub tokens: Tokens,
    /// Verifies passwords.
    pub hasher: Hasher,
    /// Who answers a login that succeeded.
    pub reply: LoginReply,
    /// Whether the service sees Bearer tokens.
    pub forwards_bearer: bool,
    /// Whether CORS preflights pass.
    pub allows_preflight: bool,
}

/// What is next for a request.
#[derive(Debug)]
pub enum Step {
    /// Nothing: it is decided.
    Done(Decision),
    /// The account of this attempt must be fetched, and [`Gate::settle`] called with it.
    Login(Box<Attempt>),
}

/// A login that is not yet settled.
#[derive(Debug)]
pub struct Attempt {
    /// What somebody claims.
    pub login: Login,
    form: TokenForm,
}

impl Gate {
    /// Judges a request at `now`.
    #[must_use]
    pub fn judge(&self, request: &Request<'_>, now: UnixTime) -> Step {
        if self.passes_as_preflight(request) {
            return Step::Done(self.allow(Caller::Anonymous, request.credential));
        }
        let access = self
            .policy
            .access(request.method, request.host, &request.path);
        let decision = match access {
            Access::NoRule => Decision::Deny(Denial::Nobody),
            Access::TwoReadings(_) => Decision::Deny(Denial::TwoReadings),
            Access::NoHost => Decision::Deny(Denial::NoHost),
            Access::LoginMethod(rule) => {
                Decision::Deny(Denial::LoginMethod(rule.methods().to_vec()))
            }
            Access::Rule(rule) => match rule.demand() {
                Demand::Nobody => Decision::Deny(Denial::Nobody),
                Demand::Public => self.public(request.credential, now),
                Demand::Login => return self.log_in(request),
                Demand::SignedIn => self.signed_in(request.credential, now, |_| true),
                Demand::Role(wanted) => self.signed_in(request.credential, now, |caller| {
                    wanted.iter().any(|role| caller.roles.contains(role))
                }),
            },
        };
        Step::Done(decision)
    }

    /// A preflight asks whether the request it announces may be sent; it passes where that request has a rule under
    /// which somebody passes.
    fn passes_as_preflight(&self, request: &Request<'_>) -> bool {
        if !self.allows_preflight || request.credential != Credential::Absent {
            return false;
        }
        let Some(announced) = request.preflight else {
            return false;
        };
        match self.policy.access(announced, request.host, &request.path) {
            Access::Rule(rule) => match rule.demand() {
                Demand::Public | Demand::Login | Demand::SignedIn | Demand::Role(_) => true,
                Demand::Nobody => false,
            },
            Access::LoginMethod(_) | Access::NoRule | Access::TwoReadings(_) | Access::NoHost => {
                false
            }
        }
    }

    fn public(&self, credential: Credential<'_>, now: UnixTime) -> Decision {
        let caller = match credential {
            Credential::Bearer(compact) => match self.tokens.verify(compact, now) {
                Ok(identity) => Caller::Known(identity),
                Err(_) => Caller::Anonymous,
            },
            Credential::Absent
            | Credential::Basic(_)
            | Credential::Foreign
            | Credential::Malformed(_) => Caller::Anonymous,
        };
        self.allow(caller, credential)
    }

    fn signed_in(
        &self,
        credential: Credential<'_>,
        now: UnixTime,
        may: impl FnOnce(&super::account::Identity) -> bool,
    ) -> Decision {
        let compact = match credential {
            Credential::Bearer(compact) => compact,
            Credential::Absent | Credential::Basic(_) | Credential::Foreign => {
                return Decision::Deny(Denial::MissingToken);
            }
            Credential::Malformed(fault) => return Decision::Deny(Denial::MalformedToken(fault)),
        };
        match self.tokens.verify(compact, now) {
            Err(fault) => Decision::Deny(Denial::InvalidToken(fault)),
            Ok(identity) if may(&identity) => self.allow(Caller::Known(identity), credential),
            Ok(identity) => Decision::Deny(Denial::MissingRole(identity)),
        }
    }

    /// Takes the login that a request is; which route it came by has been decided.
    #[must_use]
    pub fn log_in(&self, request: &Request<'_>) -> Step {
        let login = match (request.answerable, request.credential, request.body) {
            (Answerable::Verdict, _, _) => Err(Denial::LoginInSubRequest),
            (Answerable::Anything, Credential::Basic(basic), _) => Login::from_basic(basic)
                .map_err(|fault| Denial::InvalidCredentials(Refusal::Basic(fault))),
            (Answerable::Anything, Credential::Malformed(fault), _) => {
                Err(Denial::MalformedCredentials(fault))
            }
            (Answerable::Anything, Credential::Absent, LoginBody::Json(body)) => {
                Login::from_json(body).map_err(Denial::LoginBody)
            }
            (Answerable::Anything, Credential::Absent, LoginBody::Form(body)) => {
                Login::from_form(body).map_err(Denial::LoginBody)
            }
            (Answerable::Anything, Credential::Absent, LoginBody::Partial) => {
                Err(Denial::LoginBody(LoginBodyFault::TooLong))
            }
            (Answerable::Anything, Credential::Absent, LoginBody::Absent)
            | (Answerable::Anything, Credential::Bearer(_) | Credential::Foreign, _) => {
                Err(Denial::MissingCredentials)
            }
        };
        match login {
            Ok(login) => Step::Login(Box::new(Attempt {
                login,
                form: request.form,
            })),
            Err(denial) => Step::Done(Decision::Deny(denial)),
        }
    }

    /// Settles a login with what the user table knows; takes as long for no account as for a wrong password.
    #[must_use]
    pub fn settle(&self, attempt: &Attempt, account: Option<Account>, now: UnixTime) -> Decision {
        // A collation may fold case, accents and trailing blanks, and fetch somebody else's row.
        let account = account.filter(|account| account.username == attempt.login.username);
        let hash = account.as_ref().map(|account| &account.hash);
        let verdict = self.hasher.verify(&attempt.login.password, hash);
        let Some(account) = account else {
            return refuse(Refusal::UnknownUser);
        };
        match (verdict, account.disabled) {
            (Verdict::Unsupported, _) => refuse(Refusal::UnsupportedHash(account.id)),
            (Verdict::Mismatch, _) => refuse(Refusal::WrongPassword(account.id)),
            (Verdict::Match, true) => refuse(Refusal::Disabled(account.id)),
            (Verdict::Match, false) => {
                let identity = account.into();
                match self.tokens.issue(&identity, now) {
                    Ok(token) => Decision::Issue(Issued {
                        identity,
                        token,
                        form: attempt.form,
                        reply: self.reply,
                    }),
                    Err(_) => Decision::Deny(Denial::Unavailable(Unavailable::Internal)),
                }
            }
        }
    }

    fn allow(&self, caller: Caller, credential: Credential<'_>) -> Decision {
        let authorization = match credential {
            Credential::Absent => Forwarding::Keep,
            Credential::Bearer(_) if self.forwards_bearer => Forwarding::Keep,
            Credential::Bearer(_)
            | Credential::Basic(_)
            | Credential::Foreign
            | Credential::Malformed(_) => Forwarding::Strip,
        };
        Decision::Allow(Admission {
            caller,
            authorization,
        })
    }
}

fn refuse(refusal: Refusal) -> Decision {
    Decision::Deny(Denial::InvalidCredentials(refusal))
}

#[cfg(test)]
mod tests;
