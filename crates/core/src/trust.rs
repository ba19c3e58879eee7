//! Which peers may ask Doorward, and which address a client has.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroUsize,
    sync::atomic::{AtomicU8, Ordering},
};

use ipnet::{IpNet, Ipv6Net};

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
        let networks: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&networks.join(", "))
    }
}

/// Where the address of a client comes from. Only what the operator's gateway writes is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// The peer of the gateway, if the gateway says who that is, or the peer of Doorward.
    Peer,
    /// The header `x-envoy-external-address`.
    EnvoyExternalAddress,
    /// The n-th address of `x-forwarded-for`, counted from the right: a client can write anything to the left of it.
    ForwardedFor(NonZeroUsize),
}

/// What a door knows about where a request came from.
#[derive(Clone, Debug, Default)]
pub struct Forwarded<'a> {
    /// The peer of the connection.
    pub peer: Option<IpAddr>,
    /// `x-envoy-external-address`.
    pub external_address: Option<&'a [u8]>,
    /// The last `x-forwarded-for` header; gateways append to the last one, or add another one after it.
    pub forwarded_for: Option<&'a [u8]>,
    /// The `x-forwarded-for` headers before it, in their order.
    pub forwarded_for_before: Vec<&'a [u8]>,
}

/// Why the address of a client is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoAddress {
    /// The peer is not known: Envoy does not send it, or the request came through a Unix socket.
    Peer,
    /// The header is missing.
    Header,
    /// `x-forwarded-for` has fewer addresses than the setting counts.
    Forwarded,
    /// The value is not an address.
    Malformed,
    /// The address belongs to a gateway.
    Gateway,
}

impl NoAddress {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Peer,
        Self::Header,
        Self::Forwarded,
        Self::Malformed,
        Self::Gateway,
    ];

    /// One word, for a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Peer => "no-peer",
            Self::Header => "no-header",
            Self::Forwarded => "too-few-hops",
            Self::Malformed => "malformed",
            Self::Gateway => "trusted-proxy",
        }
    }
}

/// What is wrong, and what to set.
impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => {
                "the connection has no address, as on a Unix socket; set client_address to a header in which the gateway writes the client's address"
            }
            Self::Header => {
                "the request does not have the header that client_address names; let the gateway write it, or set client_address to the header that it writes"
            }
            Self::Forwarded => {
                "x-forwarded-for has fewer addresses than client_address counts from the right; set the number of proxies that append to it"
            }
            Self::Malformed => {
                "what stands where client_address points is not an IP address, with or without a port; set client_address to the header in which the gateway writes the client's address"
            }
            Self::Gateway => {
                "the address is in trusted_proxies, so it is a gateway's; set client_address to the header in which that gateway writes the client's address, or take the network out of trusted_proxies"
            }
        })
    }
}

/// The causes for which a warning was logged.
#[derive(Debug, Default)]
pub struct Warned(AtomicU8);

impl Warned {
    /// Whether it is the first time for this cause.
    pub fn is_first(&self, cause: NoAddress) -> bool {
        let bit = 1 << cause as u8;
        self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
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

    /// The client's address.
    ///
    /// # Errors
    ///
    /// Why it is not known.
    pub fn of(self, forwarded: &Forwarded<'_>) -> Result<IpAddr, NoAddress> {
        let address = match self {
            Self::Peer => forwarded.peer.ok_or(NoAddress::Peer)?,
            Self::EnvoyExternalAddress => {
                let text = forwarded.external_address.ok_or(NoAddress::Header)?;
                address(text).ok_or(NoAddress::Malformed)?
            }
            Self::ForwardedFor(number) => {
                let last = forwarded.forwarded_for.ok_or(NoAddress::Header)?;
                // Several headers of one name are one list (RFC 9110, 5.3).
                let before = forwarded.forwarded_for_before.iter().rev().copied();
                let text = std::iter::once(last)
                    .chain(before)
                    .flat_map(|list| list.rsplit(|byte| *byte == b','))
                    .nth(number.get() - 1)
                    .ok_or(NoAddress::Forwarded)?;
                address(text).ok_or(NoAddress::Malformed)?
            }
        };
        Ok(address.to_canonical())
    }
}

/// An address as gateways write it: IPv4 or IPv6. IPv6 may be in brackets, and a port may follow IPv4 or brackets
/// (Azure Application Gateway, ALB). Nothing else: no zone, no name, no path.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let text = text.trim_matches([' ', '\t']);
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            let fits = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
            fits.then_some(address.into())
        }
        None => {
            let (address, port) = text.split_once(':')?;
            let address: Ipv4Addr = address.parse().ok()?;
            is_port(port).then_some(address.into())
        }
    }
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
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
            assert_eq!(
                TrustedProxies::parse([bad]),
                Err(NetworkFault(bad.to_owned()))
            );
        }
    }

    #[test]
    fn the_client_is_where_the_setting_says() {
        let forwarded = Forwarded {
            peer: "10.0.0.1".parse().ok(),
            external_address: Some(b"203.0.113.9"),
            forwarded_for: Some(b"198.51.100.2 ,::ffff:10.0.0.3"),
            forwarded_for_before: vec![b"9.9.9.9", b"8.8.8.8, 1.1.1.1"],
        };
        for (setting, expected) in [
            ("peer", Ok("10.0.0.1")),
            ("x-envoy-external-address", Ok("203.0.113.9")),
            ("x-forwarded-for:1", Ok("10.0.0.3")),
            ("x-forwarded-for:2", Ok("198.51.100.2")),
            ("x-forwarded-for:3", Ok("1.1.1.1")),
            ("x-forwarded-for:4", Ok("8.8.8.8")),
            ("x-forwarded-for:5", Ok("9.9.9.9")),
            ("x-forwarded-for:6", Err(NoAddress::Forwarded)),
        ] {
            let client = ClientAddress::parse(setting).unwrap();
            assert_eq!(client.to_string(), setting);
            let expected = expected.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(client.of(&forwarded), expected, "{setting}");
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
        let nothing = Forwarded::default();
        for (setting, why) in [
            (ClientAddress::Peer, NoAddress::Peer),
            (ClientAddress::EnvoyExternalAddress, NoAddress::Header),
            (
                ClientAddress::ForwardedFor(NonZeroUsize::MIN),
                NoAddress::Header,
            ),
        ] {
            assert_eq!(setting.of(&nothing), Err(why));
        }
    }

    #[test]
    fn ports_and_brackets_are_read_and_nothing_else() {
        for (text, expected) in [
            ("203.0.113.6", "203.0.113.6"),
            (" 203.0.113.6:4711\t", "203.0.113.6"),
            ("203.0.113.6:0", "203.0.113.6"),
            ("203.0.113.6:65535", "203.0.113.6"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[::ffff:203.0.113.6]:443", "::ffff:203.0.113.6"),
        ] {
            assert_eq!(address(text.as_bytes()), text_of(expected), "{text}");
        }
        for bad in [
            "",
            "unknown",
            "_hidden",
            "<script>",
            "203.0.113.6:",
            "203.0.113.6:65536",
            "203.0.113.6:+80",
            "203.0.113.6:000080",
            "203.0.113.6:80:80",
            "203.0.113.6/32",
            "203.0.113.06",
            "[203.0.113.6]",
            "[203.0.113.6]:80",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]443",
            "[2001:db8::1]:",
            "[2001:db8::1]:443 x",
            "[[2001:db8::1]]",
            "fe80::1%eth0",
            "[fe80::1%25eth0]:80",
            "\"[2001:db8::1]:443\"",
            "for=203.0.113.6",
            "1:2:3:4:5:6:7:8:443",
        ] {
            assert_eq!(address(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(address(b"203.0.113.6\xff"), None);
        let forwarded = Forwarded {
            forwarded_for: Some(b"203.0.113.6, "),
            ..Forwarded::default()
        };
        let last = ClientAddress::ForwardedFor(NonZeroUsize::MIN);
        assert_eq!(last.of(&forwarded), Err(NoAddress::Malformed));
    }

    fn text_of(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn whoever_trusts_the_internet_is_told() {
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

    #[test]
    fn each_cause_is_warned_of_once() {
        let warned = Warned::default();
        for cause in NoAddress::ALL {
            assert!(warned.is_first(cause));
            assert!(!warned.is_first(cause));
        }
    }
}
