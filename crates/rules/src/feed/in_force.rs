//! A content that is in force: the judge made from it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use doorward_core::{
    account::{Roles, Username},
    assertion::Received,
    decision::{LoginReply, Realm},
    identity_headers::IdentityHeaders,
    issuer::{Issuer, IssuerTerms, Issuers},
    judge::Judge,
    key::{Algorithm, Key, KeyFault, KeyId},
    keyring::Keyring,
    machine_keys::KeySource,
    path::Tolerance,
    policy::{Demand, Endpoint, Policy, Rule},
    revocation::Revocations,
    sign_in::{Places, SignIn},
    time::UnixTime,
    token::{TokenTerms, Verifier},
    trust::{ClientAddress, TrustedProxies},
};
use serde_json::{Map, Value};

use super::{
    content::{
        Allow, AssertionEntry, Content, DIRECT, IssuerEntry, KeyEntry, RuleEntry, THROUGH,
        TokenEntry,
    },
    fault::{ContentFault, short},
    names::Names,
};

/// A judge, and what a door needs beside it.
#[derive(Debug)]
pub struct InForce {
    /// Decides requests.
    pub judge: Judge,
    /// The realm of challenges.
    pub realm: Realm,
    /// Which ambiguous paths are judged instead of refused.
    pub tolerance: Tolerance,
    /// The headers that identify the user to services.
    pub identity: IdentityHeaders,
    /// The signed assertions that Doorward has sent, if services get them.
    pub assertions: Option<Received>,
    /// Networks of gateways.
    pub trusted: TrustedProxies,
    /// Where the client address is read from.
    pub client_address: ClientAddress,
    /// The endpoints that are switched on.
    pub endpoints: Vec<Endpoint>,
    /// Who answers a login.
    pub login_reply: LoginReply,
    /// `envoy.metadata`.
    pub metadata: bool,
    /// The digest of the content.
    pub digest: String,
    /// The names of HS256 keys whose secrets the follower does not have; their tokens are refused.
    pub missing_secrets: Vec<String>,
    /// The content that it was made from.
    pub(super) content: Arc<Content>,
}

/// What does not come from the feed.
#[derive(Debug, Default)]
pub(super) struct Local {
    pub(super) secrets: Vec<Key>,
    pub(super) names: Names,
}

const MOST_KEYS: usize = 64;
const MOST_ISSUERS: usize = 16;
const MOST_RULES: usize = 100_000;

/// Bounds that no setting of Doorward exceeds. Sums of these do not overflow.
const LONGEST_LIFETIME: u64 = 10 * 366 * 24 * 3600;
const LONGEST_LEEWAY: u64 = 24 * 3600;

impl InForce {
    /// Makes a judge from a content. Parts that have not changed since `before` are kept, with the cache of verified tokens.
    pub(super) fn make(
        content: Arc<Content>,
        digest: String,
        local: &mut Local,
        revoked: &Arc<Revocations>,
        before: Option<&Self>,
    ) -> Result<Self, ContentFault> {
        let settings = &content.settings;
        let endpoints: Option<Vec<_>> = (settings.endpoints.iter())
            .map(|name| Endpoint::parse(name))
            .collect();
        let endpoints =
            endpoints.ok_or_else(|| value("an endpoint", &settings.endpoints.join(", ")))?;
        let before = before.map(|own| (own, &*own.content));
        let policy = match before {
            Some((own, old)) if old.rules == content.rules => own.judge.policy.clone(),
            Some(_) | None => policy(&content.rules)?,
        };
        let same_keys = before.filter(|(_, old)| {
            (&old.keys, &old.token, &old.issuers)
                == (&content.keys, &content.token, &content.issuers)
        });
        let (verifier, missing_secrets) = match same_keys {
            Some((own, _)) => (own.judge.verifier.clone(), own.missing_secrets.clone()),
            None => verifier(&content, &local.secrets)?,
        };
        let sign_in = settings.sign_in.as_ref().map(|own| SignIn {
            session: Duration::from_secs(own.session),
            localhost: own.localhost,
            places: Places::of(&policy),
        });
        Ok(Self {
            judge: Judge {
                policy,
                sign_in,
                verifier,
                revoked: Arc::clone(revoked),
                forwards_bearer: settings.forward_bearer,
                allows_preflight: settings.allow_preflight,
                keys: match &settings.machine_keys {
                    None => KeySource::Off,
                    Some(_) => KeySource::Elsewhere,
                },
            },
            realm: Realm::parse(&settings.realm).ok_or_else(|| value("realm", &settings.realm))?,
            tolerance: tolerance(&settings.tolerate, &settings.also)?,
            identity: local.names.keep(settings)?,
            assertions: (settings.assertion.as_ref())
                .map(|own| received(own, &content.token.audience))
                .transpose()?,
            trusted: TrustedProxies::parse(settings.trusted_proxies.iter().map(String::as_str))?,
            client_address: ClientAddress::parse(&settings.client_address)
                .ok_or_else(|| value("client_address", &settings.client_address))?,
            endpoints,
            login_reply: match &*settings.login_reply {
                DIRECT => LoginReply::Direct,
                THROUGH => LoginReply::Through,
                other => return Err(value("login_reply", other)),
            },
            metadata: settings.metadata,
            digest,
            missing_secrets,
            content: Arc::clone(&content),
        })
    }
}

fn value(name: &'static str, text: &str) -> ContentFault {
    ContentFault::Value(name, short(text))
}

/// The assertions for an audience, which must not be that of access tokens.
fn received(entry: &AssertionEntry, of_tokens: &str) -> Result<Received, ContentFault> {
    let audience = &entry.audience;
    match (1..=256).contains(&audience.len()) && audience != of_tokens {
        true => Ok(Received::new(audience)),
        false => Err(value("assertion audience", audience)),
    }
}

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), ContentFault> {
    match count <= most {
        true => Ok(()),
        false => Err(ContentFault::Many(what, most)),
    }
}

/// The rules as a policy. Without rules nobody passes; `routes::policy` would take the built-in rules. Doorward has checked
/// the rules against its settings, as that function does.
fn policy(rules: &[RuleEntry]) -> Result<Policy, ContentFault> {
    at_most("rules", rules.len(), MOST_RULES)?;
    let rules: Result<Vec<_>, _> = (rules.iter().enumerate())
        .map(|(index, entry)| rule(entry).map_err(|what| ContentFault::Rule(index + 1, what)))
        .collect();
    Policy::new(rules?).map_err(|conflicts| match conflicts.into_iter().next() {
        Some(first) => ContentFault::Conflict(first),
        None => ContentFault::Rule(0, "the rules conflict".into()),
    })
}

fn rule(entry: &RuleEntry) -> Result<Rule, String> {
    let RuleEntry {
        path,
        methods,
        hosts,
        allow,
        basic_keys,
        audience,
    } = entry;
    let demand = match allow {
        Allow::Word(word) => Demand::parse(word),
        Allow::Roles(roles) => Demand::roles(roles.iter().map(String::as_str)),
    };
    let demand = demand.map_err(|fault| short(&fault.to_string()))?;
    let rule = Rule::new(path, methods, hosts, demand).map_err(|faults| {
        let first = faults.first().map(ToString::to_string);
        short(&first.unwrap_or_default())
    })?;
    let rule = match basic_keys {
        true => rule.taking_basic_keys(),
        false => Ok(rule),
    };
    let rule = rule.map_err(|fault| short(&fault.to_string()))?;
    match audience {
        Some(audience) => (rule.asserting_to(audience)).map_err(|fault| short(&fault.to_string())),
        None => Ok(rule),
    }
}

fn tolerance(tolerate: &[String], also: &[String]) -> Result<Tolerance, ContentFault> {
    let mut tolerance = Tolerance::default();
    for name in tolerate {
        if !tolerance.tolerate(name) {
            return Err(value("tolerate", name));
        }
    }
    for name in also {
        if !tolerance.also.cut(name) {
            return Err(value("also", name));
        }
    }
    Ok(tolerance)
}

fn verifier(content: &Content, secrets: &[Key]) -> Result<(Verifier, Vec<String>), ContentFault> {
    at_most("keys", content.keys.len(), MOST_KEYS)?;
    if content.keys.is_empty() {
        return Err(ContentFault::NoKey);
    }
    let terms = terms(&content.token)?;
    let (mut keys, mut missing) = (Vec::new(), Vec::new());
    for entry in &content.keys {
        match key(entry, secrets)? {
            Some(key) => keys.push(key),
            None => missing.push(entry.kid.clone()),
        }
    }
    if keys.is_empty() {
        return Err(ContentFault::OnlySecrets);
    }
    let keyring = Keyring::new(keys, terms.lasts())?;
    let issuers = issuers(&content.issuers, &terms.issuer)?;
    Ok((Verifier::of(&keyring, terms).believing(issuers), missing))
}

fn terms(entry: &TokenEntry) -> Result<TokenTerms, ContentFault> {
    let TokenEntry {
        issuer,
        audience,
        lifetime,
        leeway,
    } = entry;
    let text = |name, text: &str| match (1..=256).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err(value(name, text)),
    };
    let seconds = |name, seconds: u64, most| match seconds <= most {
        true => Ok(Duration::from_secs(seconds)),
        false => Err(value(name, &seconds.to_string())),
    };
    Ok(TokenTerms {
        issuer: text("token issuer", issuer)?,
        audience: text("token audience", audience)?,
        lifetime: seconds("token lifetime", *lifetime, LONGEST_LIFETIME)?,
        leeway: seconds("token leeway", *leeway, LONGEST_LEEWAY)?,
    })
}

/// The key of an entry; `None` for a secret that the follower does not have.
fn key(entry: &KeyEntry, secrets: &[Key]) -> Result<Option<Key>, ContentFault> {
    let fault = |fault| ContentFault::Key(short(&entry.kid), fault);
    let id = KeyId::parse(&entry.kid).ok_or_else(|| fault(KeyFault::Id))?;
    let algorithm = Algorithm::parse(&entry.alg).ok_or_else(|| fault(KeyFault::Algorithm))?;
    let not_before = UnixTime(entry.not_before);
    match (&entry.public, algorithm) {
        (None, Algorithm::Hs256) => {
            let own = secrets.iter().find(|own| *own.id() == id);
            Ok(own.map(|own| own.verifying(not_before, entry.signs)))
        }
        (None, _) => Err(fault(KeyFault::Parts)),
        // Whoever reads a published secret can sign with it.
        (Some(_), Algorithm::Hs256) => Err(fault(KeyFault::Kind(algorithm))),
        (Some(members), _) => {
            is_public(entry, members)?;
            let public = serde_json::from_value(Value::Object(members.clone()));
            let public = public.map_err(|_| fault(KeyFault::Parts))?;
            Key::from_public(id, algorithm, public, not_before, entry.signs)
                .map(Some)
                .map_err(fault)
        }
    }
}

/// Refuses private halves and every other member that a public key does not have.
fn is_public(entry: &KeyEntry, members: &Map<String, Value>) -> Result<(), ContentFault> {
    let known = ["kty", "crv", "alg", "use", "kid", "n", "e", "x", "y"];
    let foreign = members.keys().find(|name| !known.contains(&&***name));
    if let Some(name) = foreign {
        return Err(ContentFault::Member(short(&entry.kid), short(name)));
    }
    for (name, said) in [("kid", &entry.kid), ("alg", &entry.alg)] {
        if members.get(name).is_some_and(|own| own != said) {
            return Err(ContentFault::Member(short(&entry.kid), name.into()));
        }
    }
    Ok(())
}

fn issuers(entries: &[IssuerEntry], own: &str) -> Result<Issuers, ContentFault> {
    at_most("issuers", entries.len(), MOST_ISSUERS)?;
    let mut names = HashSet::new();
    let mut issuers = Vec::with_capacity(entries.len());
    for entry in entries {
        let fault = |what| ContentFault::Issuer(short(&entry.issuer), what);
        if entry.issuer.is_empty() || entry.issuer.contains('|') {
            return Err(fault("cannot have this name"));
        }
        if entry.issuer == own || !names.insert(&*entry.issuer) {
            return Err(fault("has a name that is taken"));
        }
        let issuer = Issuer::new(issuer_terms(entry)?);
        if let Some(keys) = &entry.keys {
            (issuer.take(keys.to_string().as_bytes()))
                .map_err(|what| ContentFault::Document(short(&entry.issuer), what))?;
        }
        issuers.push(issuer);
    }
    Ok(issuers.into())
}

fn issuer_terms(entry: &IssuerEntry) -> Result<IssuerTerms, ContentFault> {
    let fault = |what| ContentFault::Issuer(short(&entry.issuer), what);
    if entry.audience.is_empty() || entry.username.is_empty() {
        return Err(fault("has no audience, or no claim of user names"));
    }
    if entry.prefix.len() > 64 || Username::parse(&format!("{}x", entry.prefix)).is_none() {
        return Err(fault("has a prefix that no user name can have"));
    }
    let roles = |names: &[String]| Roles::parse(names.iter().map(String::as_str));
    let algorithms: Option<Vec<_>> = (entry.algorithms.iter())
        .map(|name| Algorithm::parse(name).filter(|own| IssuerTerms::ALGORITHMS.contains(own)))
        .collect();
    Ok(IssuerTerms {
        issuer: entry.issuer.clone(),
        audience: entry.audience.clone(),
        prefix: entry.prefix.clone(),
        username: entry.username.clone(),
        roles: entry.roles.clone(),
        accept_roles: roles(&entry.accept_roles)?,
        grant: roles(&entry.grant)?,
        algorithms: algorithms.ok_or_else(|| fault("has an algorithm that is not supported"))?,
    })
}
