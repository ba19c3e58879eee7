//! Reads values of PostgreSQL, which has types that MySQL does not have.

use sqlx::{
    Row as _, TypeInfo as _, ValueRef as _,
    postgres::{PgRow, PgTypeKind},
};
use uuid::Uuid;

use super::{
    UsersFault,
    cell::{Cell, Cells},
};

impl Cells for PgRow {
    fn cell(&self, index: usize) -> Result<Cell, UsersFault> {
        let raw = self.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Cell::Null);
        }
        let kind = raw.type_info().into_owned();
        let bytes = raw.as_bytes().map_err(sqlx::Error::Decode)?;
        Ok(match kind.name() {
            "BOOL" => Cell::Number(bytes.first().copied().unwrap_or_default().into()),
            "INT2" | "INT4" | "INT8" => {
                Cell::Number(self.try_get_unchecked::<i64, _>(index)?.into())
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
            // The first byte is the version of the format.
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
        // Infinity or NaN.
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
}
