//! Decisions of every kind.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{allow, identity, issued};
use crate::domain::{
    body::BodyFault,
    credential::{CredentialFault, LoginFault},
    decision::{
        Caller, CheckFault, Decision, Denial, Done, Forwarding, InvalidKey, LoginReply, Refusal,
        Unavailable, WeakPassword,
    },
    machine_key::MachineKeyId,
    machine_keys::{KeyPlace, MachineKeyFault},
    path::PathFault,
    principal::Principal,
    request::{RequestFault, TokenForm},
    session::RefreshFault,
    token::TokenFault,
};

pub(super) fn any_denial() -> impl Strategy<Value = Denial> {
    prop_oneof![
        prop::sample::select(vec![
            RequestFault::NotHttp,
            RequestFault::Method,
            RequestFault::MethodCase,
            RequestFault::Host,
            RequestFault::Path(PathFault::DotSegment),
            RequestFault::DoubledHeader,
            RequestFault::AliasedHeader,
            RequestFault::Dialect("x-original-method"),
            RequestFault::TwoOriginals,
        ])
        .prop_map(Denial::Malformed),
        Just(Denial::TwoReadings),
        Just(Denial::NoHost),
        Just(Denial::Nobody),
        prop::collection::vec("[A-Z]{1,8}", 1..4).prop_map(Denial::EndpointMethod),
        Just(Denial::MissingCredentials),
        Just(Denial::MalformedCredentials(CredentialFault::Several)),
        prop_oneof![
            Just(Refusal::Basic(LoginFault::Utf8)),
            Just(Refusal::UnknownUser),
            ".*".prop_map(Refusal::WrongPassword),
            ".*".prop_map(Refusal::Disabled),
            ".*".prop_map(Refusal::UnsupportedHash),
            ".*".prop_map(Refusal::ForeignName),
        ]
        .prop_map(Denial::InvalidCredentials),
        prop::sample::select(vec![
            BodyFault::NotAnObject,
            BodyFault::TooLong,
            BodyFault::Missing("username"),
            BodyFault::NotText("password"),
            BodyFault::Doubled("username"),
            BodyFault::Impossible("password"),
        ])
        .prop_map(Denial::Body),
        prop::sample::select(vec![
            CheckFault::TooLarge,
            CheckFault::TooSlow,
            CheckFault::Malformed
        ])
        .prop_map(Denial::Check),
        Just(Denial::EndpointInSubRequest),
        any::<u32>().prop_map(|seconds| Denial::Throttled(Duration::from_secs(seconds.into()))),
        prop::sample::select(vec![RefreshFault::Malformed, RefreshFault::Reused])
            .prop_map(|fault| Denial::InvalidRefresh(fault, None)),
        Just(Denial::NewName),
        Just(Denial::ForeignName),
        Just(Denial::ReservedName),
        Just(Denial::NameTaken),
        prop::sample::select(vec![WeakPassword::Common, WeakPassword::Short(12)])
            .prop_map(Denial::WeakPassword),
        ".*".prop_map(Denial::PasswordChanged),
        Just(Denial::UntrustedPeer),
        Just(Denial::MissingToken),
        Just(Denial::MalformedToken(CredentialFault::Token)),
        prop::sample::select(vec![TokenFault::Signature, TokenFault::Expired])
            .prop_map(Denial::InvalidToken),
        Just(Denial::MissingRole(Arc::new(Principal::new(identity())))),
        Just(Denial::KeyPath(Arc::new(Principal::new(identity())))),
        Just(Denial::MissingKey),
        Just(Denial::KeyNotAccepted),
        (
            prop::sample::select(vec![KeyPlace::Basic, KeyPlace::Token]),
            prop::sample::select(vec![
                MachineKeyFault::Malformed,
                MachineKeyFault::Unknown,
                MachineKeyFault::Ended,
                MachineKeyFault::Expired,
                MachineKeyFault::Owner,
            ]),
            any::<bool>(),
        )
            .prop_map(|(place, fault, has_id)| Denial::InvalidKey(InvalidKey {
                id: has_id.then(|| MachineKeyId::parse("0123456789abcdef").unwrap()),
                place,
                fault,
            })),
        prop::sample::select(vec![
            Unavailable::Database,
            Unavailable::DatabaseTimeout,
            Unavailable::Busy,
            Unavailable::Stale,
            Unavailable::Overloaded,
            Unavailable::Internal,
        ])
        .prop_map(Denial::Unavailable),
    ]
}

pub(super) fn any_decision() -> impl Strategy<Value = Decision> {
    let caller = prop_oneof![
        Just(Caller::Anonymous),
        Just(Caller::Known(Arc::new(Principal::new(identity()))))
    ];
    let forwarding = prop_oneof![Just(Forwarding::Keep), Just(Forwarding::Strip)];
    let reply = prop_oneof![Just(LoginReply::Direct), Just(LoginReply::Through)];
    let form = prop_oneof![Just(TokenForm::Plain), Just(TokenForm::Json)];
    prop_oneof![
        (caller, forwarding).prop_map(|(caller, forwarding)| allow(caller, forwarding)),
        any_denial().prop_map(Decision::Deny),
        Just(Decision::Done(Done::Registered { subject: None })),
        any::<bool>().prop_map(|everywhere| Decision::Done(Done::LoggedOut {
            subject: "7".into(),
            everywhere,
        })),
        (reply, form).prop_map(|(reply, form)| issued(reply, form)),
    ]
}
