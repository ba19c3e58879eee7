//! Which peers may ask Doorward. `client_address` says which address a client has.

mod client_address;

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv6Net};

pub use self::client_address::{ClientAddress, Forwarded, NoAddress, Warned};

/// The peer of a connection to Doorward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A peer with this address.
    Address(IpAddr),
    /// A peer at the Unix socket; the mode of its file decides who may open it.
    Socket,
}

impl Peer {
    /// The address, if there is one.
    #[must_use]
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Socket => None,
        }
    }
}

/// The networks of the gateways that may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// A text that is neither a network in CIDR notation nor an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network; write one such as 10.0.0.0/8 or fd00::/8")]
pub struct NetworkFault(pub String);

impl TrustedProxies {
    /// Parses networks in CIDR notation, or single addresses.
    ///
    /// # Errors
    ///
    /// The first text that is neither.
    pub fn parse<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, NetworkFault> {
        networks
            .into_iter()
            .map(|text| {
                let network = text.parse::<IpNet>();
                let address = || text.parse::<IpAddr>().map(IpNet::from);
                (network.or_else(|_| address())).map_err(|_| NetworkFault(text.to_owned()))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The loopback networks.
    #[must_use]
    pub fn loopback() -> Self {
        let networks = [
            IpNet::new(IpAddr::from([127, 0, 0, 0]), 8),
            IpNet::new(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128),
        ];
        Self(networks.into_iter().filter_map(Result::ok).collect())
    }

    /// The networks, in CIDR notation.
    pub fn networks(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }

    /// Whether a peer may ask.
    #[must_use]
    pub fn trusts(&self, peer: Peer) -> bool {
        match peer {
            Peer::Address(address) => self.contains(address),
            Peer::Socket => true,
        }
    }

    /// Whether an address is a gateway's. IPv4 in IPv6 (RFC 4291, 2.5.5.2) is IPv4.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }

    /// Whether the networks together contain at least half of all IPv4 addresses, or at least half of the routed IPv6
    /// addresses (2000::/3). Gateways do not have so many; everybody who reaches the port would be trusted.
    #[must_use]
    pub fn covers_the_internet(&self) -> bool {
        let (mut v4, mut v6) = (0_u64, 0_u128);
        for network in IpNet::aggregate(&self.0) {
            match network {
                IpNet::V4(network) => v4 += 1 << (32 - network.prefix_len()),
                // In units of a /64, so that all of IPv6 fits a number.
                IpNet::V6(network) => {
                    let part = if network.contains(&ROUTED) {
                        ROUTED.prefix_len()
                    } else if ROUTED.contains(&network) {
                        network.prefix_len()
                    } else {
                        continue;
                    };
                    v6 += 1 << 64_u8.saturating_sub(part);
                }
            }
        }
        v4 >= 1 << 31 || v6 >= 1 << 60
    }
}

/// 2000::/3, which contains all unicast addresses of the Internet (RFC 4291, 2.4).
const ROUTED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<_> = self.networks().collect();
        f.write_str(&networks.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusted_networks_contain_their_addresses() {
        let trusted = TrustedProxies::parse(["10.0.0.0/8", "192.0.2.7", "fd00::/8"]).unwrap();
        for inside in ["10.1.2.3", "192.0.2.7", "fd12::1", "::ffff:10.9.9.9"] {
            assert!(trusted.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "11.0.0.1",
            "192.0.2.8",
            "127.0.0.1",
            "::1",
            "::ffff:11.0.0.1",
        ] {
            assert!(!trusted.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(TrustedProxies::loopback().contains("127.9.9.9".parse().unwrap()));
        assert!(TrustedProxies::loopback().contains("::1".parse().unwrap()));
        assert!(!TrustedProxies::loopback().contains("10.0.0.1".parse().unwrap()));
        assert!(!trusted.trusts(Peer::Address("127.0.0.1".parse().unwrap())));
        assert!(trusted.trusts(Peer::Socket));
        for bad in ["10.0.0.0/33", "everybody", "", "10.0.0.1:80"] {
            assert_eq!(
                TrustedProxies::parse([bad]),
                Err(NetworkFault(bad.to_owned()))
            );
        }
    }

    #[test]
    fn trusting_the_whole_internet_is_detected() {
        for everything in [
            &["0.0.0.0/0"][..],
            &["::/0"],
            &["10.0.0.0/8", "0.0.0.0/1", "128.0.0.0/1"],
            &["0.0.0.0/1"],
            &["2000::/3"],
            &["2000::/4", "fd00::/8"],
            &["::/1", "8000::/1"],
            &["0.0.0.0/2", "64.0.0.0/3", "96.0.0.0/3"],
        ] {
            let trusted = TrustedProxies::parse(everything.iter().copied()).unwrap();
            assert!(trusted.covers_the_internet(), "{everything:?}");
        }
        for some in [
            &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"][..],
            &["0.0.0.0/2", "64.0.0.0/3"],
            &["8000::/1"],
            &["2001:db8::/32", "2001:db8::/32"],
            &[],
        ] {
            let trusted = TrustedProxies::parse(some.iter().copied()).unwrap();
            assert!(!trusted.covers_the_internet(), "{some:?}");
        }
        assert!(!TrustedProxies::loopback().covers_the_internet());
    }
}
