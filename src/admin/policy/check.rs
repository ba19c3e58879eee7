//! Shows which rule decides a request.

use serde_json::json;

use super::trial::{Asked, Shows, Trial, explain};
use crate::{
    admin::{Outcome, PATIENCE, known, spoken, username},
    cli::{Format, PolicyCheck},
    config::Settings,
    domain::{
        account::{Identity, Roles},
        decision::{Caller, Decision, Reason},
        request::RequestLine,
    },
    serve,
};

/// Prints which rule decides a request, why, and the result.
///
/// # Errors
///
/// An invalid user or role, or the fault of the database.
pub(super) async fn check(settings: &Settings, command: PolicyCheck) -> anyhow::Result<Outcome> {
    let PolicyCheck {
        method,
        url,
        user,
        roles,
        output,
    } = command;
    let identity = match user {
        Some(name) => {
            let store = serve::store(settings, 1, PATIENCE)?;
            Some(Identity::from(known(&store, &name).await?))
        }
        None if roles.is_empty() => None,
        None => Some(Identity {
            subject: "-".into(),
            username: username("somebody")?,
            roles: Roles::parse(roles.iter().map(String::as_str))?,
        }),
    };
    let (host, target) = cut(&url);
    let trial = Trial::new(settings)?;
    let tried = trial.ask(&Asked {
        line: RequestLine {
            method: method.as_bytes(),
            host: host.as_bytes(),
            target: target.as_bytes(),
        },
        shows: identity.as_ref().map_or(Shows::Nothing, Shows::TokenOf),
    })?;
    let (rule, why) = explain(&tried);
    let caller = match &identity {
        None => "nobody (no token)".to_owned(),
        Some(identity) => format!(
            "{}, {}",
            identity.username.as_str(),
            spoken(&identity.roles)
        ),
    };
    let (outcome, passes, status, reason) = match &tried.decision {
        Decision::Allow(admission) => match admission.caller {
            Caller::Known(_) => (
                Outcome::Yes,
                "passes, identity attached",
                200,
                Reason::Token,
            ),
            Caller::Anonymous => (Outcome::Yes, "passes, anonymous", 200, Reason::Anonymous),
        },
        Decision::Issue(_) => (Outcome::Yes, "gets a token", 200, Reason::Login),
        Decision::Done(done) => (Outcome::Yes, "is answered by Doorward", 200, done.reason()),
        Decision::Deny(denial) => (
            Outcome::No,
            "does not pass",
            denial.answer(&settings.login.realm).status,
            denial.reason(),
        ),
    };
    match output.output {
        Format::Json => println!(
            "{}",
            serde_json::to_string_pretty(&json!({
                "method": method, "url": url, "rule": rule, "why": why, "as": caller,
                "passes": outcome == Outcome::Yes, "status": status, "reason": reason.name(),
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

/// Splits the URL without parsing it: a URL library that reads it differently than a gateway would hide the
/// difference.
pub(super) fn cut(url: &str) -> (&str, &str) {
    let rest = match url.split_once("://") {
        // A path may have a URL in its query.
        Some((scheme, rest)) if !scheme.contains('/') => rest,
        Some(_) | None => return ("", url),
    };
    match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_at_the_first_slash() {
        for (url, expected) in [
            ("/a?b", ("", "/a?b")),
            ("/a?next=https://x/y", ("", "/a?next=https://x/y")),
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
