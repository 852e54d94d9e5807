//! The form in which domain values travel: newtypes that each database encodes in its own way.

use std::borrow::Cow;

use rust_decimal::Decimal;
use sqlx::{
    Decode, Encode, Postgres, Sqlite, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo, PgValueRef, types::Oid},
    sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef},
};
use wharf_domain::{Amount, Time};

/// A value that both databases take.
pub(crate) trait Bind<'q>:
    Encode<'q, Postgres> + Type<Postgres> + Encode<'q, Sqlite> + Type<Sqlite>
{
}
impl<'q, T: Encode<'q, Postgres> + Type<Postgres> + Encode<'q, Sqlite> + Type<Sqlite>> Bind<'q>
    for T
{
}

/// `timestamptz` in PostgreSQL, integer microseconds in SQLite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At(pub(crate) Time);

/// PostgreSQL counts from the year 2000.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
// The numbers of built-in types never change (PostgreSQL's pg_type.dat).
const TIMESTAMPTZ: Oid = Oid(1184);

impl Type<Postgres> for At {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl Encode<'_, Postgres> for At {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buf.extend_from_slice(
            &self
                .0
                .as_micros()
                .saturating_sub(POSTGRES_EPOCH_MICROS)
                .to_be_bytes(),
        );
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for At {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let micros = i64::from_be_bytes(value.as_bytes()?.try_into()?);
        Ok(Self(Time::from_micros(
            micros.saturating_add(POSTGRES_EPOCH_MICROS),
        )))
    }
}

impl Type<Sqlite> for At {
    fn type_info() -> SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for At {
    fn encode_by_ref(&self, buf: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode_by_ref(&self.0.as_micros(), buf)
    }
}

impl<'r> Decode<'r, Sqlite> for At {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        <i64 as Decode<Sqlite>>::decode(value).map(|micros| Self(Time::from_micros(micros)))
    }
}

/// `numeric` in PostgreSQL, decimal text in SQLite: exact in both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Money(pub(crate) Amount);

// Not encoded at all: amounts go in as text, by `Rows::money`.
impl Type<Postgres> for Money {
    fn type_info() -> PgTypeInfo {
        <Decimal as Type<Postgres>>::type_info()
    }
}

impl Decode<'_, Postgres> for Money {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        <Decimal as Decode<Postgres>>::decode(value)
            .map(|amount| Self(Amount::from_decimal(amount)))
    }
}

impl Type<Sqlite> for Money {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }
}

impl<'r> Decode<'r, Sqlite> for Money {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        let text = <Cow<'r, str> as Decode<Sqlite>>::decode(value)?;
        Ok(Self(Amount::parse(&text)?))
    }
}

/// JSON as the text that it was written in: `json` in PostgreSQL, checked text in SQLite.
#[derive(Clone, Debug)]
pub(crate) struct JsonText(pub(crate) String);

// Not `jsonb`, which would order keys anew: what was stored is what is sent.
const JSON: Oid = Oid(114);

impl Type<Postgres> for JsonText {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(JSON)
    }
}

impl Encode<'_, Postgres> for JsonText {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buf.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for JsonText {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(Self(value.as_str()?.to_owned()))
    }
}

impl Type<Sqlite> for JsonText {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for JsonText {
    fn encode_by_ref(&self, buf: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode_by_ref(&self.0, buf)
    }
}

impl<'r> Decode<'r, Sqlite> for JsonText {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        <String as Decode<Sqlite>>::decode(value).map(Self)
    }
}
