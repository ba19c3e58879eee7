//! Values of PostgreSQL, which has types that MySQL does not have, and converts none of them.

use sqlx::{
    Column as _, Row as _, TypeInfo as _, ValueRef as _,
    postgres::{PgRow, PgTypeKind},
};
use uuid::Uuid;

use super::{
    UsersFault,
    cell::{Cell, Cells},
};
use crate::{
    domain::{account::Username, hex},
    tables::database::Inferred,
};

/// The type that PostgreSQL compares an id with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdType {
    Text,
    Int2,
    Int4,
    Int8,
    Uuid,
    Bytes,
}

impl IdType {
    /// Takes the name of the type.
    pub(super) fn of_parameter(name: &str) -> Result<Self, UsersFault> {
        match name {
            "INT2" => Ok(Self::Int2),
            "INT4" => Ok(Self::Int4),
            "INT8" => Ok(Self::Int8),
            "UUID" => Ok(Self::Uuid),
            "BYTEA" => Ok(Self::Bytes),
            "BOOL" | "NUMERIC" | "FLOAT4" | "FLOAT8" | "OID" | "DATE" | "TIMESTAMP"
            | "TIMESTAMPTZ" => Err(UsersFault::Mapping(format!(
                "users.roles_query compares the id with a value of type {name}; let it compare text: CAST(... AS TEXT)"
            ))),
            _ => Ok(Self::Text),
        }
    }

    /// The value of an id, which has the form of [`Cell::id`].
    pub(super) fn of(self, id: &str) -> Result<Inferred<'_>, UsersFault> {
        let bytes = match self {
            Self::Text => return Ok(Inferred::text(id)),
            Self::Int2 => id.parse::<i16>().ok().map(|id| id.to_be_bytes().into()),
            Self::Int4 => id.parse::<i32>().ok().map(|id| id.to_be_bytes().into()),
            Self::Int8 => id.parse::<i64>().ok().map(|id| id.to_be_bytes().into()),
            Self::Uuid => Uuid::parse_str(id).ok().map(|id| id.into_bytes().into()),
            Self::Bytes => hex::decode(id),
        };
        let fault = UsersFault::Row("id: it has another type than in users.roles_query");
        bytes.map(Inferred::Binary).ok_or(fault)
    }

    /// A value that is looked up like an id, and that most probably nobody has.
    pub(super) fn of_nobody(self, username: &Username) -> Inferred<'_> {
        let bytes: &[u8] = match self {
            Self::Text => return Inferred::text(username.as_str()),
            Self::Int2 => &i16::MIN.to_be_bytes(),
            Self::Int4 => &i32::MIN.to_be_bytes(),
            Self::Int8 => &i64::MIN.to_be_bytes(),
            Self::Uuid => &[0; 16],
            Self::Bytes => username.as_str().as_bytes(),
        };
        Inferred::Binary(bytes.into())
    }
}

impl Cells for PgRow {
    fn cells(&self) -> Result<Vec<(String, Cell)>, UsersFault> {
        let cell = |index: usize| -> Result<Cell, UsersFault> {
            let raw = self.try_get_raw(index)?;
            if raw.is_null() {
                return Ok(Cell::Null);
            }
            let kind = raw.type_info().into_owned();
            let bytes = raw.as_bytes().map_err(sqlx::Error::Decode)?;
            Ok(match kind.name() {
                "BOOL" => Cell::Number(bytes.first().copied().unwrap_or_default().into()),
                "INT2" | "INT4" | "INT8" => {
                    let first = bytes.first().copied().unwrap_or_default().cast_signed();
                    let rest = bytes.get(1..).unwrap_or_default();
                    let number = (rest.iter()).fold(i128::from(first), |number, byte| {
                        (number << 8) | i128::from(*byte)
                    });
                    Cell::Number(number)
                }
                "NUMERIC" => whole_number(bytes).map_or(Cell::Bytes(Vec::new()), Cell::Text),
                "TEXT" | "VARCHAR" | "NAME" | "\"CHAR\"" | "JSON" | "UNKNOWN" => {
                    Cell::of_text(bytes.into())
                }
                // Blanks at the end of CHAR(n) mean nothing, and MySQL does not return them.
                "CHAR" => {
                    let blanks = bytes.iter().rev().take_while(|byte| **byte == b' ').count();
                    let text = bytes.get(..bytes.len() - blanks).unwrap_or_default();
                    Cell::of_text(text.into())
                }
                // Before the text is the version of the form.
                "JSONB" => Cell::of_text(bytes.get(1..).unwrap_or_default().into()),
                "BYTEA" => Cell::Bytes(bytes.into()),
                "UUID" => match Uuid::from_slice(bytes) {
                    Ok(uuid) => Cell::Text(uuid.to_string()),
                    Err(_) => Cell::Bytes(Vec::new()),
                },
                // The length in bits, and then the bits from the highest.
                "BIT" | "VARBIT" => match bytes {
                    [0, 0, 0, length @ 1..=8, bits] => Cell::Number((bits >> (8 - length)).into()),
                    _ => Cell::Bytes(Vec::new()),
                },
                "TEXT[]" | "VARCHAR[]" | "NAME[]" | "CHAR[]" => {
                    let texts: Vec<Option<String>> = self.try_get_unchecked(index)?;
                    Cell::Text(serde_json::Value::from(texts).to_string())
                }
                name if matches!(kind.kind(), PgTypeKind::Enum(_))
                    || name.rsplit('.').next() == Some("citext") =>
                {
                    Cell::of_text(bytes.into())
                }
                // A time is never an id, a name or a flag.
                _ => Cell::Bytes(Vec::new()),
            })
        };
        (self.columns().iter().enumerate())
            .map(|(index, column)| Ok((column.name().to_ascii_lowercase(), cell(index)?)))
            .collect()
    }
}

/// A NUMERIC without a fraction. It consists of digits of base 10,000: their number, the weight of the first one, the sign, the
/// number of decimals, and the digits; each has 16 bits. Zeros at the end are left out.
fn whole_number(bytes: &[u8]) -> Option<String> {
    let mut words = bytes
        .chunks_exact(2)
        .filter_map(|word| Some(u16::from_be_bytes([*word.first()?, *word.get(1)?])));
    let (count, weight) = (words.next()?, words.next()?.cast_signed());
    let (sign, decimals) = (words.next()?, words.next()?);
    let sign = match sign {
        0 => "",
        0x4000 => "-",
        // Infinite, or no number.
        _ => return None,
    };
    let digits: Vec<u16> = words.collect();
    let places = usize::try_from(i32::from(weight) + 1).ok()?;
    if usize::from(count) != digits.len() || digits.len() > places || decimals > 0 {
        return None;
    }
    let mut text = String::from(sign);
    for place in 0..places.max(1) {
        let digit = digits.get(place).copied().unwrap_or_default();
        text += &match place {
            0 => digit.to_string(),
            _ => format!("{digit:04}"),
        };
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(weight: i16, sign: u16, decimals: u16, digits: &[u16]) -> Option<String> {
        let count = u16::try_from(digits.len()).unwrap();
        let head = [count, weight.cast_unsigned(), sign, decimals];
        let words = head.iter().chain(digits);
        let bytes: Vec<u8> = words.flat_map(|word| word.to_be_bytes()).collect();
        whole_number(&bytes)
    }

    #[test]
    fn whole_numerics_are_numbers_and_others_are_not() {
        assert_eq!(numeric(0, 0, 0, &[7]), Some("7".into()));
        assert_eq!(numeric(-1, 0, 0, &[]), Some("0".into()));
        assert_eq!(numeric(0, 0, 0, &[]), Some("0".into()));
        assert_eq!(numeric(1, 0, 0, &[12, 3]), Some("120003".into()));
        assert_eq!(numeric(2, 0x4000, 0, &[1]), Some("-100000000".into()));
        assert_eq!(
            numeric(4, 0, 0, &[1844, 6744, 737, 955, 1615]),
            Some("18446744073709551615".into())
        );
        assert_eq!(numeric(0, 0, 1, &[7, 5000]), None);
        assert_eq!(numeric(0, 0, 2, &[7]), None);
        assert_eq!(numeric(0, 0xc000, 0, &[]), None);
        assert_eq!(whole_number(&[0, 1]), None);
    }

    #[test]
    fn an_id_is_sent_in_the_form_of_its_type() {
        let bytes = |kind: IdType, id: &str| match kind.of(id) {
            Ok(Inferred::Binary(bytes)) => Some(bytes),
            Ok(Inferred::Text(text)) => Some(text.as_bytes().to_vec()),
            Err(_) => None,
        };
        assert_eq!(bytes(IdType::Text, "a"), Some(b"a".to_vec()));
        assert_eq!(bytes(IdType::Int2, "-2"), Some(vec![255, 254]));
        assert_eq!(bytes(IdType::Int4, "7"), Some(vec![0, 0, 0, 7]));
        assert_eq!(bytes(IdType::Int8, "7"), Some(vec![0, 0, 0, 0, 0, 0, 0, 7]));
        assert_eq!(bytes(IdType::Int4, "2147483648"), None);
        assert_eq!(bytes(IdType::Int4, "seven"), None);
        assert_eq!(bytes(IdType::Bytes, "00ff"), Some(vec![0, 255]));
        let uuid = bytes(IdType::Uuid, "0190b8a6-2d8c-7c55-8d6f-3c1f5a1b2c3d").unwrap();
        assert_eq!((uuid.len(), uuid[0]), (16, 1));
        for name in ["NUMERIC", "TIMESTAMP"] {
            assert!(IdType::of_parameter(name).is_err(), "{name}");
        }
        for name in ["TEXT", "VARCHAR", "CHAR", "citext"] {
            assert_eq!(
                IdType::of_parameter(name).ok(),
                Some(IdType::Text),
                "{name}"
            );
        }
    }
}
