//! Request targets, with every tolerance.

#![no_main]

use doorward::domain::path::{Also, Path, Tolerance};
use libfuzzer_sys::fuzz_target;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

fuzz_target!(|target: &[u8]| {
    let mut read: Vec<(Tolerance, String)> = Vec::new();
    for tolerance in tolerances() {
        let Ok(path) = Path::parse(target, tolerance) else {
            continue;
        };
        as_sent(target, path.as_str(), tolerance);
        as_read(path.loose(), tolerance);
        read.push((tolerance, path.loose().to_owned()));
    }
    // More tolerance never refuses a tolerated path and never reads it differently. Additional readings may be shorter.
    for (tolerance, loose) in &read {
        for more in tolerances().filter(|more| includes(*more, *tolerance)) {
            let path = Path::parse(target, more).unwrap();
            assert_eq!(path.loose(), loose);
        }
    }
});

fn tolerances() -> impl Iterator<Item = Tolerance> {
    (0..64).map(|bits: u8| Tolerance {
        encoded_slash: bits & 1 != 0,
        encoded_percent: bits & 2 != 0,
        semicolon: bits & 4 != 0,
        double_slash: bits & 8 != 0,
        also: Also {
            extension: bits & 16 != 0,
            trailing_dot: bits & 32 != 0,
        },
    })
}

fn includes(more: Tolerance, less: Tolerance) -> bool {
    let flags = |tolerance: Tolerance| {
        let Tolerance {
            encoded_slash,
            encoded_percent,
            semicolon,
            double_slash,
            also: _,
        } = tolerance;
        [encoded_slash, encoded_percent, semicolon, double_slash]
    };
    more.also == less.also
        && flags(more)
            .iter()
            .zip(flags(less))
            .all(|(more, less)| *more || !less)
}

fn as_sent(target: &[u8], raw: &str, tolerance: Tolerance) {
    assert!(target.starts_with(raw.as_bytes()));
    assert!(matches!(target.get(raw.len()), None | Some(b'?')));
    assert!(raw.starts_with('/'));
    assert!(raw.bytes().all(|byte| matches!(byte, b'!'..=b'~')));
    assert!(!raw.contains(['\\', '#', '?']));
    assert!(tolerance.double_slash || !raw.contains("//"));
    assert!(!raw.starts_with("//"));
    assert!(tolerance.semicolon || !raw.contains(';'));
    let lower = raw.to_ascii_lowercase();
    assert!(!lower.contains("%00") && !lower.contains("%5c"));
    assert!(tolerance.encoded_slash || !lower.contains("%2f"));
    assert!(tolerance.encoded_percent || !lower.contains("%25"));
    // A service may resolve dot segments at any place.
    let dots = lower.replace("%2e", ".").replace("%2f", "/");
    assert!(!has_dot_segment(&dots), "a dot segment in {raw:?}");
}

fn as_read(loose: &str, tolerance: Tolerance) {
    assert!(loose.starts_with('/'));
    assert!(loose == "/" || !loose.ends_with('/'));
    assert!(!loose.contains("//") && !loose.contains(['\\', '?', '#', ';']));
    assert!(!loose.contains(|c: char| c.is_control() || c.is_ascii_uppercase()));
    assert!(!has_dot_segment(loose));
    let ends_in_dot = |segment: &str| segment.ends_with(['.', ' ']);
    assert!(!tolerance.also.trailing_dot || !loose.split('/').any(ends_in_dot));
    // Nothing is left to decode: the reading, written as a path, is read as itself.
    let segments: Vec<_> = loose
        .split('/')
        .map(|segment| percent_encode(segment.as_bytes(), NON_ALPHANUMERIC).to_string())
        .collect();
    let again = segments.join("/");
    let path = Path::parse(again.as_bytes(), tolerance).unwrap();
    assert_eq!(path.loose(), loose);
}

fn has_dot_segment(path: &str) -> bool {
    path.split('/')
        .map(|segment| segment.split(';').next().unwrap())
        .any(|segment| matches!(segment, "." | ".."))
}
