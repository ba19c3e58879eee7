//! Which decisions can occur at which door, so that their series exist before the first one.

use crate::{
    domain::{
        decision::{Reason, Verdict},
        policy::{Demand, Endpoint, Rule},
        token::TokenFault,
    },
    observe::request_log::Door,
};

use Reason::*;

/// Doors through which requests are judged by rules.
const JUDGING: [Door; 4] = [Door::Grpc, Door::EnvoyHttp, Door::Forward, Door::Nginx];

/// Denials of requests that no rule could be found for.
const WITHOUT_RULE: [Reason; 16] = [
    MalformedMethod,
    MethodCase,
    MalformedHost,
    AmbiguousPath,
    DoubledHeader,
    AliasedHeader,
    TwoReadings,
    NoHost,
    NoRule,
    UntrustedPeer,
    Probe,
    NotHttp,
    DialectHeader,
    TwoOriginals,
    Overloaded,
    Internal,
];

/// Denials of checks that Envoy sent and that cannot be read.
const OF_CHECKS: [Reason; 3] = [CheckTooLarge, CheckTooSlow, MalformedCheck];

/// Denials where a token is needed.
const OF_TOKENS: [Reason; 18] = [
    MissingToken,
    MalformedAuthorization,
    RevocationsStale,
    InvalidToken(TokenFault::Parts),
    InvalidToken(TokenFault::Header),
    InvalidToken(TokenFault::Algorithm),
    InvalidToken(TokenFault::Type),
    InvalidToken(TokenFault::KeyId),
    InvalidToken(TokenFault::UnknownKey),
    InvalidToken(TokenFault::Signature),
    InvalidToken(TokenFault::Claims),
    InvalidToken(TokenFault::Issuer),
    InvalidToken(TokenFault::Audience),
    InvalidToken(TokenFault::Expired),
    InvalidToken(TokenFault::NotYet),
    InvalidToken(TokenFault::IssuedAt),
    InvalidToken(TokenFault::Identity),
    InvalidToken(TokenFault::Ended),
];

/// Denials of keys for machines.
const OF_KEYS: [Reason; 6] = [
    KeyMalformed,
    KeyUnknown,
    KeyEnded,
    KeyExpired,
    KeyOwner,
    KeyPath,
];

/// Denials where the database is needed.
const OF_DATABASES: [Reason; 3] = [DatabaseUnavailable, DatabaseTimeout, Internal];

/// Denials where a password is hashed.
const OF_HASHING: [Reason; 5] = [
    HashingBusy,
    Throttled,
    AccountQueueFull,
    AddressQueueFull,
    CallerGone,
];

/// Denials where a password is verified.
const OF_PASSWORDS: [Reason; 5] = [
    UnknownUser,
    WrongPassword,
    Disabled,
    UnsupportedHash,
    ForeignName,
];

/// Denials at every page.
const OF_PAGES: [Reason; 1] = [MalformedAuthorization];

/// A kind of decision at a door.
pub(super) type Expected = (Door, Verdict, Reason);

/// Decisions without a rule at doors that judge, and those of `/validate`.
pub(super) fn without_rule() -> impl Iterator<Item = Expected> {
    let judging = JUDGING.into_iter().flat_map(|door| {
        let possible = WITHOUT_RULE.into_iter().filter(move |reason| {
            let is_grpc = door == Door::Grpc;
            (*reason != NotHttp || is_grpc)
                && (*reason != DialectHeader || !is_grpc)
                && (*reason != TwoOriginals || door == Door::Nginx)
        });
        possible.map(move |reason| (door, Verdict::Deny, reason))
    });
    let checks = OF_CHECKS.map(|reason| (Door::Grpc, Verdict::Deny, reason));
    let tokens = OF_TOKENS.map(|reason| (Door::Validate, Verdict::Deny, reason));
    judging.chain(checks).chain(tokens).chain([
        (Door::Validate, Verdict::Allow, Token),
        (Door::Validate, Verdict::Deny, Overloaded),
        (Door::Validate, Verdict::Deny, Internal),
    ])
}

/// Decisions at the route of an endpoint on the HTTP port.
pub(super) fn of_route(endpoint: Endpoint) -> impl Iterator<Item = Expected> {
    let door = Door::from(endpoint);
    let denials = [
        MalformedHost,
        DoubledHeader,
        AliasedHeader,
        SlowBody,
        EndpointMethod,
        Overloaded,
    ];
    let denials = denials.map(|reason| (Verdict::Deny, reason));
    (of_endpoint(endpoint).into_iter().chain(denials))
        .map(move |(verdict, reason)| (door, verdict, reason))
}

fn deny(reasons: &[Reason]) -> Vec<(Verdict, Reason)> {
    let denials = reasons.iter().map(|reason| (Verdict::Deny, *reason));
    denials.collect()
}

/// Decisions that follow from a rule.
pub(super) fn of_rule(demand: &Demand) -> impl Iterator<Item = Expected> + use<> {
    let (grpc, others) = match demand {
        Demand::Nobody => (deny(&[NoRule]), None),
        Demand::Public => {
            let mut all = deny(&[MalformedAuthorization]);
            all.extend([(Verdict::Allow, Token), (Verdict::Allow, Anonymous)]);
            (all, None)
        }
        Demand::SignedIn => {
            let mut all = deny(&OF_TOKENS);
            all.push((Verdict::Allow, Token));
            (all, None)
        }
        Demand::Role(_) => {
            let mut all = deny(&OF_TOKENS);
            all.extend([(Verdict::Allow, Token), (Verdict::Deny, MissingRole)]);
            (all, None)
        }
        Demand::Endpoint(endpoint) => {
            let mut all = of_endpoint(*endpoint);
            all.push((Verdict::Deny, EndpointMethod));
            (all, Some(deny(&[EndpointInSubRequest, EndpointMethod])))
        }
    };
    JUDGING.into_iter().flat_map(move |door| {
        let all = match &others {
            Some(others) if door != Door::Grpc => others,
            Some(_) | None => &grpc,
        };
        let all: Vec<_> = all
            .iter()
            .map(|(verdict, reason)| (door, *verdict, *reason))
            .collect();
        all
    })
}

/// What a key for machines adds to the decisions of a rule.
pub(super) fn by_key(rule: &Rule) -> impl Iterator<Item = Expected> + use<> {
    let added = match rule.demand() {
        Demand::Nobody => Vec::new(),
        Demand::Public => vec![(Verdict::Allow, Key)],
        Demand::SignedIn | Demand::Role(_) => {
            let mut added = deny(&OF_KEYS);
            added.push((Verdict::Allow, Key));
            if rule.takes_basic_keys() {
                added.push((Verdict::Deny, MissingKey));
            }
            added
        }
        Demand::Endpoint(endpoint) => match endpoint {
            Endpoint::Logout | Endpoint::Password | Endpoint::Keys | Endpoint::KeysPage => {
                deny(&[KeyNotAccepted])
            }
            // The other pages ignore keys.
            Endpoint::Login
            | Endpoint::Refresh
            | Endpoint::Register
            | Endpoint::SignIn
            | Endpoint::SignOut
            | Endpoint::SignedIn => Vec::new(),
        },
    };
    let is_endpoint = matches!(rule.demand(), Demand::Endpoint(_));
    JUDGING
        .into_iter()
        .filter(move |door| !is_endpoint || *door == Door::Grpc)
        .flat_map(move |door| {
            let added = added.iter();
            let added = added.map(|(verdict, reason)| (door, *verdict, *reason));
            added.collect::<Vec<_>>()
        })
}

/// What the cookie of a browser adds to the decisions of a rule.
pub(super) fn by_cookie(rule: &Rule) -> impl Iterator<Item = Expected> + use<> {
    let counts = match rule.demand() {
        Demand::SignedIn | Demand::Role(_) => true,
        // A cookie that does not count is only taken off.
        Demand::Public | Demand::Nobody => false,
        // The pages have series of their own.
        Demand::Endpoint(_) => false,
    };
    let denials = [
        CrossSite,
        MalformedCookie,
        RenewalDue,
        InvalidToken(TokenFault::NotForCookie),
    ];
    JUDGING
        .into_iter()
        .filter(move |_| counts)
        .flat_map(move |door| {
            // Envoy gets the next cookie with the answer.
            let possible = denials.into_iter();
            let possible =
                possible.filter(move |reason| door != Door::Grpc || *reason != RenewalDue);
            possible.map(move |reason| (door, Verdict::Deny, reason))
        })
}

fn of_endpoint(endpoint: Endpoint) -> Vec<(Verdict, Reason)> {
    let (done, denials): (&[_], &[&[Reason]]) = match endpoint {
        Endpoint::Login => (
            &[(Verdict::Issue, Login)],
            &[
                &[
                    MissingCredentials,
                    MalformedAuthorization,
                    MalformedBasic,
                    MalformedBody,
                ],
                &OF_PASSWORDS,
                &OF_HASHING,
            ],
        ),
        Endpoint::Logout => (
            &[(Verdict::Done, Logout), (Verdict::Done, LogoutEverywhere)],
            &[&OF_TOKENS],
        ),
        Endpoint::Refresh => (
            &[(Verdict::Issue, Refresh)],
            &[&[
                MalformedBody,
                RefreshMalformed,
                RefreshUnknown,
                RefreshReused,
                RefreshAccount,
            ]],
        ),
        Endpoint::Register => (
            &[(Verdict::Done, Register)],
            &[
                &[
                    MalformedBody,
                    NewName,
                    ForeignName,
                    ReservedName,
                    NameTaken,
                    WeakPassword,
                ],
                &OF_HASHING,
            ],
        ),
        Endpoint::Password => (
            &[(Verdict::Issue, Password)],
            &[
                &[MalformedBody, WeakPassword, PasswordChangedMeanwhile],
                &OF_TOKENS,
                &OF_PASSWORDS,
                &OF_HASHING,
            ],
        ),
        Endpoint::SignIn => (
            &[
                (Verdict::Done, Page),
                (Verdict::Issue, SignIn),
                (Verdict::Issue, Renewal),
            ],
            &[
                &OF_PAGES,
                &[CrossSite, ForeignForm, MalformedBody, RevocationsStale],
                &OF_PASSWORDS,
                &OF_HASHING,
            ],
        ),
        Endpoint::SignOut => (&[(Verdict::Done, SignOut)], &[&OF_PAGES, &[CrossSite]]),
        Endpoint::SignedIn => (
            &[(Verdict::Done, Page)],
            &[
                &OF_PAGES,
                &[MissingToken, MalformedCookie, RevocationsStale],
            ],
        ),
        Endpoint::Keys => (
            &[
                (Verdict::Done, KeyList),
                (Verdict::Done, KeyAdd),
                (Verdict::Done, KeyEnd),
            ],
            &[
                &[MalformedBody, KeyNotFound, TooManyKeys, Disabled],
                &OF_TOKENS,
            ],
        ),
        Endpoint::KeysPage => (
            &[
                (Verdict::Done, KeyList),
                (Verdict::Done, KeyAdd),
                (Verdict::Done, KeyEnd),
            ],
            &[
                &[CrossSite, ForeignForm, MalformedBody, MalformedCookie],
                &[KeyNotFound, KeyRepeated, TooManyKeys, Disabled],
                &OF_TOKENS,
            ],
        ),
    };
    let denials = denials.iter().copied().flatten().chain(&OF_DATABASES);
    (done.iter().copied())
        .chain(denials.map(|reason| (Verdict::Deny, *reason)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::account::{Role, Roles};

    #[test]
    fn every_reason_is_expected_somewhere_and_none_twice() {
        let roles = Roles::collect([Role::admin()]).unwrap();
        let demands = [
            Demand::Nobody,
            Demand::Public,
            Demand::SignedIn,
            Demand::Role(roles),
        ];
        let endpoints = Endpoint::ALL.map(Demand::Endpoint);
        let by_rule: Vec<Vec<_>> = (demands.iter().chain(&endpoints))
            .map(|demand| of_rule(demand).collect())
            .collect();
        let routes = Endpoint::ALL.map(|endpoint| of_route(endpoint).collect());
        let with_all: Vec<Vec<_>> = (demands.iter().chain(&endpoints))
            .map(|demand| {
                let rule = Rule::new("/x", &[], &[], demand.clone()).unwrap();
                let taking = rule.clone().taking_basic_keys().unwrap_or(rule);
                of_rule(demand)
                    .chain(by_key(&taking))
                    .chain(by_cookie(&taking))
                    .collect()
            })
            .collect();
        let mut expected = HashSet::new();
        for kind in by_rule
            .iter()
            .chain(&routes)
            .chain(&with_all)
            .chain([&without_rule().collect()])
        {
            let unique: HashSet<_> = kind.iter().collect();
            assert_eq!(unique.len(), kind.len());
            expected.extend(kind.iter().map(|(_, _, reason)| *reason));
        }
        for reason in Reason::WITHOUT_TOKEN_FAULTS {
            assert!(expected.contains(reason), "{reason}");
        }
    }
}
