//! The table of the house: what becomes of every credential on every kind of route.

use std::{sync::Arc, time::Duration};

use super::{
    account::{Account, Identity, Username},
    credential::{Compact, Credential, CredentialFault, Login},
    decision::{
        Admission, By, Caller, Decision, Denial, Forwarding, Issued, LoginReply, Refusal,
        Unavailable,
    },
    enrolment::{NameRules, PasswordRules, canonical_name},
    fields::{Body, BodyFault},
    password::{Hasher, LengthClass, Password, PasswordHash, Verdict},
    policy::{Access, Demand, Endpoint, Policy, Rule},
    request::{Answerable, Request, RequestFault, TokenForm},
    revocation::{Generation, Revocations},
    session::{RefreshFault, RefreshToken},
    token::{Presented, TokenFault, Tokens, UnixTime},
};

/// The pure judge.
#[derive(Debug)]
pub struct Gate {
    /// What routes demand.
    pub policy: Policy,
    /// The key and the terms of tokens.
    pub tokens: Tokens,
    /// Which tokens have ended before they expire.
    pub ended: Arc<Revocations>,
    /// Hashes and verifies passwords.
    pub hasher: Arc<Hasher>,
    /// What new passwords must be.
    pub passwords: PasswordRules,
    /// Which names are somebody else's.
    pub names: NameRules,
    /// How long sessions last, where refresh tokens are handed out.
    pub sessions: Option<Duration>,
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
    /// Something that takes waiting.
    Errand(Errand),
}

/// What is next, and the rule that says so, where one does.
#[derive(Debug)]
pub struct Judged<'p> {
    /// Which rule decided.
    pub rule: Option<&'p Rule>,
    /// What is next.
    pub step: Step,
}

/// What takes waiting: rows, and hashes.
#[derive(Debug)]
pub enum Errand {
    /// The account of this attempt must be fetched, and [`Gate::settle`] called with it.
    Login(Box<Attempt>),
    /// A token is to end, or all of a user's.
    Logout(Box<Logout>),
    /// A session is to go on.
    Refresh(RefreshToken, TokenForm),
    /// A user is to be added.
    Register(Box<Registration>),
    /// A password is to be replaced, if the current one is right.
    Password(Box<PasswordChange>),
}

/// A login that is not yet settled.
#[derive(Debug)]
pub struct Attempt {
    /// What somebody claims.
    pub login: Login,
    form: TokenForm,
}

/// A logout.
#[derive(Debug)]
pub struct Logout {
    /// The token that was shown.
    pub presented: Presented,
    /// Whether every token of the user is to end.
    pub everywhere: bool,
}

/// A registration that is not yet looked at.
#[derive(Debug)]
pub struct Registration {
    /// The name that is to be.
    pub username: Username,
    password: Password,
}

/// A change of a password that is not yet settled.
#[derive(Debug)]
pub struct PasswordChange {
    /// Whose.
    pub identity: Identity,
    current: Password,
    new: Password,
    form: TokenForm,
}

/// What a new token is made of.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Who it speaks for.
    pub identity: Identity,
    /// The generation of the user's tokens.
    pub generation: Generation,
    /// The refresh token that goes with it, where there is one already.
    pub refresh: Option<RefreshToken>,
    /// The form they want it in.
    pub form: TokenForm,
    /// What it is for.
    pub by: By,
}

impl Gate {
    /// Judges a request at `now`.
    #[must_use]
    pub fn judge(&self, request: &Request<'_>, now: UnixTime) -> Judged<'_> {
        if let Some(rule) = self.passes_as_preflight(request) {
            return Judged {
                rule: Some(rule),
                step: Step::Done(self.allow(Caller::Anonymous, request.credential)),
            };
        }
        let access = self
            .policy
            .access(request.method, request.host, &request.path);
        let (rule, decision) = match access {
            Access::NoRule => (None, Decision::Deny(Denial::Nobody)),
            Access::TwoReadings(_) => (None, Decision::Deny(Denial::TwoReadings)),
            Access::NoHost => (None, Decision::Deny(Denial::NoHost)),
            Access::MethodCase => {
                let denial = Denial::Malformed(RequestFault::MethodCase);
                (None, Decision::Deny(denial))
            }
            Access::EndpointMethod(rule) => {
                let denial = Denial::EndpointMethod(rule.allowed_methods());
                (Some(rule), Decision::Deny(denial))
            }
            Access::Rule(rule) => {
                let decision = match rule.demand() {
                    Demand::Nobody => Decision::Deny(Denial::Nobody),
                    Demand::Public => self.public(request.credential, now),
                    Demand::Endpoint(endpoint) => {
                        return Judged {
                            rule: Some(rule),
                            step: self.endpoint(*endpoint, request, now),
                        };
                    }
                    Demand::SignedIn => self.signed_in(request.credential, now, |_| true),
                    Demand::Role(wanted) => self.signed_in(request.credential, now, |caller| {
                        wanted.iter().any(|role| caller.roles.contains(role))
                    }),
                };
                (Some(rule), decision)
            }
        };
        Judged {
            rule,
            step: Step::Done(decision),
        }
    }

    /// A preflight asks whether the request it announces may be sent; it passes where that request has a rule under
    /// which somebody passes, unless a rule that names `OPTIONS` decides the preflight itself.
    fn passes_as_preflight(&self, request: &Request<'_>) -> Option<&Rule> {
        if !self.allows_preflight || request.credential != Credential::Absent {
            return None;
        }
        let announced = request.preflight?;
        match self
            .policy
            .access(request.method, request.host, &request.path)
        {
            Access::Rule(rule) if rule.names_method("OPTIONS") => return None,
            Access::Rule(_) | Access::EndpointMethod(_) | Access::NoRule => {}
            // One of the readings may be such a rule's.
            Access::TwoReadings(_) | Access::NoHost | Access::MethodCase => return None,
        }
        match self.policy.access(announced, request.host, &request.path) {
            Access::Rule(rule) => match rule.demand() {
                Demand::Public | Demand::Endpoint(_) | Demand::SignedIn | Demand::Role(_) => {
                    Some(rule)
                }
                Demand::Nobody => None,
            },
            Access::EndpointMethod(_)
            | Access::NoRule
            | Access::TwoReadings(_)
            | Access::NoHost
            | Access::MethodCase => None,
        }
    }

    fn public(&self, credential: Credential<'_>, now: UnixTime) -> Decision {
        let (caller, authorization) = match credential {
            // Two readings of who is asking, and a service may take the one that was not judged.
            Credential::Malformed(fault @ CredentialFault::Several) => {
                return Decision::Deny(Denial::MalformedToken(fault));
            }
            Credential::Bearer(compact) => match self.known(compact, now) {
                Ok(identity) => (Caller::Known(identity), self.forwarding(credential)),
                // A service that reads it all the same would believe what was refused here.
                Err(is_ours) if is_ours => (Caller::Anonymous, Forwarding::Strip),
                Err(_) => (Caller::Anonymous, self.forwarding(credential)),
            },
            Credential::Absent
            | Credential::Basic(_)
            | Credential::Foreign
            | Credential::Malformed(_) => (Caller::Anonymous, self.forwarding(credential)),
        };
        Decision::Allow(Admission {
            caller,
            authorization,
        })
    }

    /// Who a token speaks for; where it speaks for nobody, whether it is, or says that it is, for Doorward to judge.
    fn known(&self, compact: Compact<'_>, now: UnixTime) -> Result<Arc<Identity>, bool> {
        if self.ended.are_stale(now) {
            return Err(self.tokens.are_named_by(compact));
        }
        let verified = self.tokens.verify(compact, now, &self.ended);
        verified.map_err(|fault| fault == TokenFault::Ended || self.tokens.are_named_by(compact))
    }

    fn signed_in(
        &self,
        credential: Credential<'_>,
        now: UnixTime,
        may: impl FnOnce(&Identity) -> bool,
    ) -> Decision {
        let verified = self
            .bearer(credential, now)
            .and_then(|compact| self.verified(compact, now));
        match verified {
            Err(denial) => Decision::Deny(denial),
            Ok(identity) if may(&identity) => self.allow(Caller::Known(identity), credential),
            Ok(identity) => Decision::Deny(Denial::MissingRole(identity)),
        }
    }

    /// The one token that a credential is, where tokens can be judged at all.
    fn bearer<'a>(&self, credential: Credential<'a>, now: UnixTime) -> Result<Compact<'a>, Denial> {
        match credential {
            Credential::Bearer(_) if self.ended.are_stale(now) => {
                Err(Denial::Unavailable(Unavailable::Stale))
            }
            Credential::Bearer(compact) => Ok(compact),
            Credential::Absent | Credential::Basic(_) | Credential::Foreign => {
                Err(Denial::MissingToken)
            }
            Credential::Malformed(fault) => Err(Denial::MalformedToken(fault)),
        }
    }

    fn verified(&self, compact: Compact<'_>, now: UnixTime) -> Result<Arc<Identity>, Denial> {
        let verified = self.tokens.verify(compact, now, &self.ended);
        verified.map_err(Denial::InvalidToken)
    }

    fn presented(&self, credential: Credential<'_>, now: UnixTime) -> Result<Presented, Denial> {
        let compact = self.bearer(credential, now)?;
        let opened = self.tokens.open(compact, now, &self.ended);
        opened.map_err(Denial::InvalidToken)
    }

    /// The claims of a good token, as JSON, for whoever asks about it. Those of another issuer's token are as they were judged.
    ///
    /// # Errors
    ///
    /// Why the credential is not one.
    pub fn claims(&self, credential: Credential<'_>, now: UnixTime) -> Result<Vec<u8>, Denial> {
        let compact = self.bearer(credential, now)?;
        let claims = self.tokens.claims(compact, now, &self.ended);
        claims.map_err(Denial::InvalidToken)
    }

    /// Takes what a request asks of an endpoint; which route it came by has been decided.
    #[must_use]
    pub fn endpoint(&self, endpoint: Endpoint, request: &Request<'_>, now: UnixTime) -> Step {
        let errand = match (request.answerable, endpoint) {
            (Answerable::Verdict, _) => Err(Denial::EndpointInSubRequest),
            (Answerable::Anything, Endpoint::Login) => login(request),
            (Answerable::Anything, Endpoint::Logout) => self.logout(request, now),
            (Answerable::Anything, Endpoint::Refresh) => refresh(request),
            (Answerable::Anything, Endpoint::Register) => self.register(request),
            (Answerable::Anything, Endpoint::Password) => self.password(request, now),
        };
        match errand {
            Ok(errand) => Step::Errand(errand),
            Err(denial) => Step::Done(Decision::Deny(denial)),
        }
    }

    fn logout(&self, request: &Request<'_>, now: UnixTime) -> Result<Errand, Denial> {
        Ok(Errand::Logout(Box::new(Logout {
            presented: self.presented(request.credential, now)?,
            everywhere: request.all,
        })))
    }

    fn password(&self, request: &Request<'_>, now: UnixTime) -> Result<Errand, Denial> {
        let identity = self.presented(request.credential, now)?.identity;
        let [current, new] = (request.body)
            .read(["current_password", "new_password"])
            .map_err(Denial::Body)?;
        let possible = |text: &str, name| {
            Password::parse(text).ok_or(Denial::Body(BodyFault::Impossible(name)))
        };
        Ok(Errand::Password(Box::new(PasswordChange {
            identity,
            current: possible(&current, "current_password")?,
            new: possible(&new, "new_password")?,
            form: request.form,
        })))
    }

    fn register(&self, request: &Request<'_>) -> Result<Errand, Denial> {
        let [username, password] = (request.body)
            .read(["username", "password"])
            .map_err(Denial::Body)?;
        let username = canonical_name(&username).ok_or(Denial::NewName)?;
        if self.names.looks_foreign(&username).is_some() {
            return Err(Denial::ForeignName);
        }
        if self.names.is_reserved(&username) {
            return Err(Denial::ReservedName);
        }
        let password = Password::parse(&password);
        Ok(Errand::Register(Box::new(Registration {
            username,
            password: password.ok_or(Denial::Body(BodyFault::Impossible("password")))?,
        })))
    }

    /// Settles a login with what the user table knows; takes as long for no account as for a wrong password.
    ///
    /// # Errors
    ///
    /// [`Denial::InvalidCredentials`].
    pub fn settle(&self, attempt: &Attempt, account: Option<Account>) -> Result<Account, Denial> {
        self.verify(&attempt.login.username, &attempt.login.password, account)
    }

    /// The account, if the password is its and it may be used.
    fn verify(
        &self,
        username: &Username,
        password: &Password,
        account: Option<Account>,
    ) -> Result<Account, Denial> {
        // A collation may fold case, accents and trailing blanks, and fetch somebody else's row.
        let account = account.filter(|account| account.username == *username);
        let hash = account.as_ref().map(|account| &account.hash);
        let verdict = self.hasher.verify(password, hash);
        let refusal = match (verdict, account) {
            (_, None) => Refusal::UnknownUser,
            (Verdict::Unsupported, Some(account)) => Refusal::UnsupportedHash(account.id),
            (Verdict::Mismatch, Some(account)) => Refusal::WrongPassword(account.id),
            (Verdict::Match, Some(account)) if account.disabled => Refusal::Disabled(account.id),
            (Verdict::Match, Some(account)) if self.names.is_foreign(&account).is_some() => {
                Refusal::ForeignName(account.id)
            }
            (Verdict::Match, Some(account)) => return Ok(account),
        };
        Err(Denial::InvalidCredentials(refusal))
    }

    /// Hands out a token, and a refresh token where sessions are.
    #[must_use]
    pub fn issue(&self, grant: Grant, now: UnixTime) -> Decision {
        let Grant {
            identity,
            generation,
            refresh,
            form,
            by,
        } = grant;
        let internal = Decision::Deny(Denial::Unavailable(Unavailable::Internal));
        let refresh = match (self.sessions, refresh) {
            (None, _) => None,
            (Some(lifetime), Some(refresh)) => Some((refresh, lifetime)),
            (Some(lifetime), None) => match RefreshToken::generate() {
                Ok(refresh) => Some((refresh, lifetime)),
                Err(_) => return internal,
            },
        };
        let session = refresh.as_ref().map(|(refresh, _)| refresh.session_id());
        let token = self
            .tokens
            .issue(&identity, generation, session.as_deref(), now);
        let Ok(token) = token else {
            return internal;
        };
        let reply = match by {
            By::Login => self.reply,
            By::Refresh | By::Password => LoginReply::Direct,
        };
        Decision::Issue(Issued {
            identity,
            token,
            form,
            reply,
            refresh,
            by,
        })
    }

    /// A better hash of the password of a login that succeeded.
    #[must_use]
    pub fn rehash(&self, attempt: &Attempt) -> Option<PasswordHash> {
        self.hasher.hash(&attempt.login.password).ok()
    }

    /// The hash of a new user's password.
    ///
    /// # Errors
    ///
    /// [`Denial::WeakPassword`], or hashing failed.
    pub fn enrol(&self, registration: &Registration) -> Result<PasswordHash, Denial> {
        self.new_hash(&registration.username, &registration.password)
    }

    /// The account whose password may be replaced, and the hash that is to be.
    ///
    /// # Errors
    ///
    /// The current password is not the account's, or the new one is not good enough.
    pub fn settle_password(
        &self,
        change: &PasswordChange,
        account: Option<Account>,
    ) -> Result<(Account, PasswordHash), Denial> {
        let account = account.filter(|account| account.id == change.identity.subject);
        let account = self.verify(&change.identity.username, &change.current, account)?;
        let new = self.new_hash(&account.username, &change.new)?;
        Ok((account, new))
    }

    fn new_hash(&self, username: &Username, password: &Password) -> Result<PasswordHash, Denial> {
        (self.passwords.check(password, username)).map_err(Denial::WeakPassword)?;
        let hash = self.hasher.hash(password);
        hash.map_err(|_| Denial::Unavailable(Unavailable::Internal))
    }

    fn allow(&self, caller: Caller, credential: Credential<'_>) -> Decision {
        Decision::Allow(Admission {
            caller,
            authorization: self.forwarding(credential),
        })
    }

    fn forwarding(&self, credential: Credential<'_>) -> Forwarding {
        match credential {
            Credential::Absent => Forwarding::Keep,
            Credential::Bearer(_) if self.forwards_bearer => Forwarding::Keep,
            Credential::Bearer(_)
            | Credential::Basic(_)
            | Credential::Foreign
            | Credential::Malformed(_) => Forwarding::Strip,
        }
    }
}

impl Attempt {
    /// What the token is made of.
    #[must_use]
    pub fn grant(&self, account: Account, generation: Generation) -> Grant {
        Grant::begun(account, generation, self.form, By::Login)
    }
}

impl PasswordChange {
    /// How long the current password is that was typed.
    #[must_use]
    pub fn current_class(&self) -> LengthClass {
        self.current.length_class()
    }

    /// What the new token is made of.
    #[must_use]
    pub fn grant(&self, account: Account, generation: Generation) -> Grant {
        Grant::begun(account, generation, self.form, By::Password)
    }
}

impl Grant {
    /// What begins a session of its own.
    fn begun(account: Account, generation: Generation, form: TokenForm, by: By) -> Self {
        Self {
            identity: account.into(),
            generation,
            refresh: None,
            form,
            by,
        }
    }
}

fn login(request: &Request<'_>) -> Result<Errand, Denial> {
    let login = match (request.credential, request.body) {
        (Credential::Basic(basic), _) => Login::from_basic(basic)
            .map_err(|fault| Denial::InvalidCredentials(Refusal::Basic(fault)))?,
        (Credential::Malformed(fault), _) => return Err(Denial::MalformedCredentials(fault)),
        (Credential::Absent, Body::Absent) | (Credential::Bearer(_) | Credential::Foreign, _) => {
            return Err(Denial::MissingCredentials);
        }
        (Credential::Absent, body) => Login::from_body(body).map_err(Denial::Body)?,
    };
    Ok(Errand::Login(Box::new(Attempt {
        login,
        form: request.form,
    })))
}

fn refresh(request: &Request<'_>) -> Result<Errand, Denial> {
    let [token] = (request.body)
        .read(["refresh_token"])
        .map_err(Denial::Body)?;
    let malformed = Denial::InvalidRefresh(RefreshFault::Malformed, None);
    let token = RefreshToken::parse(&token).ok_or(malformed)?;
    Ok(Errand::Refresh(token, request.form))
}

#[cfg(test)]
mod tests;
