//! The content: keys, rules and settings in force at a replica. It is replaced as a whole.

use aws_lc_rs::digest;
use doorward_core::{
    decision::{LoginReply, Realm},
    hex,
    identity_headers::IdentityHeaders,
    issuer::Issuer,
    judge::Judge,
    key::{Algorithm, Key},
    path::Tolerance,
    policy::{Demand, Endpoint, Rule},
    trust::{ClientAddress, TrustedProxies},
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, value::RawValue};

/// Everything that decides requests, except revocations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The keys of Doorward's own tokens.
    pub keys: Vec<KeyEntry>,
    /// The terms of its tokens.
    pub token: TokenEntry,
    /// Other issuers that are accepted.
    pub issuers: Vec<IssuerEntry>,
    /// The rules.
    pub rules: Vec<RuleEntry>,
    /// Everything else.
    pub settings: Settings,
}

/// A key that verifies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// Its id.
    pub kid: String,
    /// Its algorithm.
    pub alg: String,
    /// When it may start to sign, in seconds since 1970.
    pub not_before: u64,
    /// Whether it signs at its time.
    pub signs: bool,
    /// Its public half as a JWK; `None` for an HS256 secret, which a follower can have from a file only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<Map<String, Value>>,
}

/// The terms of tokens; times in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// The time from `iat` to `exp`.
    pub lifetime: u64,
    /// The tolerated difference of clocks.
    pub leeway: u64,
}

/// Another issuer, with the keys that Doorward has fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerEntry {
    /// `iss`.
    pub issuer: String,
    /// The required value in `aud`.
    pub audience: String,
    /// The prefix of every user name.
    pub prefix: String,
    /// The claim with the user name.
    pub username: String,
    /// The claim with the roles.
    #[serde(deserialize_with = "required")]
    pub roles: Option<String>,
    /// The roles that are accepted from it.
    pub accept_roles: Vec<String>,
    /// The roles that every user of this issuer has.
    pub grant: Vec<String>,
    /// The algorithms that its tokens may be signed with.
    pub algorithms: Vec<String>,
    /// Its JWK Set; `None` until Doorward has fetched it.
    #[serde(deserialize_with = "required")]
    pub keys: Option<Value>,
}

/// A rule, with the members of a `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleEntry {
    /// A path, or a prefix with `/*`.
    pub path: String,
    /// Empty for all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Empty for all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// What is demanded.
    pub allow: Allow,
    /// Whether keys are accepted as the password of Basic.
    #[serde(default, rename = "basic-keys", skip_serializing_if = "is_false")]
    pub basic_keys: bool,
    /// The audience of the signed assertion, if the rule names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// The `allow` of a `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Allow {
    /// `public`, `signed-in`, `nobody`, `role:NAME` or the name of an endpoint.
    Word(String),
    /// Roles, one of which is needed.
    Roles(Vec<String>),
}

/// The settings that decisions depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The endpoints that are switched on.
    pub endpoints: Vec<String>,
    /// `login.realm`.
    pub realm: String,
    /// `identity.headers`.
    pub identity_headers: Vec<String>,
    /// `identity.forward_bearer`.
    pub forward_bearer: bool,
    /// `cors.allow_preflight`.
    pub allow_preflight: bool,
    /// `paths.tolerate`.
    pub tolerate: Vec<String>,
    /// `paths.also`.
    pub also: Vec<String>,
    /// `trusted_proxies`.
    pub trusted_proxies: Vec<String>,
    /// `client_address`.
    pub client_address: String,
    /// `login.reply`.
    pub login_reply: String,
    /// `envoy.metadata`.
    pub metadata: bool,
    /// Keys for machines, if they are on. A follower that does not know them refuses the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_keys: Option<MachineKeysEntry>,
    /// `[sign_in]`, if it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<SignInEntry>,
    /// The signed assertion, if services get one. A follower that does not know it refuses the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assertion: Option<AssertionEntry>,
}

/// How keys for machines are shown. The keys themselves stay with Doorward, which decides requests with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineKeysEntry {
    /// `keys.header`.
    #[serde(deserialize_with = "required")]
    pub header: Option<String>,
}

/// The signed assertion. The private keys stay with Doorward, which signs it when a follower asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssertionEntry {
    /// `identity.assertion`.
    pub header: String,
    /// `identity.assertion_audience`.
    pub audience: String,
}

/// Signing in with a browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignInEntry {
    /// `sign_in.session`, in seconds.
    pub session: u64,
    /// `sign_in.insecure_cookie_for_localhost`.
    pub localhost: bool,
}

/// The settings that are not part of the judge.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// The endpoints that are switched on.
    pub endpoints: &'a [Endpoint],
    /// `login.realm`.
    pub realm: &'a Realm,
    /// `identity.headers` and `identity.assertion`.
    pub identity: IdentityHeaders,
    /// `identity.assertion_audience`, if services get an assertion.
    pub assertion_audience: Option<&'a str>,
    /// `paths.tolerate` and `paths.also`.
    pub tolerance: Tolerance,
    /// `trusted_proxies`.
    pub trusted: &'a TrustedProxies,
    /// `client_address`.
    pub client_address: ClientAddress,
    /// `login.reply`.
    pub reply: LoginReply,
    /// `envoy.metadata`.
    pub metadata: bool,
}

impl Content {
    /// The content of a judge and of the settings beside it.
    #[must_use]
    pub fn of(judge: &Judge, beside: Beside<'_>) -> Self {
        let terms = judge.verifier.terms();
        let Beside {
            endpoints,
            realm,
            identity,
            assertion_audience,
            tolerance,
            trusted,
            client_address,
            reply,
            metadata,
        } = beside;
        Self {
            keys: judge.verifier.keys().keys().iter().map(key).collect(),
            token: TokenEntry {
                issuer: terms.issuer.clone(),
                audience: terms.audience.clone(),
                lifetime: terms.lifetime.as_secs(),
                leeway: terms.leeway.as_secs(),
            },
            issuers: judge.verifier.issuers().iter().map(issuer).collect(),
            rules: judge.policy.rules().iter().map(RuleEntry::of).collect(),
            settings: Settings {
                endpoints: endpoints.iter().map(|own| own.name().into()).collect(),
                realm: realm.as_str().into(),
                identity_headers: identity.names().map(str::to_owned).into(),
                forward_bearer: judge.forwards_bearer,
                allow_preflight: judge.allows_preflight,
                tolerate: tolerance.tolerated().into_iter().map(Into::into).collect(),
                also: tolerance.also.names().into_iter().map(Into::into).collect(),
                trusted_proxies: trusted.networks().collect(),
                client_address: client_address.to_string(),
                login_reply: match reply {
                    LoginReply::Direct => DIRECT.into(),
                    LoginReply::Through => THROUGH.into(),
                },
                metadata,
                machine_keys: judge.keys.is_on().then(|| MachineKeysEntry {
                    header: identity.key_header().map(str::to_owned),
                }),
                sign_in: judge.sign_in.as_ref().map(|own| SignInEntry {
                    session: own.session.as_secs(),
                    localhost: own.localhost,
                }),
                assertion: identity.assertion().zip(assertion_audience).map(
                    |(header, audience)| AssertionEntry {
                        header: header.into(),
                        audience: audience.into(),
                    },
                ),
            },
        }
    }

    /// The content as JSON, with its digest; `None` if it cannot be written, which is a fault of the program.
    #[must_use]
    pub fn render(&self) -> Option<Rendered> {
        let json = serde_json::value::to_raw_value(self).ok()?;
        let digest = digest::digest(&digest::SHA256, json.get().as_bytes());
        let digest = hex::encode(digest.as_ref().get(..16)?);
        Some(Rendered { json, digest })
    }
}

/// A content in the form in which it is sent.
#[derive(Clone, Debug)]
pub struct Rendered {
    pub(super) json: Box<RawValue>,
    pub(super) digest: String,
}

impl Rendered {
    /// The digest, which identifies the content.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

pub(super) const DIRECT: &str = "direct";
pub(super) const THROUGH: &str = "through";

fn key(key: &Key) -> KeyEntry {
    let public = key.public().and_then(|public| {
        let Ok(Value::Object(members)) = serde_json::to_value(public) else {
            return None;
        };
        Some(members)
    });
    KeyEntry {
        kid: key.id().as_str().into(),
        alg: key.algorithm().name().into(),
        not_before: key.not_before().0,
        signs: key.can_sign(),
        public,
    }
}

fn issuer(issuer: &Issuer) -> IssuerEntry {
    let terms = issuer.terms();
    let names = |roles: &doorward_core::account::Roles| {
        roles.iter().map(|role| role.as_str().to_owned()).collect()
    };
    IssuerEntry {
        issuer: terms.issuer.clone(),
        audience: terms.audience.clone(),
        prefix: terms.prefix.clone(),
        username: terms.username.clone(),
        roles: terms.roles.clone(),
        accept_roles: names(&terms.accept_roles),
        grant: names(&terms.grant),
        algorithms: (terms.algorithms.iter().copied())
            .map(|algorithm| Algorithm::name(algorithm).into())
            .collect(),
        keys: issuer.published(),
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

impl RuleEntry {
    /// The entry of a rule.
    #[must_use]
    pub fn of(rule: &Rule) -> Self {
        Self {
            path: rule.path(),
            methods: rule.methods().to_vec(),
            hosts: rule.hosts().collect(),
            basic_keys: rule.takes_basic_keys(),
            audience: rule.audience().map(|audience| (**audience).into()),
            allow: match rule.demand() {
                Demand::Role(roles) => {
                    Allow::Roles(roles.iter().map(|role| role.as_str().into()).collect())
                }
                demand @ (Demand::Public
                | Demand::Endpoint(_)
                | Demand::SignedIn
                | Demand::Nobody) => Allow::Word(demand.to_string()),
            },
        }
    }
}

/// A member that may be null but not missing.
pub(super) fn required<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    reader: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(reader)
}
