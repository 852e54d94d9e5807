//! Values of requests, each with its rule and the schema that describes the rule.

use serde_json::Value;
use utoipa::openapi::{
    KnownFormat, Object, SchemaFormat,
    schema::{ObjectBuilder, Type},
};
use uuid::Uuid;
use wharf_app::{AnswerStatus, Digest, RecoveryCursor, WebhookState};
use wharf_domain::{
    AccessToken, Currency, DeliveryState, EventKind, ExternalStoreId, Invalid, KeyScope, KeyScopes,
    LogStatus, MarketplaceName, OrganizationId, Receipt, ShaperName, StoreName, SyncStatus,
    SyncToken, TargetUrl, Time, bounded_text,
};

use crate::{fields::Given, request::Field};

pub(crate) fn text(given: &Given) -> Result<&str, Invalid> {
    match given {
        Given::Json(Value::String(text)) | Given::Text(text) => Ok(text),
        _ => Err(Invalid("must be a string".into())),
    }
}

pub(crate) fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// Text by the contract: not empty, without NUL, and of bounded length.
fn bounded(most: usize) -> ObjectBuilder {
    string()
        .min_length(Some(1))
        .max_length(Some(most))
        // PostgreSQL's text cannot hold NUL.
        .pattern(Some("^[^\\u0000]*$"))
}

macro_rules! texts {
    ($($name:ident $example:literal)*) => {$(
        impl Field for $name {
            fn read(given: &Given) -> Result<Self, Invalid> {
                text(given).and_then(Self::parse)
            }

            fn schema() -> ObjectBuilder {
                bounded(Self::MAX).examples([$example])
            }
        }
    )*};
}

texts! {
    OrganizationId "org-123"
    ExternalStoreId "store-456"
    StoreName "My Store"
    AccessToken "token-abc"
    Receipt "order-101"
}

macro_rules! plugin_names {
    ($($name:ident $example:literal)*) => {$(
        impl Field for $name {
            fn read(given: &Given) -> Result<Self, Invalid> {
                text(given).and_then(Self::parse)
            }

            fn schema() -> ObjectBuilder {
                bounded(Self::MAX).pattern(Some("^[a-z0-9-]+$")).examples([$example])
            }
        }
    )*};
}

plugin_names! {
    MarketplaceName "etsy"
    ShaperName "standard"
}

impl Field for Currency {
    fn read(given: &Given) -> Result<Self, Invalid> {
        text(given).and_then(Self::parse)
    }

    fn schema() -> ObjectBuilder {
        string()
            .min_length(Some(3))
            .max_length(Some(3))
            .pattern(Some("^[A-Za-z]{3}$"))
            .examples(["USD"])
    }
}

impl Field for TargetUrl {
    fn read(given: &Given) -> Result<Self, Invalid> {
        text(given).and_then(Self::parse)
    }

    /// The pattern covers the form. A valid host and an allowed address are beyond a pattern.
    fn schema() -> ObjectBuilder {
        let url = bounded(Self::MAX).format(Some(SchemaFormat::Custom("uri".into())));
        url.pattern(Some(
            "^[Hh][Tt][Tt][Pp][Ss]?://[^\\s/?#@\\\\]+([/?#][^\\s\\\\]*)?$",
        ))
        .examples(["http://127.0.0.1:4000/webhook"])
    }
}

/// A UUID in its usual form with hyphens (RFC 9562).
pub(crate) fn hyphenated(text: &str) -> Result<Uuid, Invalid> {
    // `parse` takes UUIDs without hyphens, in braces and as URNs too; they would be several names of one record.
    const HYPHENATED: usize = 36;
    match text.parse() {
        Ok(uuid) if text.len() == HYPHENATED => Ok(uuid),
        _ => Err(Invalid("must be a UUID".into())),
    }
}

impl Field for Uuid {
    fn read(given: &Given) -> Result<Self, Invalid> {
        text(given).and_then(hyphenated)
    }

    fn schema() -> ObjectBuilder {
        string().format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
    }
}

impl Field for SyncToken {
    fn read(given: &Given) -> Result<Self, Invalid> {
        Uuid::read(given).map(Self)
    }

    fn schema() -> ObjectBuilder {
        Uuid::schema().examples(["f14615e4-3b1c-4def-8abc-0123456789ab"])
    }
}

/// Times before 1970 are read as 1970: no record is older.
impl Field for Time {
    fn read(given: &Given) -> Result<Self, Invalid> {
        let time = Self::parse(text(given)?)
            .ok_or_else(|| Invalid("must be a time as RFC 3339 has it".into()))?;
        // Microseconds before 1970 would be negative, which cursors do not hold.
        Ok(time.max(Self::from_micros(0)))
    }

    fn schema() -> ObjectBuilder {
        string()
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples(["2026-01-31T00:00:00Z"])
    }
}

/// The schema of an enum in an answer.
pub(crate) fn names<const N: usize>(about: &str, names: [&'static str; N]) -> Object {
    string()
        .description(Some(about))
        .enum_values(Some(names))
        .build()
}

/// The schema of a flag that tells two answers apart.
fn always(value: bool) -> Object {
    bool::schema().enum_values(Some([value])).build()
}

/// The flag of a success.
pub(crate) fn always_true() -> Object {
    always(true)
}

/// The flag of a failure.
pub(crate) fn always_false() -> Object {
    always(false)
}

/// One of a few names.
pub(crate) fn choice<T>(
    given: &Given,
    parse: impl Fn(&str) -> Option<T>,
    names: &[&str],
) -> Result<T, Invalid> {
    parse(text(given)?).ok_or_else(|| Invalid(format!("must be one of {}", names.join(", "))))
}

impl Field for EventKind {
    fn read(given: &Given) -> Result<Self, Invalid> {
        choice(given, Self::parse, &Self::ALL.map(Self::as_str))
    }

    fn schema() -> ObjectBuilder {
        string()
            .enum_values(Some(Self::ALL.map(Self::as_str)))
            .examples([Self::SyncCompleted.as_str()])
    }
}

/// A kind of event that operators are told of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OperatorEvent(pub(crate) EventKind);

impl Field for OperatorEvent {
    fn read(given: &Given) -> Result<Self, Invalid> {
        let names = EventKind::OF_OPERATOR.map(EventKind::as_str);
        choice(given, EventKind::parse_of_operator, &names).map(Self)
    }

    fn schema() -> ObjectBuilder {
        string().enum_values(Some(EventKind::OF_OPERATOR.map(EventKind::as_str)))
    }
}

/// The same in an answer.
pub(crate) fn operator_events() -> Object {
    OperatorEvent::schema().build()
}

impl Field for WebhookState {
    fn read(given: &Given) -> Result<Self, Invalid> {
        choice(given, Self::parse, &Self::ALL.map(Self::as_str))
    }

    fn schema() -> ObjectBuilder {
        string().enum_values(Some(Self::ALL.map(Self::as_str)))
    }
}

impl Field for AnswerStatus {
    fn read(given: &Given) -> Result<Self, Invalid> {
        Self::parse(text(given)?).ok_or_else(|| {
            Invalid("must be a status such as 502, a class such as 5xx, or none".into())
        })
    }

    fn schema() -> ObjectBuilder {
        string()
            .min_length(Some(3))
            .max_length(Some(4))
            .pattern(Some("^([1-5]([0-9]{2}|xx)|none)$"))
            .examples(["5xx"])
    }
}

macro_rules! states {
    ($($name:ident)*) => {$(
        impl Field for $name {
            fn read(given: &Given) -> Result<Self, Invalid> {
                choice(given, Self::parse, &Self::ALL.map(Self::as_str))
            }

            fn schema() -> ObjectBuilder {
                string().enum_values(Some(Self::ALL.map(Self::as_str)))
            }
        }
    )*};
}

states! { DeliveryState SyncStatus LogStatus }

impl Field for bool {
    fn read(given: &Given) -> Result<Self, Invalid> {
        match given {
            Given::Json(Value::Bool(flag)) => Ok(*flag),
            // Neither `1` nor `yes`: JSON Schema's boolean, as it is described, has two values.
            Given::Text(text) if text == "true" => Ok(true),
            Given::Text(text) if text == "false" => Ok(false),
            _ => Err(Invalid("must be true or false".into())),
        }
    }

    fn schema() -> ObjectBuilder {
        ObjectBuilder::new().schema_type(Type::Boolean)
    }
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number<const LEAST: i64, const MAX: i64>(pub(crate) i64);

impl<const LEAST: i64, const MAX: i64> Field for Number<LEAST, MAX> {
    fn read(given: &Given) -> Result<Self, Invalid> {
        let number = match given {
            // Floats last: a large whole number would lose digits on the way through one.
            Given::Json(value) => value.as_i64().or_else(|| value.as_f64().and_then(whole)),
            // `parse` takes a leading plus, which a number of JSON does not have.
            Given::Text(text) if !text.starts_with('+') => text.parse().ok(),
            Given::Text(_) | Given::Wrong(_) => None,
        };
        let number = number.filter(|number| (LEAST..=MAX).contains(number));
        number
            .map(Self)
            .ok_or_else(|| Invalid(format!("must be a whole number from {LEAST} to {MAX}")))
    }

    fn schema() -> ObjectBuilder {
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        number
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(LEAST))
            .maximum(Some(MAX))
    }
}

/// `60.0` is a whole number to JSON Schema.
fn whole(number: f64) -> Option<i64> {
    // 2^53: up to there every whole number is a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    // Within these bounds nothing is lost.
    #[allow(clippy::cast_possible_truncation)]
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// Free text for people, such as a reason.
#[derive(Debug)]
pub(crate) struct Note<const MAX: usize>(pub(crate) String);

impl<const MAX: usize> Field for Note<MAX> {
    fn read(given: &Given) -> Result<Self, Invalid> {
        bounded_text(text(given)?, MAX).map(Self)
    }

    fn schema() -> ObjectBuilder {
        bounded(MAX)
    }
}

impl Field for RecoveryCursor {
    fn read(given: &Given) -> Result<Self, Invalid> {
        Self::parse(text(given)?)
            .ok_or_else(|| Invalid("must be the nextCursor of an answer".into()))
    }

    fn schema() -> ObjectBuilder {
        string()
            .min_length(Some(1))
            .max_length(Some(100))
            .pattern(Some(
                // Microseconds: sixteen digits reach to the year 2286.
                "^(0|[1-9][0-9]{0,15})\\.(0|[1-9][0-9]{0,15}|letters)\\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
            ))
            .examples(["1769817600000000.letters.0190a5e4-7b1c-7def-8abc-0123456789ab"])
    }
}

impl Field for KeyScopes {
    fn read(given: &Given) -> Result<Self, Invalid> {
        text(given).and_then(Self::parse)
    }

    fn schema() -> ObjectBuilder {
        let keys = KeyScope::ALL.iter().filter(|scope| scope.is_for_keys());
        let names: Vec<_> = keys
            .map(|scope| scope.as_str().replace('*', "\\*"))
            .collect();
        let one = format!("({})", names.join("|"));
        string()
            .min_length(Some(1))
            .max_length(Some(255))
            .pattern(Some(format!("^{one}( {one})*$")))
            .examples(["stores:read orders:write"])
    }
}

impl Field for Digest {
    fn read(given: &Given) -> Result<Self, Invalid> {
        Self::parse(text(given)?).ok_or_else(|| Invalid("must be 64 hexadecimal digits".into()))
    }

    fn schema() -> ObjectBuilder {
        string()
            .min_length(Some(64))
            .max_length(Some(64))
            .pattern(Some("^[0-9A-Fa-f]{64}$"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_one_form() {
        for good in [
            "0190a5e4-7b1c-7def-8abc-0123456789ab",
            "0190A5E4-7B1C-7DEF-8ABC-0123456789AB",
        ] {
            assert!(hyphenated(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "token",
            "0190a5e47b1c7def8abc0123456789ab",
            "{0190a5e4-7b1c-7def-8abc-0123456789ab}",
        ] {
            assert!(hyphenated(bad).is_err(), "{bad}");
        }
    }
}
