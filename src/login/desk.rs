//! Settles actions: verifies passwords, hashes new ones, and issues tokens.
//!
//! Must not know: tables, gateways, wire formats.

use std::{sync::Arc, time::Duration};

use super::{
    account::Account,
    enrolment::{NameRules, PasswordRules},
    password::{Hasher, PasswordHash, Verdict},
};
use crate::domain::{
    account::{Identity, Username},
    browser_session::BrowserSession,
    decision::{By, Decision, Denial, Issued, LoginReply, Refusal, Unavailable},
    judge::{Attempt, PasswordChange, Registration},
    password::Password,
    request::TokenForm,
    revocation::Generation,
    session::RefreshToken,
    token::{Signer, UnixTime},
};

/// The settings of actions.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Hashes and verifies passwords.
    pub(crate) hasher: Arc<Hasher>,
    /// The rules for new passwords.
    pub(crate) passwords: PasswordRules,
    /// Names that belong to others.
    pub(crate) names: NameRules,
    /// The lifetime of sessions, if refresh tokens are issued.
    pub(crate) sessions: Option<Duration>,
    /// How long a browser stays signed in, if browsers can sign in.
    pub(crate) browser_sessions: Option<Duration>,
    /// Who answers a successful login.
    pub(crate) reply: LoginReply,
    /// Signs tokens.
    pub(crate) signer: Signer,
}

/// The contents of a new token.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The user that the token identifies.
    pub(crate) identity: Identity,
    /// The generation of the user's tokens.
    pub(crate) generation: Generation,
    /// The refresh token of the session that the token continues.
    pub(crate) refresh: Option<RefreshToken>,
    /// The session of the browser that the token continues.
    pub(crate) browser: Option<BrowserSession>,
    /// The form in which the client wants it.
    pub(crate) form: TokenForm,
    /// The reason for issuing it.
    pub(crate) by: By,
}

impl Desk {
    /// Settles a login with the row of the user table; takes as long without an account as for a wrong password.
    ///
    /// # Errors
    ///
    /// [`Denial::InvalidCredentials`].
    pub(crate) fn settle(
        &self,
        attempt: &Attempt,
        account: Option<Account>,
    ) -> Result<Account, Denial> {
        self.verify(&attempt.login.username, &attempt.login.password, account)
    }

    /// The account, if the password is right and the account is enabled.
    fn verify(
        &self,
        username: &Username,
        password: &Password,
        account: Option<Account>,
    ) -> Result<Account, Denial> {
        // A collation may ignore case, accents and trailing blanks, and fetch the row of another user.
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

    /// Issues a token, and a refresh token if they are enabled.
    #[must_use]
    pub(crate) fn issue(&self, grant: Grant, now: UnixTime) -> Decision {
        let Grant {
            identity,
            generation,
            refresh,
            browser,
            form,
            by,
        } = grant;
        let internal = Decision::Deny(Denial::Unavailable(Unavailable::Internal));
        if form == TokenForm::Cookie {
            let session = match (self.browser_sessions, browser) {
                (_, Some(session)) => Ok(session),
                (Some(lasts), None) => BrowserSession::start(now, lasts).map_err(|_| ()),
                (None, None) => Err(()),
            };
            let token = session.and_then(|session| {
                let token = (self.signer).issue_cookie(&identity, generation, &session, now);
                token.map_err(|_| ())
            });
            let Ok(token) = token else {
                return internal;
            };
            return Decision::Issue(Issued {
                identity,
                token,
                form,
                reply: LoginReply::Direct,
                refresh: None,
                by,
                entry: None,
            });
        }
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
            .signer
            .issue(&identity, generation, session.as_deref(), now);
        let Ok(token) = token else {
            return internal;
        };
        let reply = match by {
            By::Login => self.reply,
            By::Refresh | By::Password | By::SignIn | By::Renewal => LoginReply::Direct,
        };
        Decision::Issue(Issued {
            identity,
            token,
            form,
            reply,
            refresh,
            by,
            entry: None,
        })
    }

    /// A better hash of the password, after a successful login.
    #[must_use]
    pub(crate) fn rehash(&self, attempt: &Attempt) -> Option<PasswordHash> {
        self.hasher.hash(&attempt.login.password).ok()
    }

    /// The hash of a new user's password.
    ///
    /// # Errors
    ///
    /// [`Denial::WeakPassword`], or hashing failed.
    pub(crate) fn enrol(&self, registration: &Registration) -> Result<PasswordHash, Denial> {
        self.new_hash(&registration.username, &registration.password)
    }

    /// The account whose password may be replaced, and the new hash.
    ///
    /// # Errors
    ///
    /// The current password is wrong, or the new one is refused.
    pub(crate) fn settle_password(
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

    /// Checks whether the new name belongs to another user.
    ///
    /// # Errors
    ///
    /// [`Denial::ForeignName`] or [`Denial::ReservedName`].
    pub(crate) fn check_name(&self, username: &Username) -> Result<(), Denial> {
        if self.names.looks_foreign(username).is_some() {
            return Err(Denial::ForeignName);
        }
        match self.names.is_reserved(username) {
            true => Err(Denial::ReservedName),
            false => Ok(()),
        }
    }
}

impl Grant {
    /// Starts a new session for an account whose password was right.
    #[must_use]
    pub(crate) fn start(account: Account, generation: Generation, form: TokenForm, by: By) -> Self {
        Self {
            identity: account.into(),
            generation,
            refresh: None,
            browser: None,
            form,
            by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        account::Roles,
        credential::Login,
        keyring::Keyring,
        token::{Secret, TokenTerms},
    };

    fn desk() -> Desk {
        let terms = TokenTerms {
            issuer: "doorward".into(),
            audience: "doorward".into(),
            lifetime: Duration::from_secs(3600),
            leeway: Duration::from_secs(30),
        };
        let secret = Secret::parse(b"f3b1c2d4e5a60718293a4b5c6d7e8f90").unwrap();
        let keys = Keyring::of_secret(&secret, terms.lasts());
        Desk {
            hasher: Arc::new(Hasher::new().unwrap()),
            passwords: PasswordRules::default(),
            names: NameRules::default(),
            sessions: None,
            browser_sessions: None,
            reply: LoginReply::Direct,
            signer: Signer::new(Arc::new(keys), terms),
        }
    }

    #[test]
    fn a_login_gets_its_account_or_a_reason_for_refusal() {
        let desk = desk();
        let account = |name: &str, disabled| Account {
            id: "7".into(),
            username: Username::parse(name).unwrap(),
            hash: desk
                .hasher
                .hash(&Password::parse("secret").unwrap())
                .unwrap(),
            roles: Roles::default(),
            disabled,
        };
        let settle = |password: &str, account: Option<Account>| {
            let attempt = Attempt {
                login: Login {
                    username: Username::parse("ada").unwrap(),
                    password: Password::parse(password).unwrap(),
                },
                form: TokenForm::Plain,
            };
            match desk.settle(&attempt, account) {
                Ok(account) => account.username.as_str().to_owned(),
                Err(denial) => denial.reason().name().to_owned(),
            }
        };
        assert_eq!(settle("secret", Some(account("ada", false))), "ada");
        assert_eq!(
            settle("Secret", Some(account("ada", false))),
            "wrong-password"
        );
        assert_eq!(settle("secret", Some(account("ada", true))), "disabled");
        assert_eq!(
            settle("secret", Some(account("Ada", false))),
            "unknown-user"
        );
        assert_eq!(settle("secret", None), "unknown-user");
        let mut foreign = account("ada", false);
        foreign.hash = PasswordHash::new("secret".into());
        assert_eq!(settle("secret", Some(foreign)), "unsupported-hash");
    }
}
