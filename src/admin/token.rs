//! Decodes a token, and checks whether it is accepted.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Outcome, PATIENCE, spoken};
use crate::{
    cli::{self, Format, Output},
    clock::unix_time,
    config::Settings,
    domain::{
        credential::Compact,
        jws,
        key::Key,
        revocation::Revocations,
        token::{Statement, Verifier},
    },
    serve,
    tables::state::{Kept, Mark},
};
use doorward_rules::keys::SecretSource;

/// Decodes a token, and prints whether it is accepted.
///
/// # Errors
///
/// There is no key to verify the token with, or standard input cannot be read.
pub(crate) async fn token(settings: Settings, command: cli::Token) -> anyhow::Result<Outcome> {
    match command {
        cli::Token::Inspect { token, output } => inspect(settings, token, output).await,
        cli::Token::Verify { jwk, token } => verify(&jwk, &token),
    }
}

/// Verifies a token with one key, without any settings.
fn verify(jwk: &Path, token: &str) -> anyhow::Result<Outcome> {
    let text = fs::read_to_string(jwk).map(Zeroizing::new);
    let text = text.with_context(|| jwk.display().to_string())?;
    let key = Key::from_jwk(&text).with_context(|| jwk.display().to_string())?;
    match jws::verify(token, &key) {
        Ok(_) => {
            println!("valid");
            Ok(Outcome::Yes)
        }
        Err(fault) => {
            println!("invalid: {fault}");
            Ok(Outcome::No)
        }
    }
}

async fn inspect(
    settings: Settings,
    token: Option<String>,
    output: Output,
) -> anyhow::Result<Outcome> {
    if let SecretSource::File(path) = &settings.jwt.keys.secret
        && !path.exists()
        && settings.jwt.keys.files()?.is_empty()
    {
        bail!(
            "there is no secret in {} yet; set JWT_SECRET, or run `doorward serve` once",
            path.display()
        );
    }
    let ended = Revocations::new(None);
    let state = serve::store(&settings, 1, PATIENCE)?.state;
    let kept = Kept::always(settings.jwt.terms.lasts());
    if let Err(fault) = state.read_endings(&Mark::default(), &kept, &ended).await {
        eprintln!("warning: cannot check whether it is revoked: {fault}");
    }
    let keys = settings.jwt.keys.load(unix_time())?;
    let tokens = Verifier::of(&keys, settings.jwt.terms);
    let text = match token {
        Some(token) => Zeroizing::new(token),
        None => {
            let mut text = Zeroizing::new(String::new());
            io::stdin().take(64 * 1024).read_to_string(&mut text)?;
            text
        }
    };
    let text = text.trim();
    let text = match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
        Some(_) | None => text,
    };
    let (statement, verdict) = match Compact::parse(text) {
        None => (
            None,
            Err("it is not one token of at most 8192 characters".to_owned()),
        ),
        Some(compact) => {
            let verdict = tokens.verify(compact, unix_time(), &ended);
            (
                Some(Statement::read(compact)),
                verdict.map_err(|fault| fault.to_string()),
            )
        }
    };
    let outcome = match &verdict {
        Ok(_) => Outcome::Yes,
        Err(_) => Outcome::No,
    };
    match output.output {
        Format::Json => {
            let why = verdict.as_ref().err();
            println!(
                "{}",
                serde_json::to_string_pretty(&json!({
                    "header": statement.as_ref().and_then(|s| s.header.clone()),
                    "claims": statement.as_ref().and_then(|s| s.claims.clone()),
                    "accepted": outcome == Outcome::Yes, "why": why,
                }))?
            );
        }
        Format::Text => {
            if let Some(Statement { header, claims }) = &statement {
                print_members("header", header.as_ref());
                print_members("claims", claims.as_ref());
            }
            match &verdict {
                Ok(principal) => println!(
                    "accepted: it speaks for {}, {}",
                    principal.identity().username.as_str(),
                    spoken(&principal.identity().roles)
                ),
                Err(why) => println!("refused: {why}"),
            }
        }
    }
    Ok(outcome)
}

fn print_members(title: &str, part: Option<&Value>) {
    println!("{title}");
    match part.and_then(Value::as_object) {
        None => println!("  cannot be read"),
        Some(members) => {
            for (name, value) in members {
                let when = value
                    .as_u64()
                    .filter(|_| matches!(&**name, "iat" | "nbf" | "exp"));
                let when =
                    when.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
                match when {
                    Some(when) => println!(
                        "  {name:<9} {value}  {}",
                        humantime::format_rfc3339_seconds(when)
                    ),
                    None => println!("  {name:<9} {value}"),
                }
            }
        }
    }
}
