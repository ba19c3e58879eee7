//! Where doors listen, to whom, and how they close.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{DAY, duration, number, reader::Reader};
use crate::{
    domain::trust::TrustedProxies,
    listen::Address,
    tls::{ClientName, Clients, Terms},
};

pub(super) fn address(reader: &mut Reader, key: &str, port: u16) -> Address {
    let loopback = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    reader.parse(key, loopback, Address::parse)
}

/// Probes and scrapes come over the network.
pub(super) fn ops(reader: &mut Reader) -> SocketAddr {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 9003));
    reader.parse("listen.ops", loopback, |text| {
        text.parse().map_err(|_| {
            format!("{text:?} is not an address; write IP:PORT such as 127.0.0.1:9003 or [::]:9003")
        })
    })
}

pub(super) fn mode(reader: &mut Reader) -> u32 {
    reader.parse("listen.socket_mode", 0o660, |text| {
        let mode = u32::from_str_radix(text, 8).ok();
        mode.filter(|mode| *mode <= 0o777 && mode & 0o600 == 0o600)
            .ok_or_else(|| {
                format!(
                    "{text:?} is not the mode of a socket; write one in octal such as 0600, 0660 or 0666"
                )
            })
    })
}

pub(super) fn tls(reader: &mut Reader) -> Option<Terms> {
    let mut path = |key| reader.parse(key, None, |text| Ok(Some(PathBuf::from(text))));
    let (certificate, key) = (path("listen.tls_certificate"), path("listen.tls_key"));
    let authorities = path("listen.tls_client_ca");
    let names = names(reader);
    if !names.is_empty() && authorities.is_none() {
        reader.fault(
            "listen.tls_client_names",
            "needs listen.tls_client_ca beside it",
        );
    }
    let clients = authorities.map(|authorities| Clients { authorities, names });
    match (certificate, key, clients) {
        (Some(certificate), Some(key), clients) => Some(Terms {
            certificate,
            key,
            clients,
        }),
        (Some(_), None, _) => {
            reader.fault("listen.tls_certificate", "needs listen.tls_key beside it");
            None
        }
        (None, Some(_), _) => {
            reader.fault("listen.tls_key", "needs listen.tls_certificate beside it");
            None
        }
        (None, None, Some(_)) => {
            reader.fault(
                "listen.tls_client_ca",
                "needs listen.tls_certificate and listen.tls_key beside it",
            );
            None
        }
        (None, None, None) => None,
    }
}

fn names(reader: &mut Reader) -> Vec<ClientName> {
    let Some(value) = reader.get("listen.tls_client_names").cloned() else {
        return Vec::new();
    };
    let mut names = Vec::new();
    for name in value.raw.items() {
        match ClientName::parse(&name) {
            Ok(name) => names.push(name),
            Err(what) => reader.fault(value.place.clone(), what),
        }
    }
    // An empty list that let everybody in would be read as one that lets nobody in.
    if names.is_empty() {
        reader.fault(
            value.place,
            "names nobody; leave it out where any certificate of the authorities will do",
        );
    }
    names
}

pub(super) fn max_check(reader: &mut Reader) -> usize {
    // No less than the headers that Envoy takes from a client by default.
    reader.parse("listen.max_check", 262_144, |text| {
        number(text, 65_536, 16_777_216)
    })
}

/// Of trusted peers, and of all others.
pub(super) fn connections(reader: &mut Reader) -> (usize, usize) {
    let mut most = |key, default| reader.parse(key, default, |text| number(text, 16, 1_000_000));
    (
        most("listen.max_connections", 10_000),
        most("listen.max_untrusted_connections", 1000),
    )
}

pub(super) fn age(reader: &mut Reader) -> Option<Duration> {
    let default = Duration::from_secs(600);
    let age = reader.parse("listen.connection_age", default, |text| {
        duration(text, Duration::ZERO, DAY)
    });
    Some(age).filter(|age| !age.is_zero())
}

/// The delay and the deadline.
pub(super) fn shutdown(reader: &mut Reader) -> (Duration, Duration) {
    let mut length = |key, default| {
        reader.parse(key, Duration::from_secs(default), |text| {
            duration(text, Duration::ZERO, Duration::from_secs(600))
        })
    };
    (length("shutdown.delay", 5), length("shutdown.deadline", 20))
}

/// Who may ask. Beyond loopback they must be named.
pub(super) fn trusted(reader: &mut Reader, doors: [&Address; 2]) -> TrustedProxies {
    let loopback = TrustedProxies::loopback();
    let Some(value) = reader.get("trusted_proxies").cloned() else {
        for (key, address) in ["listen.grpc", "listen.http"].into_iter().zip(doors) {
            if let Address::Tcp(tcp) = address
                && !tcp.ip().is_loopback()
            {
                let place = reader
                    .get(key)
                    .map_or(key.into(), |value| value.place.clone());
                reader.fault(
                    place,
                    format!(
                        "{address} is beyond loopback, so the gateways that may ask must be named; add the line trusted_proxies = [\"10.0.0.0/8\"] with their networks"
                    ),
                );
            }
        }
        return loopback;
    };
    let networks = value.raw.items();
    let networks = networks.iter().map(String::as_str);
    TrustedProxies::parse(networks).unwrap_or_else(|text| {
        reader.fault(
            value.place,
            format!("{text:?} is not a network; write one such as 10.0.0.0/8 or fd00::/8"),
        );
        loopback
    })
}
