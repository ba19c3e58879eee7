//! Keys of counts: which addresses belong to one client, or to one customer.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// The key of a count, as a text that reveals no name.
pub(crate) type Key = Box<str>;

/// The origin of an attempt, as keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// One IPv4 address or a /64; `None` if the address is not known.
    pub(super) address: Option<Key>,
    /// The /48 around it, for IPv6.
    pub(super) network: Option<Key>,
}

impl Origin {
    pub(super) fn of(client: Option<IpAddr>) -> Self {
        let key = |network: IpNet| -> Key { format!("a:{network}").into() };
        Self {
            address: client.and_then(one_customer).map(key),
            network: client.and_then(one_site).map(key),
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        [self.address.as_ref(), self.network.as_ref()]
            .into_iter()
            .flatten()
    }
}

/// The key of an address, for the command that clears it.
#[must_use]
pub(crate) fn address_key(client: IpAddr) -> Option<Key> {
    Origin::of(Some(client)).address
}

/// The network that one client may use whole: one IPv4 address, or a /64 of IPv6 (RFC 6177).
pub(super) fn one_customer(client: IpAddr) -> Option<IpNet> {
    let client = plain(client);
    let length = match client {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 64,
    };
    cut(client, length)
}

/// The largest network that one customer may have (RFC 6177), or that many customers of one provider share.
fn one_site(client: IpAddr) -> Option<IpNet> {
    match plain(client) {
        IpAddr::V4(_) => None,
        client @ IpAddr::V6(_) => cut(client, 48),
    }
}

/// Whether a key belongs to a /48.
pub(super) fn is_site(key: &str) -> bool {
    is_address(key) && key.ends_with("/48")
}

fn cut(client: IpAddr, length: u8) -> Option<IpNet> {
    let network = IpNet::new(client, length).ok();
    network.map(|network| network.trunc())
}

/// IPv4 in IPv6 is IPv4: mapped (RFC 4291, 2.5.5.2), or behind a translator (64:ff9b::/96, RFC 6052), where all of IPv4
/// would be one /64.
fn plain(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(client) => match client.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                Ipv4Addr::new(a, b, c, d).into()
            }
            _ => client.into(),
        },
        client @ IpAddr::V4(_) => client,
    }
}

pub(super) fn is_address(key: &str) -> bool {
    key.starts_with("a:")
}
