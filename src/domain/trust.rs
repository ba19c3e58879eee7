//! Whose questions are answered, and which address a client has.

use std::{fmt, net::IpAddr, num::NonZeroUsize};

use ipnet::IpNet;

/// Who holds the other end of a connection to Doorward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Whoever has this address.
    Address(IpAddr),
    /// Whoever may open the Unix socket; the mode of its file says who that is.
    Socket,
}

impl Peer {
    /// The address, where there is one.
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

impl TrustedProxies {
    /// Takes networks in CIDR notation, or single addresses.
    ///
    /// # Errors
    ///
    /// The first text that is neither.
    pub fn parse<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        networks
            .into_iter()
            .map(|text| {
                let network = text.parse::<IpNet>();
                let address = || text.parse::<IpAddr>().map(IpNet::from);
                network.or_else(|_| address()).map_err(|_| text.to_owned())
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// This machine.
    #[must_use]
    pub fn loopback() -> Self {
        let networks = [
            IpNet::new(IpAddr::from([127, 0, 0, 0]), 8),
            IpNet::new(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128),
        ];
        Self(networks.into_iter().filter_map(Result::ok).collect())
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
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&networks.join(", "))
    }
}

/// Where the address of a client is read from. Only what the operator knows his gateway to write is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// Whoever is connected to the gateway, where the gateway says so, or to us.
    Peer,
    /// The header `x-envoy-external-address`.
    EnvoyExternalAddress,
    /// The n-th address of `x-forwarded-for`, counted from the right: a client can write whatever it likes to the left.
    ForwardedFor(NonZeroUsize),
}

/// What a door knows about where a request came from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hops<'a> {
    /// The other end of the connection.
    pub peer: Option<IpAddr>,
    /// `x-envoy-external-address`.
    pub external_address: Option<&'a [u8]>,
    /// The last `x-forwarded-for`; gateways append to the last one.
    pub forwarded_for: Option<&'a [u8]>,
}

impl ClientAddress {
    /// Reads `peer`, `x-envoy-external-address` or `x-forwarded-for:N`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "peer" => Some(Self::Peer),
            "x-envoy-external-address" => Some(Self::EnvoyExternalAddress),
            _ => {
                let number = text.strip_prefix("x-forwarded-for:")?.parse().ok()?;
                Some(Self::ForwardedFor(number))
            }
        }
    }

    /// The client's address, or nothing where it is not said or not an address.
    #[must_use]
    pub fn of(self, hops: Hops<'_>) -> Option<IpAddr> {
        let address = |text: &[u8]| {
            let text = str::from_utf8(text).ok()?.trim();
            text.parse().ok()
        };
        let address: Option<IpAddr> = match self {
            Self::Peer => hops.peer,
            Self::EnvoyExternalAddress => hops.external_address.and_then(address),
            Self::ForwardedFor(number) => hops
                .forwarded_for?
                .rsplit(|byte| *byte == b',')
                .nth(number.get() - 1)
                .and_then(address),
        };
        address.map(|address| address.to_canonical())
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer => f.write_str("peer"),
            Self::EnvoyExternalAddress => f.write_str("x-envoy-external-address"),
            Self::ForwardedFor(number) => write!(f, "x-forwarded-for:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
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
            assert_eq!(TrustedProxies::parse([bad]), Err(bad.to_owned()));
        }
    }

    #[test]
    fn the_client_is_where_the_setting_says() {
        let hops = Hops {
            peer: "10.0.0.1".parse().ok(),
            external_address: Some(b"203.0.113.9"),
            forwarded_for: Some(b"1.1.1.1, 198.51.100.2 ,::ffff:10.0.0.3"),
        };
        for (setting, expected) in [
            ("peer", Some("10.0.0.1")),
            ("x-envoy-external-address", Some("203.0.113.9")),
            ("x-forwarded-for:1", Some("10.0.0.3")),
            ("x-forwarded-for:2", Some("198.51.100.2")),
            ("x-forwarded-for:3", Some("1.1.1.1")),
            ("x-forwarded-for:4", None),
        ] {
            let client = ClientAddress::parse(setting).unwrap();
            assert_eq!(client.to_string(), setting);
            assert_eq!(
                client.of(hops),
                expected.map(|text| text.parse().unwrap()),
                "{setting}"
            );
        }
        for bad in [
            "",
            "x-forwarded-for",
            "x-forwarded-for:0",
            "x-forwarded-for:-1",
            "x-real-ip",
        ] {
            assert_eq!(ClientAddress::parse(bad), None, "{bad}");
        }
        assert_eq!(ClientAddress::Peer.of(Hops::default()), None);
        let forged = Hops {
            forwarded_for: Some(b"<script>"),
            ..hops
        };
        assert_eq!(
            ClientAddress::ForwardedFor(NonZeroUsize::MIN).of(forged),
            None
        );
    }
}
