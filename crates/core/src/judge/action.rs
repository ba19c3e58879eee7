//! Requests to endpoints, as parsed data.
//!
//! Must not know: who may use an endpoint.

use crate::{
    account::{Identity, Username, canonical_name},
    body::{Body, BodyFault},
    credential::{Credential, Login},
    decision::{Denial, Refusal},
    own_keys::KeyWish,
    password::Password,
    policy::Endpoint,
    request::{Request, TokenForm},
    session::{RefreshFault, RefreshToken},
    sign_in::{Page, Visit},
    token::Presented,
};

/// A request to an endpoint, as parsed data. Running it needs table rows and hashes.
#[derive(Debug)]
pub enum Action {
    /// Verify a name and a password, and issue a token.
    Login(Box<Attempt>),
    /// Revoke a token, or all tokens of its user.
    Logout(Box<Logout>),
    /// Exchange a refresh token for new tokens.
    Refresh(RefreshToken, TokenForm),
    /// Add a user.
    Register(Box<Registration>),
    /// Replace a password, if the current one is correct.
    ChangePassword(Box<PasswordChange>),
    /// Verify a name and a password that a browser's form has, and issue a token for its cookie.
    SignIn(Box<Attempt>, Box<Page>),
    /// Show a page to a browser.
    Visit(Visit, Box<Page>),
    /// List, make or end keys for machines.
    Keys(Box<KeyRequest>),
}

impl Action {
    /// The endpoint that the action belongs to.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Login(_) => Endpoint::Login,
            Self::Logout(_) => Endpoint::Logout,
            Self::Refresh(..) => Endpoint::Refresh,
            Self::Register(_) => Endpoint::Register,
            Self::ChangePassword(_) => Endpoint::Password,
            Self::SignIn(..)
            | Self::Visit(Visit::Form(_) | Visit::Refused(_) | Visit::Enter(..), _) => {
                Endpoint::SignIn
            }
            Self::Visit(Visit::SignedIn(_), _) => Endpoint::SignedIn,
            Self::Visit(Visit::SignOut(_), _) => Endpoint::SignOut,
            Self::Visit(Visit::Keys(..), _) => Endpoint::KeysPage,
            Self::Keys(_) => Endpoint::Keys,
        }
    }
}

/// A login whose password is not verified yet.
#[derive(Debug)]
pub struct Attempt {
    /// The name and the password as typed.
    pub login: Login,
    /// The form in which the client wants the token.
    pub form: TokenForm,
}

/// A logout.
#[derive(Clone, Debug)]
pub struct Logout {
    /// The token of the request.
    pub presented: Presented,
    /// Whether all tokens of the user are revoked.
    pub everywhere: bool,
}

/// A registration; neither the name nor the password is checked against rules yet.
#[derive(Debug)]
pub struct Registration {
    /// The new name, in canonical form.
    pub username: Username,
    /// The new password.
    pub password: Password,
}

/// A change of a password; the current one is not verified yet.
#[derive(Debug)]
pub struct PasswordChange {
    /// The user, identified by a valid token.
    pub identity: Identity,
    /// The current password as typed.
    pub current: Password,
    /// The new password.
    pub new: Password,
    /// The form in which the client wants the new token.
    pub form: TokenForm,
}

/// What a person wants with their own keys for machines.
#[derive(Debug)]
pub struct KeyRequest {
    /// The user, identified by a valid token.
    pub identity: Identity,
    /// What is to be done.
    pub wish: KeyWish,
}

pub(super) fn login(request: &Request<'_>) -> Result<Action, Denial> {
    let login = match (request.credential, request.body) {
        (Credential::Basic(basic), _) => Login::from_basic(basic)
            .map_err(|fault| Denial::InvalidCredentials(Refusal::Basic(fault)))?,
        (Credential::Malformed(fault), _) => return Err(Denial::MalformedCredentials(fault)),
        (Credential::Absent | Credential::Cookie(_), Body::Absent)
        | (Credential::Bearer(_) | Credential::Key(_) | Credential::Foreign, _) => {
            return Err(Denial::MissingCredentials);
        }
        (Credential::Absent | Credential::Cookie(_), body) => {
            Login::from_body(body).map_err(Denial::Body)?
        }
    };
    Ok(Action::Login(Box::new(Attempt {
        login,
        form: request.form,
    })))
}

pub(super) fn refresh(request: &Request<'_>) -> Result<Action, Denial> {
    let [token] = (request.body)
        .read(["refresh_token"])
        .map_err(Denial::Body)?;
    let malformed = Denial::InvalidRefresh(RefreshFault::Malformed, None);
    let token = RefreshToken::parse(&token).ok_or(malformed)?;
    Ok(Action::Refresh(token, request.form))
}

pub(super) fn register(request: &Request<'_>) -> Result<Action, Denial> {
    let [username, password] = (request.body)
        .read(["username", "password"])
        .map_err(Denial::Body)?;
    let username = canonical_name(&username).ok_or(Denial::NewName)?;
    let password = Password::parse(&password);
    Ok(Action::Register(Box::new(Registration {
        username,
        password: password.ok_or(Denial::Body(BodyFault::Impossible("password")))?,
    })))
}
