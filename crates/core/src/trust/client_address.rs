//! Which address a client has. Only what the operator's gateway writes is trusted.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroUsize,
    sync::atomic::{AtomicU8, Ordering},
};

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
    fn the_client_address_comes_from_the_configured_source() {
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
    fn only_a_port_and_brackets_are_allowed_around_an_address() {
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
    fn each_cause_is_reported_once() {
        let warned = Warned::default();
        for cause in NoAddress::ALL {
            assert!(warned.is_first(cause));
            assert!(!warned.is_first(cause));
        }
    }
}
