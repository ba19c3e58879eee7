//! Shows which rule decides a request.

use std::sync::Arc;

use serde_json::json;

use super::{Outcome, PATIENCE, known, spoken, username};
use crate::{
    cli::{self, Format},
    clock::unix_time,
    config::Settings,
    domain::{
        account::{Identity, Roles},
        body::Body,
        credential::{Compact, Credential},
        decision::{Caller, Decision, Denial, Done, Reason},
        judge::{Judge, Step},
        keyring::Keyring,
        policy::Access,
        request::{Answerable, Method, Request, RequestFault, RequestLine, TokenForm},
        revocation::{Generation, Revocations},
        token::{Secret, Signer, Token, Verifier},
    },
    serve,
};

/// Prints which rule decides a request, why, and the result.
///
/// # Errors
///
/// An invalid user or role, or the fault of the database.
pub(crate) async fn policy_check(
    settings: Settings,
    command: cli::Policy,
) -> anyhow::Result<Outcome> {
    let cli::Policy::Check {
        method,
        url,
        user,
        roles,
        output,
    } = command;
    let identity = match user {
        Some(name) => {
            let store = serve::store(&settings, 1, PATIENCE)?;
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
    let line = RequestLine {
        method: method.as_bytes(),
        host: host.as_bytes(),
        target: target.as_bytes(),
    };
    // The real judge decides, with a key that is generated for this one decision.
    let secret = Secret::parse(Secret::generate().as_bytes())?;
    let keys = Arc::new(Keyring::of_secret(&secret, settings.jwt.terms.lasts()));
    let signer = Signer::new(Arc::clone(&keys), settings.jwt.terms.clone());
    let judge = Judge {
        policy: settings.policy,
        verifier: Verifier::of(&keys, settings.jwt.terms),
        revoked: Arc::new(Revocations::new(None)),
        forwards_bearer: settings.identity.forward_bearer,
        allows_preflight: false,
    };
    let now = unix_time();
    let token = identity
        .as_ref()
        .map(|identity| signer.issue(identity, Generation::default(), None, now))
        .transpose()?;
    let (rule, why, decision) = match line.parse(settings.paths) {
        Err(fault) => (
            None,
            unreadable(fault),
            Decision::Deny(Denial::Malformed(fault)),
        ),
        Ok((method, host, path)) => {
            let access = judge.policy.access(method, host, &path);
            let (rule, why) = explain(access, method);
            let request = Request {
                method,
                host,
                path,
                credential: match token.as_ref().map(Token::expose).and_then(Compact::parse) {
                    Some(compact) => Credential::Bearer(compact),
                    None => Credential::Absent,
                },
                preflight: None,
                body: Body::Absent,
                all: false,
                form: TokenForm::Plain,
                answerable: Answerable::Anything,
            };
            match judge.judge(&request, now).step {
                Step::Done(decision) => (rule, why, decision),
                // A token is enough for a logout. Any other endpoint would need more than was given.
                Step::Act(_) => (
                    rule,
                    why,
                    Decision::Done(Done::LoggedOut {
                        subject: "-".into(),
                        everywhere: false,
                    }),
                ),
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
        | RequestFault::MethodCase
        | RequestFault::Host
        | RequestFault::DoubledHeader
        | RequestFault::AliasedHeader
        | RequestFault::Dialect(_)
        | RequestFault::TwoOriginals => fault.to_string(),
    }
}

fn explain(access: Access<'_>, method: Method<'_>) -> (Option<String>, String) {
    match access {
        Access::Rule(rule)
            if method.is_head() && rule.names_method("GET") && !rule.names_method("HEAD") =>
        {
            (
                Some(rule.to_string()),
                "it is the most specific rule for the request; a rule for GET is one for HEAD, too"
                    .into(),
            )
        }
        Access::Rule(rule) => (
            Some(rule.to_string()),
            "it is the most specific rule for the request".into(),
        ),
        Access::EndpointMethod(rule) => (
            Some(rule.to_string()),
            "the path is an endpoint's, but the method is not".into(),
        ),
        Access::NoRule => (None, "no rule is for this request, so nobody passes".into()),
        Access::TwoReadings(rule) => (
            Some(rule.to_string()),
            "a service that ignores case, escapes, a trailing slash or what \"paths.also\" names would read the path as this rule's, and as sent it is another's".into(),
        ),
        Access::NoHost => (
            None,
            "there are rules for hosts, and the request names none; give a whole URL".into(),
        ),
        Access::MethodCase => (None, RequestFault::MethodCase.to_string()),
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
