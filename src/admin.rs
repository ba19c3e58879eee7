//! The commands beside `serve`: users, settings, rules and tokens, for people and for machines.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the results and warnings of commands are for whoever runs them"
)]

use std::{
    io::{self, IsTerminal as _, Read as _},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    authorizer::unix_time,
    cli::{self, Format},
    config::{SecretSource, Settings},
    domain::{
        account::{Account, Identity, Role, Roles, Username},
        credential::{Compact, Credential},
        decision::{Caller, Decision, Denial, LoginReply},
        gate::{Gate, Step},
        password::{Hasher, Password},
        policy::Access,
        request::{Answerable, LoginBody, Request, RequestFault, RequestLine, TokenForm},
        token::{Secret, Statement, Token, Tokens},
    },
    serve::secret,
    users::{Database, Users, UsersFault},
};

/// How long a person waits for the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a command found out: it goes into the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, accepted, passes.
    Yes,
    /// Refused, does not pass.
    No,
}

/// Makes the tables.
///
/// # Errors
///
/// The database cannot be reached, or holds a `users` table of somebody else.
pub async fn migrate(settings: &Settings) -> anyhow::Result<Outcome> {
    let users = Users::open(&settings.database, 1, PATIENCE)?;
    users.migrate().await?;
    println!("The tables in {} are up to date.", settings.database);
    Ok(Outcome::Yes)
}

/// Adds, changes and lists users.
///
/// # Errors
///
/// A name, role or password that cannot be, or what kept the database from doing it.
pub async fn user(settings: &Settings, command: cli::User) -> anyhow::Result<Outcome> {
    let users = Users::open(&settings.database, 1, PATIENCE)?;
    if let Database::Sqlite(_) = &settings.database {
        users.migrate().await?;
    }
    match command {
        cli::User::Add { name, admin, roles } => {
            let username = new_username(&name)?;
            let roles = roles.iter().map(String::as_str);
            let roles = Roles::parse(roles.chain(admin.then_some("admin")))?;
            let hash = Hasher::new()?.hash(&password()?)?;
            users
                .add(&username, &hash, &roles)
                .await
                .with_context(|| format!("{name:?} was not added"))?;
            println!("Added {name}, {}.", spoken(&roles));
        }
        cli::User::Passwd { name } => {
            let username = known(&users, &name).await?.username;
            let hash = Hasher::new()?.hash(&password()?)?;
            users.set_hash(&username, &hash).await?;
            println!("Changed the password of {name}.");
        }
        cli::User::Role {
            name,
            grant,
            revoke,
        } => {
            let account = known(&users, &name).await?;
            let grant = Roles::parse(grant.iter().map(String::as_str))?;
            let revoke = Roles::parse(revoke.iter().map(String::as_str))?;
            let changes = grant.iter().chain(revoke.iter()).next().is_some();
            let kept = account.roles.iter().filter(|role| !revoke.contains(role));
            let roles: Vec<Role> = kept.chain(grant.iter()).cloned().collect();
            let roles = Roles::collect(roles)?;
            if changes {
                users.set_roles(&account.username, &roles).await?;
            }
            println!("{name} is {}.", spoken(&roles));
        }
        cli::User::Disable { name } => {
            users.disable(&known(&users, &name).await?.username).await?;
            println!("{name} cannot log in any more; tokens stay good until they expire.");
        }
        cli::User::Enable { name } => {
            users.enable(&known(&users, &name).await?.username).await?;
            println!("{name} can log in again.");
        }
        cli::User::Remove { name } => {
            users.remove(&known(&users, &name).await?.username).await?;
            println!("Removed {name}; tokens stay good until they expire.");
        }
        cli::User::List(output) => list(&users, output.output).await?,
    }
    Ok(Outcome::Yes)
}

async fn list(users: &Users, format: Format) -> anyhow::Result<()> {
    let listed = users.list().await?;
    if format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&listed)?);
        return Ok(());
    }
    if listed.is_empty() {
        println!("There are no users; add one with: doorward user add NAME");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["NAME", "ROLES", "LOGIN", "ADDED", "ID"]);
    for user in listed {
        let added = UNIX_EPOCH + Duration::from_secs(user.created_at.try_into().unwrap_or(0));
        table.add_row([
            user.username,
            user.roles.join(","),
            if user.disabled { "disabled" } else { "enabled" }.into(),
            humantime::format_rfc3339_seconds(added).to_string(),
            user.id,
        ]);
    }
    println!("{table}");
    Ok(())
}

fn spoken(roles: &Roles) -> String {
    match roles.to_string() {
        none if none.is_empty() => "without roles".into(),
        roles => format!("with the roles {roles}"),
    }
}

fn username(name: &str) -> anyhow::Result<Username> {
    Username::parse(name).with_context(|| {
        format!("{name:?} cannot be a name: 1 to 255 bytes without colon and control characters")
    })
}

fn new_username(name: &str) -> anyhow::Result<Username> {
    if name.trim() != name {
        bail!("{name:?} begins or ends with a blank, which nobody would see");
    }
    username(name)
}

async fn known(users: &Users, name: &str) -> anyhow::Result<Account> {
    let username = username(name)?;
    let account = users.find(&username).await?;
    account
        .filter(|account| account.username == username)
        .ok_or(UsersFault::Unknown)
        .with_context(|| name.to_owned())
}

fn password() -> anyhow::Result<Password> {
    let typed = if io::stdin().is_terminal() {
        let first = Zeroizing::new(rpassword::prompt_password("Password: ")?);
        let again = Zeroizing::new(rpassword::prompt_password("Again: ")?);
        if first != again {
            bail!("the two passwords differ");
        }
        first
    } else {
        let mut text = Zeroizing::new(String::new());
        io::stdin()
            .take(4096)
            .read_to_string(&mut text)
            .context("the password on standard input")?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned())
    };
    if typed.chars().count() < 8 {
        eprintln!(
            "warning: a password of fewer than 8 characters is soon guessed (NIST SP 800-63B)"
        );
    }
    Password::parse(&typed)
        .context("a password is one line of 1 to 1024 bytes without control characters")
}

/// Says that the settings hold together; [`Settings::load`] has said it where they do not.
///
/// # Errors
///
/// A secret that must be given and is not.
pub fn config_check(settings: Settings) -> anyhow::Result<Outcome> {
    let settings = settings.with_secret()?;
    println!(
        "The settings hold together: {} rules, users in {}, checks on {}.",
        settings.policy.rules().len(),
        settings.database,
        settings.grpc,
    );
    Ok(Outcome::Yes)
}

/// Says which rule decides a request, why, and what becomes of it.
///
/// # Errors
///
/// A user or role that cannot be, or what kept the database from answering.
pub async fn policy_check(settings: Settings, command: cli::Policy) -> anyhow::Result<Outcome> {
    let cli::Policy::Check {
        method,
        url,
        user,
        roles,
        output,
    } = command;
    let identity = match user {
        Some(name) => {
            let users = Users::open(&settings.database, 1, PATIENCE)?;
            Some(Identity::from(known(&users, &name).await?))
        }
        None if roles.is_empty() => None,
        None => Some(Identity {
            subject: "-".into(),
            username: username("somebody")?,
            roles: Roles::parse(roles.iter().map(String::as_str))?,
        }),
    };
    let (host, target) = cut(&url);
    let line = RequestLine {
        method: method.as_bytes(),
        host: host.as_bytes(),
        target: target.as_bytes(),
    };
    // The gate itself decides, with a key for this one question.
    let gate = Gate {
        policy: settings.policy,
        tokens: Tokens::new(
            &Secret::parse(Secret::generate().as_bytes())?,
            settings.terms,
        ),
        hasher: Hasher::new()?,
        reply: LoginReply::Direct,
        forwards_bearer: settings.forwards_bearer,
        allows_preflight: false,
    };
    let now = unix_time();
    let token = identity
        .as_ref()
        .map(|identity| gate.tokens.issue(identity, now))
        .transpose()?;
    let (rule, why, decision) = match line.parse(settings.tolerance) {
        Err(fault) => (
            None,
            unreadable(fault),
            Decision::Deny(Denial::Malformed(fault)),
        ),
        Ok((method, host, path)) => {
            let access = gate.policy.access(method, host, &path);
            let (rule, why) = explain(access);
            let request = Request {
                method,
                host,
                path,
                credential: match token.as_ref().map(Token::expose).and_then(Compact::parse) {
                    Some(compact) => Credential::Bearer(compact),
                    None => Credential::Absent,
                },
                preflight: None,
                body: LoginBody::Absent,
                form: TokenForm::Plain,
                answerable: Answerable::Anything,
            };
            match gate.judge(&request, now) {
                Step::Done(decision) => (rule, why, decision),
                Step::Login(_) => bail!("a login was attempted without credentials"),
            }
        }
    };
    let caller = match &identity {
        None => "nobody (no token)".to_owned(),
        Some(identity) => format!(
            "{}, {}",
            identity.username.as_str(),
            spoken(&identity.roles)
        ),
    };
    let (outcome, passes, status, reason) = match &decision {
        Decision::Allow(admission) => match admission.caller {
            Caller::Known(_) => (Outcome::Yes, "passes, identity attached", 200, "token"),
            Caller::Anonymous => (Outcome::Yes, "passes, anonymous", 200, "anonymous"),
        },
        Decision::Issue(_) => (Outcome::Yes, "gets a token", 200, "login"),
        Decision::Deny(denial) => (
            Outcome::No,
            "does not pass",
            denial.answer(&settings.realm).status,
            denial.reason(),
        ),
    };
    match output.output {
        Format::Json => println!(
            "{}",
            serde_json::to_string_pretty(&json!({
                "method": method, "url": url, "rule": rule, "why": why, "as": caller,
                "passes": outcome == Outcome::Yes, "status": status, "reason": reason,
            }))?
        ),
        Format::Text => {
            println!("{method} {url}");
            println!("  rule  {}", rule.as_deref().unwrap_or("none"));
            println!("  why   {why}");
            println!("  as    {caller}");
            println!("  so    {passes}: {status}, {reason}");
        }
    }
    Ok(outcome)
}

/// Cut, never parsed: what a URL library reads differently than a gateway must not hide here.
fn cut(url: &str) -> (&str, &str) {
    let Some((_, rest)) = url.split_once("://") else {
        return ("", url);
    };
    match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    }
}

fn unreadable(fault: RequestFault) -> String {
    match fault {
        RequestFault::Path(fault) => format!("the path is ambiguous: {fault}"),
        RequestFault::NotHttp
        | RequestFault::Method
        | RequestFault::Host
        | RequestFault::DoubledHeader
        | RequestFault::Dialect(_)
        | RequestFault::TwoOriginals => fault.to_string(),
    }
}

fn explain(access: Access<'_>) -> (Option<String>, String) {
    match access {
        Access::Rule(rule) => (
            Some(rule.to_string()),
            "it is the most specific rule for the request".into(),
        ),
        Access::LoginMethod(rule) => (
            Some(rule.to_string()),
            "the path is the login's, but the method is not".into(),
        ),
        Access::NoRule => (None, "no rule is for this request, so nobody passes".into()),
        Access::TwoReadings(rule) => (
            Some(rule.to_string()),
            "a service that ignores case, escapes or a trailing slash would read the path as this rule's, and as sent it is another's".into(),
        ),
        Access::NoHost => (
            None,
            "there are rules for hosts, and the request names none; give a whole URL".into(),
        ),
    }
}

/// Decodes a token and says whether it is accepted.
///
/// # Errors
///
/// There is no key to verify it with, or standard input cannot be read.
pub fn token_inspect(settings: Settings, command: cli::Token) -> anyhow::Result<Outcome> {
    let cli::Token::Inspect { token, output } = command;
    let settings = settings.with_secret()?;
    if let SecretSource::File(path) = &settings.secret
        && !path.exists()
    {
        bail!(
            "there is no secret in {} yet; set JWT_SECRET, or run `doorward serve` once",
            path.display()
        );
    }
    let tokens = Tokens::new(&secret(&settings.secret)?, settings.terms);
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
            let verdict = tokens.verify(compact, unix_time());
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
                Ok(identity) => println!(
                    "accepted: it speaks for {}, {}",
                    identity.username.as_str(),
                    spoken(&identity.roles)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_at_the_first_slash() {
        for (url, expected) in [
            ("/a?b", ("", "/a?b")),
            ("https://h/a", ("h", "/a")),
            ("https://h:8/a//b", ("h:8", "/a//b")),
            ("https://h", ("h", "/")),
            ("http:///admin", ("", "/admin")),
            ("http://a?b=/admin", ("a?b=", "/admin")),
        ] {
            assert_eq!(cut(url), expected, "{url}");
        }
    }
}
