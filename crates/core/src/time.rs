//! Points in time as tokens state them.

/// Seconds since 1970-01-01T00:00:00Z (`NumericDate` of RFC 7519, 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The same time as the signed integer that databases and gauges use.
    #[must_use]
    pub fn signed(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}
