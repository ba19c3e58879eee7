//! Values whose types differ between engines: how they are bound and read.

use std::borrow::Cow;

use sqlx::{
    Database, Decode, Encode, MySql, Postgres, Sqlite, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo, types::Oid},
};

/// A value for a column of a type that we do not choose: PostgreSQL takes the type from the statement, as it does with a
/// literal. A value that is declared as text could not be compared with an integer, and would not use the index of a
/// `citext` column.
#[derive(Clone, Debug)]
pub(crate) enum Inferred<'a> {
    /// Text; for each engine.
    Text(Cow<'a, str>),
    /// For PostgreSQL alone: a value in the binary form of its type.
    Binary(Vec<u8>),
}

impl<'a> Inferred<'a> {
    pub(crate) fn text(text: &'a str) -> Self {
        Self::Text(text.into())
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl Type<Postgres> for Inferred<'_> {
    fn type_info() -> PgTypeInfo {
        // No type.
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl<'q> Encode<'q, Postgres> for Inferred<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend(self.bytes());
        Ok(IsNull::No)
    }
}

/// Text that an engine compares byte for byte: `VARBINARY` in MySQL, which sqlx reads as bytes.
pub(crate) struct StoredText(pub(crate) String);

macro_rules! as_strings_and_bytes {
    ($($engine:ty),+) => {$(
        impl Type<$engine> for Inferred<'_> {
            fn type_info() -> <$engine as Database>::TypeInfo {
                <str as Type<$engine>>::type_info()
            }
        }

        impl<'q> Encode<'q, $engine> for Inferred<'_> {
            fn encode_by_ref(
                &self,
                buffer: &mut <$engine as Database>::ArgumentBuffer,
            ) -> Result<IsNull, BoxDynError> {
                let text = String::from_utf8_lossy(self.bytes()).into_owned();
                <String as Encode<'q, $engine>>::encode(text, buffer)
            }
        }

        impl Type<$engine> for StoredText {
            fn type_info() -> <$engine as Database>::TypeInfo {
                <[u8] as Type<$engine>>::type_info()
            }

            fn compatible(kind: &<$engine as Database>::TypeInfo) -> bool {
                <[u8] as Type<$engine>>::compatible(kind)
            }
        }

        impl<'r> Decode<'r, $engine> for StoredText {
            fn decode(value: <$engine as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
                let bytes = <Vec<u8> as Decode<'r, $engine>>::decode(value)?;
                Ok(Self(String::from_utf8_lossy(&bytes).into_owned()))
            }
        }
    )+};
}

as_strings_and_bytes!(MySql, Sqlite);

impl Type<Postgres> for StoredText {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }

    fn compatible(kind: &PgTypeInfo) -> bool {
        <str as Type<Postgres>>::compatible(kind)
    }
}

impl<'r> Decode<'r, Postgres> for StoredText {
    fn decode(value: <Postgres as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
        <String as Decode<'r, Postgres>>::decode(value).map(Self)
    }
}
