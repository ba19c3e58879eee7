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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{
        account::{Identity, Roles, Username},
        password::{Password, PasswordHash},
        path::{Path, Tolerance},
        policy::Rule,
        request::{Host, Method},
        token::{Secret, TokenTerms},
    };

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn gate() -> Gate {
        let rule = |path, allow| Rule::new(path, &[], &[], Demand::parse(allow).unwrap()).unwrap();
        Gate {
            policy: Policy::new(vec![
                rule("/public/*", "public"),
                rule("/login", "login"),
                rule("/me", "signed-in"),
                rule("/admin/*", "role:admin"),
                rule("/closed", "nobody"),
            ])
            .unwrap(),
            tokens: Tokens::new(
                &Secret::parse(b"f3b1c2d4e5a60718293a4b5c6d7e8f90").unwrap(),
                TokenTerms {
                    issuer: "doorward".into(),
                    audience: "doorward".into(),
                    lifetime: Duration::from_secs(3600),
                    leeway: Duration::from_secs(30),
                },
            ),
            hasher: Hasher::new().unwrap(),
            reply: LoginReply::Direct,
            forwards_bearer: true,
            allows_preflight: false,
        }
    }

    fn token(gate: &Gate, roles: &str) -> String {
        let identity = Identity {
            subject: "7".into(),
            username: Username::parse("ada").unwrap(),
            roles: Roles::parse_list(roles).unwrap(),
        };
        let token = gate.tokens.issue(&identity, NOW).unwrap();
        format!("Bearer {}", token.expose())
    }

    fn judge(gate: &Gate, method: &str, path: &str, authorization: &[&str]) -> String {
        let request = Request {
            method: Method::parse(method.as_bytes()).unwrap(),
            host: Host::parse(b"gateway.example").unwrap(),
            path: Path::parse(path.as_bytes(), Tolerance::default()).unwrap(),
            credential: Credential::parse(authorization.iter().map(|value| value.as_bytes())),
            preflight: (method == "OPTIONS").then(|| Method::parse(b"GET").unwrap()),
            body: LoginBody::Absent,
            form: TokenForm::Plain,
            answerable: Answerable::Anything,
        };
        match gate.judge(&request, NOW) {
            Step::Login(_) => "attempt".into(),
            Step::Done(Decision::Issue(_)) => "issue".into(),
            Step::Done(Decision::Deny(denial)) => denial.reason().into(),
            Step::Done(Decision::Allow(Admission {
                caller,
                authorization,
            })) => {
                let caller = match caller {
                    Caller::Anonymous => "anonymous",
                    Caller::Known(_) => "known",
                };
                let header = match authorization {
                    Forwarding::Keep => "keep",
                    Forwarding::Strip => "strip",
                };
                format!("{caller} {header}")
            }
        }
    }

    /// Section 2 of the design as all pairs.
    #[test]
    fn the_core_table() {
        let gate = gate();
        let (plain, admin) = (token(&gate, ""), token(&gate, "admin"));
        let bad = format!("{plain}x");
        let basic = "Basic YWRhOnNlY3JldA==";
        let credentials: [&[&str]; 7] = [
            &[],
            &[basic],
            &[&plain],
            &[&admin],
            &[&bad],
            &["Digest x"],
            &[&plain, &plain],
        ];
        for (method, path, expected) in [
            (
                "GET",
                "/public/x",
                [
                    "anonymous keep",
                    "anonymous strip",
                    "known keep",
                    "known keep",
                    "anonymous keep",
                    "anonymous strip",
                    "anonymous strip",
                ],
            ),
            (
                "POST",
                "/login",
                [
                    "missing-credentials",
                    "attempt",
                    "missing-credentials",
                    "missing-credentials",
                    "missing-credentials",
                    "missing-credentials",
                    "malformed-authorization",
                ],
            ),
            ("GET", "/login", ["login-method"; 7]),
            (
                "GET",
                "/me",
                [
                    "missing-token",
                    "missing-token",
                    "known keep",
                    "known keep",
                    "token-signature",
                    "missing-token",
                    "malformed-authorization",
                ],
            ),
            (
                "GET",
                "/admin/x",
                [
                    "missing-token",
                    "missing-token",
                    "missing-role",
                    "known keep",
                    "token-signature",
                    "missing-token",
                    "malformed-authorization",
                ],
            ),
            ("GET", "/closed", ["no-rule"; 7]),
            ("GET", "/elsewhere", ["no-rule"; 7]),
            ("GET", "/ADMIN/x", ["two-readings"; 7]),
        ] {
            for (credential, expected) in credentials.iter().zip(expected) {
                assert_eq!(
                    judge(&gate, method, path, credential),
                    expected,
                    "{path} {credential:?}"
                );
            }
        }
    }

    #[test]
    fn bearer_tokens_are_kept_from_the_service_where_a_setting_says_so() {
        let mut gate = gate();
        gate.forwards_bearer = false;
        let plain = token(&gate, "");
        assert_eq!(judge(&gate, "GET", "/me", &[&plain]), "known strip");
        assert_eq!(judge(&gate, "GET", "/public/x", &[]), "anonymous keep");
    }

    #[test]
    fn preflights_pass_where_a_setting_says_so_and_somebody_could() {
        let mut gate = gate();
        assert_eq!(judge(&gate, "OPTIONS", "/me", &[]), "missing-token");
        gate.allows_preflight = true;
        assert_eq!(judge(&gate, "OPTIONS", "/me", &[]), "anonymous keep");
        assert_eq!(judge(&gate, "OPTIONS", "/admin/x", &[]), "anonymous keep");
        assert_eq!(judge(&gate, "OPTIONS", "/closed", &[]), "no-rule");
        assert_eq!(judge(&gate, "OPTIONS", "/elsewhere", &[]), "no-rule");
        assert_eq!(judge(&gate, "OPTIONS", "/login", &[]), "login-method");
        assert_eq!(
            judge(&gate, "OPTIONS", "/me", &["Digest x"]),
            "missing-token"
        );
    }

    #[test]
    fn logins_are_settled() {
        let gate = gate();
        let account = |name: &str, disabled| Account {
            id: "7".into(),
            username: Username::parse(name).unwrap(),
            hash: gate
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
            match gate.settle(&attempt, account, NOW) {
                Decision::Issue(issued) => issued.identity.username.as_str().to_owned(),
                Decision::Deny(denial) => denial.reason().to_owned(),
                Decision::Allow(_) => panic!("a login only issues"),
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
