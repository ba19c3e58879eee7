//! What an unverified token claims about itself, in any way that a service could read it. Nothing trusts it, so it is
//! read leniently.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

const GENEROUS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Whether a part of a token has a member with such a value: also if it is duplicated, in any case, or in a truncated
/// object.
pub(super) fn names(part: &str, member: &str, is_it: impl Fn(&str) -> bool) -> bool {
    let part = part.replace('+', "-").replace('/', "_");
    let Ok(bytes) = GENEROUS.decode(part) else {
        return false;
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut found = false;
    let seed = Members {
        member,
        is_it,
        found: &mut found,
    };
    // Values before a syntax error count too, because other parsers are more lenient.
    let _ = seed.deserialize(&mut serde_json::Deserializer::from_str(&text));
    found
}

struct Members<'a, F> {
    member: &'a str,
    is_it: F,
    found: &'a mut bool,
}

impl<'de, F: Fn(&str) -> bool> DeserializeSeed<'de> for Members<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Members<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            // Go compares member names without case, by Unicode.
            if name.to_lowercase().to_uppercase() != self.member.to_uppercase() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            *self.found |= match map.next_value::<Value>()? {
                Value::String(text) => (self.is_it)(&text),
                Value::Array(list) => list.iter().filter_map(Value::as_str).any(&self.is_it),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    use super::*;

    fn names_us(json: &str) -> bool {
        let names_us = |part: &str| names(part, "iss", |name| name == "doorward");
        let found = names_us(&BASE64_URL_SAFE_NO_PAD.encode(json));
        assert_eq!(names_us(&BASE64_STANDARD.encode(json)), found, "{json}");
        found
    }

    #[test]
    fn our_issuer_name_is_found_in_every_json_reading() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for json in [
            r#"{"iss":"doorward"}"#,
            r#" { "sub" : {"a":[1]}, "iss" : "d\u006forward" }"#,
            r#"{"iss":"doorward","iss":"other"}"#,
            r#"{"iss":"other","\u0069ss":"doorward"}"#,
            r#"{"ISS":"doorward"}"#,
            "{\"i\u{17f}s\":\"doorward\"}",
            r#"{"iss":["other","doorward"]}"#,
            r#"{"iss":"doorward","exp":"#,
            r#"{"iss":"doorward"} x"#,
            &format!(r#"{{"deep":{deep},"iss":"doorward"}}"#),
        ] {
            assert!(names_us(json), "{json}");
        }
        for json in [
            r#"{"iss":"other","sub":"doorward"}"#,
            r#"{"iss":"doorward2"}"#,
            r#"{"claims":{"iss":"doorward"}}"#,
            r#"["iss","doorward"]"#,
            r#""doorward""#,
            "",
        ] {
            assert!(!names_us(json), "{json}");
        }
        assert!(!names("~", "iss", |_| true));
    }
}
