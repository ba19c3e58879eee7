//! `[listen]`: where the doors listen, and with which limits.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    fault::ValueFault,
    key::{Key, Optional, Section},
    reader::Reader,
    value::{DAY, duration, each, file, number},
};
use crate::doors::{
    listen::Address,
    tls::{ClientName, Clients, Terms},
};

/// Settings of the doors.
#[derive(Debug)]
pub(crate) struct ListenSettings {
    /// The address of the gRPC door.
    pub(crate) grpc: Address,
    /// The address of the HTTP door.
    pub(crate) http: Address,
    /// The address of health and metrics.
    pub(crate) ops: SocketAddr,
    /// The mode of Unix sockets.
    pub(crate) socket_mode: u32,
    /// The most bytes of a check at the gRPC door.
    pub(crate) max_check: usize,
    /// The most open connections of trusted peers, at each door.
    pub(crate) max_connections: usize,
    /// The most open connections of other peers, at the HTTP door.
    pub(crate) max_untrusted_connections: usize,
    /// The most requests in flight at both doors together.
    pub(crate) max_requests: usize,
    /// The age at which gRPC connections are asked to end; `None` for never.
    pub(crate) connection_age: Option<Duration>,
    /// The certificate of both doors, and which clients may connect; `None` for plain text.
    pub(crate) tls: Option<Terms>,
}

pub(super) static KEYS: Section = &[
    &GRPC,
    &HTTP,
    &OPS,
    &SOCKET_MODE,
    &CONNECTION_AGE,
    &MAX_CHECK,
    &MAX_CONNECTIONS,
    &MAX_UNTRUSTED_CONNECTIONS,
    &MAX_REQUESTS,
    &TLS_CERTIFICATE,
    &TLS_KEY,
    &TLS_CLIENT_CA,
    &TLS_CLIENT_NAMES,
];

pub(super) static GRPC: Key<Address> = Key::new(
    "listen.grpc",
    "127.0.0.1:9001",
    address,
    "Address of the gRPC door (ext_authz): `IP:PORT` or `unix:PATH`.",
);

pub(super) static HTTP: Key<Address> = Key::new(
    "listen.http",
    "127.0.0.1:9002",
    address,
    "Address of the HTTP door, for other gateways, `/login` and `/validate`: `IP:PORT` or `unix:PATH`.",
);

static OPS: Key<SocketAddr> = Key::new(
    "listen.ops",
    "127.0.0.1:9003",
    ops,
    "Address of `/livez`, `/readyz` and `/metrics` (HTTP): `IP:PORT`.",
);

static SOCKET_MODE: Key<u32> = Key::new(
    "listen.socket_mode",
    "0660",
    mode,
    "Mode of Unix sockets, in octal. Every process that may write to a socket may ask there.",
);

static CONNECTION_AGE: Key<Option<Duration>> = Key::new(
    "listen.connection_age",
    "10min",
    |text| {
        let age = duration(text, Duration::ZERO, DAY)?;
        Ok(Some(age).filter(|age| !age.is_zero()))
    },
    "Age at which Doorward asks a gRPC connection to end (GOAWAY), plus or minus 10 %, so that load spreads over replicas: at most 1day; `0s` for never.",
);

static MAX_CHECK: Key<usize> = Key::new(
    "listen.max_check",
    "262144",
    // The minimum is what Envoy accepts as headers of a request by default.
    |text| number(text, 65_536, 16_777_216),
    "Largest check at the gRPC door, 65536 to 16777216 bytes: what Envoy sends about one request, including the part of the body that `with_request_body` adds. Doorward denies a larger check with 413.",
);

static MAX_CONNECTIONS: Key<usize> = Key::new(
    "listen.max_connections",
    "10000",
    |text| number(text, 16, 1_000_000),
    "Most open connections of peers in `trusted_proxies`, counted separately at the gRPC door and at the HTTP door, 16 to 1000000. One address may have half of them.",
);

static MAX_UNTRUSTED_CONNECTIONS: Key<usize> = Key::new(
    "listen.max_untrusted_connections",
    "1000",
    |text| number(text, 16, 1_000_000),
    "Most open connections of all other peers at the HTTP door, 16 to 1000000. One address may have a quarter of them.",
);

static MAX_REQUESTS: Key<usize> = Key::new(
    "listen.max_requests",
    "10000",
    |text| number(text, 1, 1_000_000),
    "Most requests in flight at the gRPC door and the HTTP door together, 1 to 1000000; peers that are not in `trusted_proxies` may have a quarter of them. Doorward answers further requests with 503 and `Retry-After`.",
);

static TLS_CERTIFICATE: Optional<PathBuf> = Key::new(
    "listen.tls_certificate",
    "none",
    file,
    "PEM file of the certificate chain of the gRPC door and the HTTP door. Without it, both doors use plain text, which is for loopback, Unix sockets and networks that encrypt.",
)
.reloads()
.optional();

static TLS_KEY: Optional<PathBuf> = Key::new(
    "listen.tls_key",
    "none",
    file,
    "PEM file of the private key of that certificate.",
)
.reloads()
.optional();

static TLS_CLIENT_CA: Optional<PathBuf> = Key::new(
    "listen.tls_client_ca",
    "none",
    file,
    "PEM file of certificate authorities. If it is set, every client must show a certificate that one of them issued.",
)
.reloads()
.optional();

static TLS_CLIENT_NAMES: Optional<Vec<ClientName>> = Key::list(
    "listen.tls_client_names",
    "any",
    client_names,
    "Subject alternative names, of which a client's certificate must have one: DNS names or URIs, such as `spiffe://cluster.local/ns/gateway/sa/envoy`.",
)
.reloads()
.optional();

impl ListenSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            grpc: reader.get(&GRPC),
            http: reader.get(&HTTP),
            ops: reader.get(&OPS),
            socket_mode: reader.get(&SOCKET_MODE),
            max_check: reader.get(&MAX_CHECK),
            max_connections: reader.get(&MAX_CONNECTIONS),
            max_untrusted_connections: reader.get(&MAX_UNTRUSTED_CONNECTIONS),
            max_requests: reader.get(&MAX_REQUESTS),
            connection_age: reader.get(&CONNECTION_AGE),
            tls: tls(reader),
        }
    }
}

fn tls(reader: &mut Reader<'_>) -> Option<Terms> {
    let certificate = reader.find(&TLS_CERTIFICATE);
    let key = reader.find(&TLS_KEY);
    let authorities = reader.find(&TLS_CLIENT_CA);
    let names = reader.find(&TLS_CLIENT_NAMES).unwrap_or_default();
    if !names.is_empty() && authorities.is_none() {
        reader.fault_of(&TLS_CLIENT_NAMES, "needs listen.tls_client_ca beside it");
    }
    let clients = authorities.map(|authorities| Clients { authorities, names });
    match (certificate, key, clients) {
        (Some(certificate), Some(key), clients) => {
            return Some(Terms {
                certificate,
                key,
                clients,
            });
        }
        (Some(_), None, _) => {
            reader.fault_of(&TLS_CERTIFICATE, "needs listen.tls_key beside it");
        }
        (None, Some(_), _) => {
            reader.fault_of(&TLS_KEY, "needs listen.tls_certificate beside it");
        }
        (None, None, Some(_)) => reader.fault_of(
            &TLS_CLIENT_CA,
            "needs listen.tls_certificate and listen.tls_key beside it",
        ),
        (None, None, None) => {}
    }
    None
}

fn address(text: &str) -> Result<Address, ValueFault> {
    Ok(Address::parse(text)?)
}

/// Not a Unix socket: probes and scrapes come over the network.
fn ops(text: &str) -> Result<SocketAddr, ValueFault> {
    let address = text.parse();
    address.map_err(|_| ValueFault::OpsAddress(text.to_owned()))
}

fn mode(text: &str) -> Result<u32, ValueFault> {
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| *mode <= 0o777 && mode & 0o600 == 0o600)
        .ok_or_else(|| ValueFault::Mode(text.to_owned()))
}

/// Refuses an empty list: it could mean that every name is accepted, or that none is.
fn client_names(names: &[String]) -> Result<Vec<ClientName>, Vec<ValueFault>> {
    if names.is_empty() {
        return Err(vec![ValueFault::NoClientName]);
    }
    each(names, |name| Ok(ClientName::parse(name)?))
}
