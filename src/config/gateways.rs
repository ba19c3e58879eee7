//! `trusted_proxies` and `client_address`: which peers are gateways, and what they say about their clients.

use super::{
    ListenSettings,
    fault::ValueFault,
    key::{AnyKey, Key, Section},
    listen,
    reader::Reader,
};
use crate::{
    domain::trust::{ClientAddress, TrustedProxies},
    doors::listen::Address,
};

/// Settings of the gateways.
#[derive(Debug)]
pub(crate) struct GatewaySettings {
    /// The networks of gateways that may ask.
    pub(crate) trusted: TrustedProxies,
    /// Where the address of a client is read from.
    pub(crate) client_address: ClientAddress,
}

pub(super) static KEYS: Section = &[&TRUSTED_PROXIES, &CLIENT_ADDRESS];

static TRUSTED_PROXIES: Key<TrustedProxies> = Key::list(
    "trusted_proxies",
    "127.0.0.0/8, ::1/128",
    |networks| {
        let networks = networks.iter().map(String::as_str);
        TrustedProxies::parse(networks).map_err(|fault| vec![fault.into()])
    },
    "Networks of the gateways that may ask at the gRPC door and at `/auth/…`. Required if a door listens beyond loopback.",
)
.reloads();

static CLIENT_ADDRESS: Key<ClientAddress> = Key::new(
    "client_address",
    "peer",
    |text| {
        let parsed = ClientAddress::parse(text);
        parsed.ok_or_else(|| ValueFault::ClientAddress(text.to_owned()))
    },
    "Where Doorward reads the client's address: `peer` (the peer of Envoy, or of the HTTP door), `x-envoy-external-address`, or `x-forwarded-for:N` (the N-th address from the right).",
)
.reloads();

impl GatewaySettings {
    pub(super) fn read(reader: &mut Reader<'_>, doors: &ListenSettings) -> Self {
        if !reader.is_set(&TRUSTED_PROXIES) {
            must_be_local(reader, &listen::GRPC, &doors.grpc);
            must_be_local(reader, &listen::HTTP, &doors.http);
        }
        Self {
            trusted: reader.get(&TRUSTED_PROXIES),
            client_address: reader.get(&CLIENT_ADDRESS),
        }
    }
}

fn must_be_local(reader: &mut Reader<'_>, key: &dyn AnyKey, address: &Address) {
    if let Address::Tcp(tcp) = address
        && !tcp.ip().is_loopback()
    {
        reader.fault_of(
            key,
            format_args!(
                "{address} is beyond loopback, so the gateways that may ask must be named; add the line trusted_proxies = [\"10.0.0.0/8\"] with their networks"
            ),
        );
    }
}
