//! The judge of all fuzz targets, and the only tokens that its key has signed.

use std::{sync::Arc, time::Duration};

use doorward::domain::{
    judge::Judge,
    machine_keys::KeySource,
    policy::{Demand, Policy, Rule},
    token::{Secret, TokenTerms, UnixTime, Verifier},
};

/// The time at which all requests are judged.
pub const NOW: UnixTime = UnixTime(1_800_000_000);

/// The key. It is public, so use it for nothing else.
pub const SECRET: &[u8] = b"f3b1c2d4e5a60718293a4b5c6d7e8f90";

/// A token of a user without roles; it does not expire for centuries.
pub const PLAIN: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiIsInVzZXJuYW1lIjoiYm9iIiwiYWRtaW4iOmZhbHNlLCJyb2xlcyI6W10sImlzcyI6ImRvb3J3YXJkIiwiYXVkIjoiZG9vcndhcmQiLCJpYXQiOjE3OTk5OTkwMDAsImV4cCI6OTk5OTk5OTk5OSwianRpIjoiMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYifQ.J5o6i2G51ol50X0QgfdLiqs5zr9Ln_iSSyWbcrXsZsk";

/// A token of an administrator.
pub const ADMIN: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3IiwidXNlcm5hbWUiOiJhZGEiLCJhZG1pbiI6dHJ1ZSwicm9sZXMiOlsiYWRtaW4iLCJlZGl0b3IiXSwiaXNzIjoiZG9vcndhcmQiLCJhdWQiOiJkb29yd2FyZCIsImlhdCI6MTc5OTk5OTAwMCwiZXhwIjo5OTk5OTk5OTk5LCJqdGkiOiJmZWRjYmE5ODc2NTQzMjEwZmVkY2JhOTg3NjU0MzIxMCJ9.GaZoKar6qA04TmSP5CsmW2y5KQ68C4HXYI7KsYXBv7o";

/// The verifier with the key and the terms of [`PLAIN`] and [`ADMIN`].
pub fn tokens() -> Verifier {
    Verifier::new(
        &Secret::parse(SECRET).unwrap(),
        TokenTerms {
            issuer: "doorward".into(),
            audience: "doorward".into(),
            lifetime: Duration::from_secs(3600),
            leeway: Duration::from_secs(30),
        },
    )
}

/// `/public/*` is public, `/files/*` is for signed-in users, `/admin/*` for administrators.
pub fn judge() -> Judge {
    let rule = |path, allow| Rule::new(path, &[], &[], Demand::parse(allow).unwrap()).unwrap();
    Judge {
        policy: Policy::new(vec![
            rule("/public/*", "public"),
            rule("/login", "login"),
            rule("/logout", "logout"),
            rule("/refresh", "refresh"),
            rule("/register", "register"),
            rule("/password", "password"),
            rule("/files/*", "signed-in"),
            rule("/admin/*", "role:admin"),
        ])
        .unwrap(),
        verifier: tokens(),
        revoked: Arc::default(),
        forwards_bearer: true,
        allows_preflight: false,
        keys: KeySource::Off,
        sign_in: None,
    }
}
