//! The expiry of a certificate (RFC 5280, 4.1), for operators.

use x509_cert::{Certificate, der::Decode as _};

use crate::domain::time::UnixTime;

/// `notAfter` of a certificate in DER; `None` if it cannot be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<UnixTime> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let end = certificate.tbs_certificate().validity().not_after;
    Some(UnixTime(end.to_unix_duration().as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEGER: u8 = 0x02;
    const BITS: u8 = 0x03;
    const OID: u8 = 0x06;
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        match length < 0x80 {
            true => [&[tag, length], content].concat(),
            false => [&[tag, 0x81, length], content].concat(),
        }
    }

    /// A certificate with an empty name, and with a key and a signature that nothing checks.
    fn certificate(tag: u8, not_after: &str) -> Vec<u8> {
        let ed25519 = element(SEQUENCE, &element(OID, &[0x2b, 0x65, 0x70]));
        let start = element(UTC_TIME, b"700101000000Z");
        let end = element(tag, not_after.as_bytes());
        let key = [&*ed25519, &element(BITS, &[0; 33])].concat();
        let members = [
            element(VERSION, &element(INTEGER, &[2])),
            element(INTEGER, &[1]),
            ed25519.clone(),
            element(SEQUENCE, b""),
            element(SEQUENCE, &[start, end].concat()),
            element(SEQUENCE, b""),
            element(SEQUENCE, &key),
        ];
        let signed = element(SEQUENCE, &members.concat());
        let whole = [signed, ed25519, element(BITS, &[0; 65])];
        element(SEQUENCE, &whole.concat())
    }

    #[test]
    fn utc_time_and_generalized_time_are_parsed() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "240229120000Z", Some(1_709_208_000)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "21000301000000Z", Some(4_107_542_400)),
            // RFC 5280's "no end that is known".
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "500101000000Z", None),
            (UTC_TIME, "240001000000Z", None),
            (UTC_TIME, "24-101000000Z", None),
            (UTC_TIME, "240101000000", None),
            (GENERALIZED_TIME, "240101000000Z", None),
        ] {
            let end = not_after(&certificate(tag, text)).map(|time| time.0);
            assert_eq!(end, seconds, "{text}");
        }
        assert_eq!(not_after(b""), None);
        assert_eq!(not_after(&[0x30, 2, 0x30, 0]), None);
    }
}
