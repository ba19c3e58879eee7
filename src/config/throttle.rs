//! `[throttle]`: how many failed logins cost nothing.

use super::{
    key::{Key, Section},
    reader::Reader,
    value::number,
};
use crate::login::throttle::Free;

pub(super) static KEYS: Section = &[
    &ACCOUNT_FAILURES,
    &ADDRESS_FAILURES,
    &UNKNOWN_ADDRESS_FAILURES,
];

static ACCOUNT_FAILURES: Key<u32> = Key::new(
    "throttle.account_failures",
    "5",
    |text| number(text, 1, 100),
    "How many logins to one account may fail before the next one must wait, 1 to 100. The first wait is 1s; it doubles with each failure up to 5min, and is 1h after a hundred failures.",
);

static ADDRESS_FAILURES: Key<u32> = Key::new(
    "throttle.address_failures",
    "100",
    |text| number(text, 1, 1_000_000),
    "The same for one client address (/32, /64), 1 to 1000000, with waits up to 1min. A /48 may have ten times as many failures, and then one more every 6s.",
);

static UNKNOWN_ADDRESS_FAILURES: Key<u32> = Key::new(
    "throttle.unknown_address_failures",
    "1000",
    |text| number(text, 1, 1_000_000),
    "The same for all clients together whose address is unknown or in `trusted_proxies`, 1 to 1000000; then one more every second.",
);

pub(super) fn read(reader: &mut Reader<'_>) -> Free {
    Free {
        account: reader.get(&ACCOUNT_FAILURES),
        address: reader.get(&ADDRESS_FAILURES),
        unknown: reader.get(&UNKNOWN_ADDRESS_FAILURES),
    }
}
