//! When a certificate expires (RFC 5280, 4.1): the one thing of it that operators must know in time.

use std::time::UNIX_EPOCH;

use crate::domain::{
    der::{INTEGER, SEQUENCE, element},
    token::UnixTime,
};

const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` of a certificate in DER, where it can be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<UnixTime> {
    let (SEQUENCE, certificate, _) = element(certificate)? else {
        return None;
    };
    let (SEQUENCE, members, _) = element(certificate)? else {
        return None;
    };
    let members = match element(members)? {
        (VERSION, _, rest) => rest,
        _ => members,
    };
    let (INTEGER, _serial, members) = element(members)? else {
        return None;
    };
    let (SEQUENCE, _algorithm, members) = element(members)? else {
        return None;
    };
    let (SEQUENCE, _issuer, members) = element(members)? else {
        return None;
    };
    let (SEQUENCE, validity, _) = element(members)? else {
        return None;
    };
    let (_, _not_before, rest) = element(validity)?;
    let (tag, time, _) = element(rest)?;
    time_of(tag, str::from_utf8(time).ok()?)
}

fn time_of(tag: u8, text: &str) -> Option<UnixTime> {
    let text = match tag {
        // Two digits of a year before 2050 (RFC 5280, 4.1.2.5.1).
        UTC_TIME if text < "5" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    if text.len() != "20260131235959Z".len() || !text.is_ascii() {
        return None;
    }
    let (date, time) = text.split_at(8);
    let ((year, day), (hour, minutes)) = (date.split_at(4), time.split_at(2));
    let ((month, day), (minute, second)) = (day.split_at(2), minutes.split_at(2));
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}");
    let time = humantime::parse_rfc3339(&text).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(UnixTime(since.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_kinds_are_read() {
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
            assert_eq!(time_of(tag, text).map(|time| time.0), seconds, "{text}");
        }
        assert_eq!(not_after(b""), None);
        assert_eq!(not_after(&[0x30, 2, 0x30, 0]), None);
    }
}
