//! Judges every credential on every kind of route.
//!
//! Must not know: password hashes, signing keys, tables.

mod action;
mod pages;

use std::sync::Arc;

pub use self::action::{Action, Attempt, KeyRequest, Logout, PasswordChange, Registration};
use self::action::{login, refresh, register};
use super::{
    account::{Identity, Roles},
    body::BodyFault,
    cookie::CookieEdit,
    credential::{Compact, Credential, CredentialFault},
    decision::{Admission, Caller, Decision, Denial, Forwarding, InvalidKey, Unavailable},
    machine_key::MachineKeyId,
    machine_keys::{KeyRefusal, KeySource, ShownKey},
    own_keys::{KeyWish, new_key},
    password::Password,
    policy::{Access, Demand, Endpoint, Policy, Rule},
    principal::Principal,
    request::{Answerable, Request, RequestFault},
    revocation::Revocations,
    sign_in::SignIn,
    token::{Presented, TokenFault, UnixTime, ValidToken, Verifier},
};

/// Decides every request for which nothing must be awaited. It verifies tokens, but has no password rules and signs
/// nothing.
#[derive(Debug)]
pub struct Judge {
    /// The rules.
    pub policy: Policy,
    /// Verifies tokens.
    pub verifier: Verifier,
    /// Which tokens are revoked before they expire.
    pub revoked: Arc<Revocations>,
    /// Whether the service sees Bearer tokens.
    pub forwards_bearer: bool,
    /// Whether CORS preflights pass.
    pub allows_preflight: bool,
    /// Keys for machines.
    pub keys: KeySource,
    /// Signing in with a browser, if it is on.
    pub sign_in: Option<SignIn>,
}

/// What comes next for a request.
#[derive(Debug)]
pub enum Step {
    /// Nothing: the request is decided.
    Done(Decision),
    /// An action, which the program runs and waits for.
    Act(Action),
    /// The request shows a key, and the keys are elsewhere: Doorward decides.
    Defer,
}

/// The next step, and the rule that requires it, if a rule does.
#[derive(Debug)]
pub struct Judged<'p> {
    /// The rule that decided.
    pub rule: Option<&'p Rule>,
    /// The next step.
    pub step: Step,
}

impl Judge {
    /// Judges a request at `now`.
    #[must_use]
    pub fn judge(&self, request: &Request<'_>, now: UnixTime) -> Judged<'_> {
        self.judge_by(&self.policy, request, now)
    }

    /// Judges a request by other rules than those in force.
    #[must_use]
    pub fn judge_by<'p>(
        &self,
        policy: &'p Policy,
        request: &Request<'_>,
        now: UnixTime,
    ) -> Judged<'p> {
        if let Some(rule) = self.passes_as_preflight(policy, request) {
            return Judged {
                rule: Some(rule),
                step: Step::Done(self.allow(Caller::Anonymous, request)),
            };
        }
        let access = policy.access(request.method, request.host, &request.path);
        self.judge_access(access, request, now)
    }

    /// Judges a request that is not a preflight, or whose preflight does not pass as one.
    pub(crate) fn judge_access<'p>(
        &self,
        access: Access<'p>,
        request: &Request<'_>,
        now: UnixTime,
    ) -> Judged<'p> {
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
                return Judged {
                    rule: Some(rule),
                    step: self.by_rule(rule, request, now),
                };
            }
        };
        Judged {
            rule,
            step: Step::Done(decision),
        }
    }

    fn by_rule(&self, rule: &Rule, request: &Request<'_>, now: UnixTime) -> Step {
        let is_wanted =
            |roles: &Roles, caller: &Identity| roles.iter().any(|role| caller.roles.contains(role));
        let by_token = || match rule.demand() {
            Demand::Nobody | Demand::Endpoint(_) => Decision::Deny(Denial::Nobody),
            Demand::Public => self.public(request, now),
            Demand::SignedIn => self.signed_in(request, now, |_| true),
            Demand::Role(roles) => self.signed_in(request, now, |caller| is_wanted(roles, caller)),
        };
        match rule.demand() {
            Demand::Nobody => Step::Done(Decision::Deny(Denial::Nobody)),
            Demand::Endpoint(endpoint) => self.endpoint(*endpoint, request, now),
            demand @ (Demand::Public | Demand::SignedIn | Demand::Role(_)) => {
                let takes_basic = rule.takes_basic_keys();
                match (&self.keys, ShownKey::of(request.credential, takes_basic)) {
                    (KeySource::Off, _) => Step::Done(by_token()),
                    (KeySource::Here(_) | KeySource::Elsewhere, None) => {
                        Step::Done(match by_token() {
                            // Programs such as git send Basic only after this challenge.
                            Decision::Deny(Denial::MissingToken) if takes_basic => {
                                Decision::Deny(Denial::MissingKey)
                            }
                            decision @ (Decision::Allow(_)
                            | Decision::Deny(_)
                            | Decision::Issue(_)
                            | Decision::Done(_)) => decision,
                        })
                    }
                    (KeySource::Elsewhere, Some(_)) => Step::Defer,
                    (KeySource::Here(keys), Some(key)) => {
                        let verified = match self.revoked.are_stale(now) {
                            true => Err(KeyRefusal::Unread),
                            false => keys.verify(key.as_str(), &request.path, now, &self.revoked),
                        };
                        let cookies = || self.cookies(request);
                        Step::Done(match demand {
                            Demand::Public => public_by_key(verified, cookies()),
                            Demand::SignedIn => by_key(&key, verified, cookies, |_| true),
                            Demand::Role(roles) => {
                                by_key(&key, verified, cookies, |caller| is_wanted(roles, caller))
                            }
                            Demand::Endpoint(_) | Demand::Nobody => Decision::Deny(Denial::Nobody),
                        })
                    }
                }
            }
        }
    }

    /// A preflight asks whether the announced request may be sent. It passes if a rule allows that request for some
    /// user, unless a rule that names `OPTIONS` decides the preflight itself.
    fn passes_as_preflight<'p>(
        &self,
        policy: &'p Policy,
        request: &Request<'_>,
    ) -> Option<&'p Rule> {
        if !self.allows_preflight || request.credential != Credential::Absent {
            return None;
        }
        let announced = request.preflight?;
        match policy.access(request.method, request.host, &request.path) {
            Access::Rule(rule) if rule.names_method("OPTIONS") => return None,
            Access::Rule(_) | Access::EndpointMethod(_) | Access::NoRule => {}
            // One of the readings may fall under such a rule.
            Access::TwoReadings(_) | Access::NoHost | Access::MethodCase => return None,
        }
        match policy.access(announced, request.host, &request.path) {
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

    fn public(&self, request: &Request<'_>, now: UnixTime) -> Decision {
        let credential = self.shown(request);
        let mut renewal = None;
        let (caller, authorization) = match credential {
            // Two credentials: a service may read the one that was not judged.
            Credential::Malformed(fault @ CredentialFault::Several) => {
                return Decision::Deny(Denial::MalformedToken(fault));
            }
            Credential::Bearer(compact) => match self.known(compact, now) {
                Ok(principal) => (Caller::Known(principal), self.forwarding(credential)),
                // The refused token claims to be Doorward's; a service that reads it would trust it.
                Err(is_ours) if is_ours => (Caller::Anonymous, Forwarding::Strip),
                Err(_) => (Caller::Anonymous, self.forwarding(credential)),
            },
            // Like a bad token, a cookie that does not count is only taken off.
            Credential::Cookie(compact) => {
                let caller = match self.cookie(compact, request, now) {
                    Ok((principal, due)) => {
                        renewal = due;
                        Caller::Known(principal)
                    }
                    Err(_) => Caller::Anonymous,
                };
                (caller, Forwarding::Keep)
            }
            Credential::Absent
            | Credential::Basic(_)
            | Credential::Key(_)
            | Credential::Foreign
            | Credential::Malformed(_) => (Caller::Anonymous, self.forwarding(credential)),
        };
        Decision::Allow(Admission {
            caller,
            authorization,
            cookies: self.cookies(request),
            renewal,
            set_cookie: None,
            assertion: None,
        })
    }

    /// The caller of a token. For a refused token, the error says whether the token is Doorward's own or claims to be.
    fn known(&self, compact: Compact<'_>, now: UnixTime) -> Result<Arc<Principal>, bool> {
        if self.revoked.are_stale(now) {
            return Err(self.verifier.are_named_by(compact));
        }
        let verified = self.verifier.verify(compact, now, &self.revoked);
        verified.map_err(|fault| fault == TokenFault::Ended || self.verifier.are_named_by(compact))
    }

    fn signed_in(
        &self,
        request: &Request<'_>,
        now: UnixTime,
        may: impl FnOnce(&Identity) -> bool,
    ) -> Decision {
        let verified = match self.shown(request) {
            Credential::Cookie(compact) => self.cookie(compact, request, now),
            credential @ (Credential::Absent
            | Credential::Basic(_)
            | Credential::Bearer(_)
            | Credential::Key(_)
            | Credential::Foreign
            | Credential::Malformed(_)) => self
                .bearer(credential, now)
                .and_then(|compact| self.verified(compact, now))
                .map(|principal| (principal, None)),
        };
        match verified {
            Err(denial) => Decision::Deny(self.to_sign_in(denial, request)),
            Ok((principal, renewal)) if may(principal.identity()) => Decision::Allow(Admission {
                caller: Caller::Known(principal),
                authorization: self.forwarding(request.credential),
                cookies: self.cookies(request),
                renewal,
                set_cookie: None,
                assertion: None,
            }),
            Ok((principal, _)) => Decision::Deny(Denial::MissingRole(principal)),
        }
    }

    /// The token of a credential, if tokens can be judged at all.
    fn bearer<'a>(&self, credential: Credential<'a>, now: UnixTime) -> Result<Compact<'a>, Denial> {
        match credential {
            Credential::Bearer(_) | Credential::Key(_)
                if self.keys.is_on() && ShownKey::of(credential, false).is_some() =>
            {
                Err(Denial::KeyNotAccepted)
            }
            Credential::Bearer(_) if self.revoked.are_stale(now) => {
                Err(Denial::Unavailable(Unavailable::Stale))
            }
            Credential::Bearer(compact) => Ok(compact),
            // Only pages and rules take a cookie.
            Credential::Absent
            | Credential::Basic(_)
            | Credential::Cookie(_)
            | Credential::Key(_)
            | Credential::Foreign => Err(Denial::MissingToken),
            Credential::Malformed(fault) => Err(Denial::MalformedToken(fault)),
        }
    }

    fn verified(&self, compact: Compact<'_>, now: UnixTime) -> Result<Arc<Principal>, Denial> {
        let verified = self.verifier.verify(compact, now, &self.revoked);
        verified.map_err(Denial::InvalidToken)
    }

    fn presented(&self, credential: Credential<'_>, now: UnixTime) -> Result<Presented, Denial> {
        let compact = self.bearer(credential, now)?;
        let opened = self.verifier.open(compact, now, &self.revoked);
        opened.map_err(Denial::InvalidToken)
    }

    /// The claims of a valid token, as JSON, for `/validate`. For another issuer's token, they are the judged claims.
    ///
    /// # Errors
    ///
    /// Why the credential is refused.
    pub fn validate(
        &self,
        credential: Credential<'_>,
        now: UnixTime,
    ) -> Result<ValidToken, Denial> {
        let compact = self.bearer(credential, now)?;
        let claims = self.verifier.claims(compact, now, &self.revoked);
        claims.map_err(Denial::InvalidToken)
    }

    /// Parses a request to an endpoint; the route has already been decided.
    #[must_use]
    pub fn endpoint(&self, endpoint: Endpoint, request: &Request<'_>, now: UnixTime) -> Step {
        let action = match (request.answerable, endpoint) {
            (
                Answerable::Anything,
                Endpoint::SignIn | Endpoint::SignOut | Endpoint::SignedIn | Endpoint::KeysPage,
            ) => self.visit(endpoint, request, now),
            (Answerable::Verdict, _) => Err(Denial::EndpointInSubRequest),
            (Answerable::Anything, Endpoint::Login) => login(request),
            (Answerable::Anything, Endpoint::Logout) => self.logout(request, now),
            (Answerable::Anything, Endpoint::Refresh) => refresh(request),
            (Answerable::Anything, Endpoint::Register) => register(request),
            (Answerable::Anything, Endpoint::Password) => self.password(request, now),
            (Answerable::Anything, Endpoint::Keys) => self.own_keys(request, now),
        };
        match action {
            Ok(action) => Step::Act(action),
            Err(denial) => Step::Done(Decision::Deny(denial)),
        }
    }

    fn logout(&self, request: &Request<'_>, now: UnixTime) -> Result<Action, Denial> {
        Ok(Action::Logout(Box::new(Logout {
            presented: self.presented(request.credential, now)?,
            everywhere: request.all,
        })))
    }

    fn password(&self, request: &Request<'_>, now: UnixTime) -> Result<Action, Denial> {
        let identity = self.presented(request.credential, now)?.identity;
        let [current, new] = (request.body)
            .read(["current_password", "new_password"])
            .map_err(Denial::Body)?;
        let possible = |text: &str, name| {
            Password::parse(text).ok_or(Denial::Body(BodyFault::Impossible(name)))
        };
        Ok(Action::ChangePassword(Box::new(PasswordChange {
            identity,
            current: possible(&current, "current_password")?,
            new: possible(&new, "new_password")?,
            form: request.form,
        })))
    }

    fn own_keys(&self, request: &Request<'_>, now: UnixTime) -> Result<Action, Denial> {
        let identity = self.presented(request.credential, now)?.identity;
        let last = request.path.as_str().rsplit('/').next();
        let id = last.and_then(MachineKeyId::parse);
        let wish = match (request.method.as_str(), id) {
            ("DELETE", Some(id)) => KeyWish::End(id),
            ("DELETE", None) | (_, Some(_)) => return Err(Denial::KeyNotFound),
            ("POST", None) => new_key(request.body)?,
            (_, None) => KeyWish::List,
        };
        Ok(Action::Keys(Box::new(KeyRequest { identity, wish })))
    }

    fn allow(&self, caller: Caller, request: &Request<'_>) -> Decision {
        Decision::Allow(Admission {
            caller,
            authorization: self.forwarding(request.credential),
            cookies: self.cookies(request),
            renewal: None,
            set_cookie: None,
            assertion: None,
        })
    }

    fn forwarding(&self, credential: Credential<'_>) -> Forwarding {
        match credential {
            Credential::Absent | Credential::Cookie(_) => Forwarding::Keep,
            Credential::Bearer(_) if self.forwards_bearer => Forwarding::Keep,
            Credential::Bearer(_)
            | Credential::Basic(_)
            | Credential::Key(_)
            | Credential::Foreign
            | Credential::Malformed(_) => Forwarding::Strip,
        }
    }
}

/// A key never reaches the service, whether or not it is good.
fn public_by_key(verified: Result<Arc<Principal>, KeyRefusal>, cookies: CookieEdit) -> Decision {
    Decision::Allow(by_key_alone(
        verified.map_or(Caller::Anonymous, Caller::Known),
        cookies,
    ))
}

fn by_key(
    key: &ShownKey<'_>,
    verified: Result<Arc<Principal>, KeyRefusal>,
    cookies: impl FnOnce() -> CookieEdit,
    may: impl FnOnce(&Identity) -> bool,
) -> Decision {
    match verified {
        Ok(principal) if may(principal.identity()) => {
            Decision::Allow(by_key_alone(Caller::Known(principal), cookies()))
        }
        Ok(principal) => Decision::Deny(Denial::MissingRole(principal)),
        Err(KeyRefusal::Path(principal)) => Decision::Deny(Denial::KeyPath(principal)),
        Err(KeyRefusal::Unread) => Decision::Deny(Denial::Unavailable(Unavailable::Stale)),
        Err(KeyRefusal::Invalid(fault)) => Decision::Deny(Denial::InvalidKey(InvalidKey {
            id: MachineKeyId::of(key.as_str()),
            place: key.place,
            fault,
        })),
    }
}

/// A cookie beside a key does not count, and the service sees neither.
fn by_key_alone(caller: Caller, cookies: CookieEdit) -> Admission {
    Admission {
        caller,
        authorization: Forwarding::Strip,
        cookies,
        renewal: None,
        set_cookie: None,
        assertion: None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
