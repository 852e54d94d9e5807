use std::collections::HashMap;

use serde_json::{Map, Value};
use wharf_domain::{Invalid, SyncToken};

use crate::error::{ApiError, Detail};

/// The fields that a client sent, and what was found wrong with those that were asked for. All of a request's
/// mistakes are reported at once; fields that nobody asks for are ignored.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// Each field's value, or why it has none.
    given: HashMap<String, Result<Value, &'static str>>,
    details: Vec<Detail>,
}

impl Fields {
    /// The fields of a JSON object. `null` counts as absent.
    pub(crate) fn from_object(object: Map<String, Value>) -> Self {
        let given = object.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, Ok(value)));
        Self { given: given.collect(), details: Vec::new() }
    }

    /// Adds a field; a second one of the same name makes it unusable, since which of the two was meant is unknown.
    pub(crate) fn add(&mut self, name: String, value: Result<String, &'static str>) {
        let value = value.map(Value::String);
        self.given.entry(name).and_modify(|first| *first = Err("must be given once")).or_insert(value);
    }

    /// The field's value; `None` if it is missing or wrong, which is noted for [`Self::refusal`].
    pub(crate) fn required<T>(
        &mut self,
        path: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        self.value(path, |value| value.as_str().map_or(Err(Invalid("must be a string".into())), parse))
    }

    fn value<T>(&mut self, path: &'static str, parse: impl FnOnce(&Value) -> Result<T, Invalid>) -> Option<T> {
        let value = match self.given.get(path) {
            None => Err(Invalid("is required".into())),
            Some(Err(why)) => Err(Invalid((*why).into())),
            Some(Ok(value)) => parse(value),
        };
        value.map_err(|Invalid(message)| self.details.push(Detail { path, message })).ok()
    }

    /// The field's value, `Some(None)` where it is absent; `None` if it is wrong, which is noted.
    pub(crate) fn optional<T>(
        &mut self,
        path: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<Option<T>> {
        self.optional_value(path, |value| value.as_str().map_or(Err(Invalid("must be a string".into())), parse))
    }

    /// A yes or no, in a body `true` or `false`, in a query the same as text.
    pub(crate) fn optional_flag(&mut self, path: &'static str) -> Option<Option<bool>> {
        self.optional_value(path, |value| match (value, value.as_str()) {
            (Value::Bool(flag), _) => Ok(*flag),
            (_, Some("true")) => Ok(true),
            (_, Some("false")) => Ok(false),
            _ => Err(Invalid("must be true or false".into())),
        })
    }

    /// A whole number within bounds, in a query as text.
    pub(crate) fn optional_number(
        &mut self,
        path: &'static str,
        bounds: std::ops::RangeInclusive<i64>,
    ) -> Option<Option<i64>> {
        self.optional_value(path, |value| {
            let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
            let why = || Invalid(format!("must be a whole number from {} to {}", bounds.start(), bounds.end()));
            number.filter(|number| bounds.contains(number)).ok_or_else(why)
        })
    }

    fn optional_value<T>(
        &mut self,
        path: &'static str,
        parse: impl FnOnce(&Value) -> Result<T, Invalid>,
    ) -> Option<Option<T>> {
        if self.given.contains_key(path) { self.value(path, parse).map(Some) } else { Some(None) }
    }

    /// Whether a field has any text at all: present, a string and not empty.
    pub(crate) fn has_text(&self, path: &str) -> bool {
        matches!(self.given.get(path), Some(Ok(Value::String(text))) if !text.is_empty())
    }

    /// Everything that was found wrong.
    pub(crate) fn refusal(self) -> ApiError {
        ApiError::Validation(self.details)
    }
}

/// Reads a text for people: not empty, no NUL, at most 255 characters, as every text of the contract.
pub(crate) fn note(text: &str) -> Result<String, Invalid> {
    wharf_domain::StoreName::parse(text).map(|name| name.to_string())
}

/// Reads a sync token: a UUID in its usual form with hyphens.
pub(crate) fn sync_token(text: &str) -> Result<SyncToken, Invalid> {
    const HYPHENATED: usize = 36;
    match text.parse() {
        Ok(uuid) if text.len() == HYPHENATED => Ok(SyncToken(uuid)),
        _ => Err(Invalid("must be a UUID".into())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wharf_domain::{Currency, Receipt};

    use super::*;

    fn fields(value: Value) -> Fields {
        let Value::Object(object) = value else { panic!("not an object") };
        Fields::from_object(object)
    }

    fn refused(fields: Fields) -> Vec<(&'static str, String)> {
        let ApiError::Validation(details) = fields.refusal() else { panic!("another refusal") };
        details.into_iter().map(|detail| (detail.path, detail.message)).collect()
    }

    #[test]
    fn every_wrong_field_is_reported_once_and_in_the_order_of_asking() {
        let mut fields = fields(json!({"a": "", "b": 5, "c": "x\u{0}", "d": "x".repeat(256), "e": null, "f": "fine"}));
        for name in ["a", "b", "c", "d", "e"] {
            assert!(fields.required(name, Receipt::parse).is_none());
        }
        assert!(fields.required("f", Receipt::parse).is_some());
        let expected = [
            ("a", "must not be empty"),
            ("b", "must be a string"),
            ("c", "must not contain NUL"),
            ("d", "must be at most 255 characters"),
            ("e", "is required"),
        ];
        assert_eq!(refused(fields), expected.map(|(path, message)| (path, message.to_owned())));
    }

    #[test]
    fn an_optional_field_may_be_absent_but_not_wrong() {
        let mut fields = fields(json!({"good": "eur", "null": null, "bad": ["EUR"], "worse": "EURO"}));
        assert_eq!(fields.optional("good", Currency::parse).flatten().map(|c| c.to_string()).as_deref(), Some("EUR"));
        assert_eq!(fields.optional("null", Currency::parse), Some(None));
        assert_eq!(fields.optional("absent", Currency::parse), Some(None));
        assert_eq!(fields.optional("bad", Currency::parse), None);
        assert_eq!(fields.optional("worse", Currency::parse), None);
        assert_eq!(refused(fields).len(), 2);
    }

    #[test]
    fn numbers_and_flags_have_bounds() {
        let mut fields = fields(json!({"n": 5, "t": "7", "big": 11, "f": 1.5, "yes": true, "no": "false", "x": "si"}));
        assert_eq!(fields.optional_number("n", 0..=10), Some(Some(5)));
        assert_eq!(fields.optional_number("t", 0..=10), Some(Some(7)));
        assert_eq!(fields.optional_number("absent", 0..=10), Some(None));
        for wrong in ["big", "f", "yes", "x"] {
            assert_eq!(fields.optional_number(wrong, 0..=10), None, "{wrong}");
        }
        assert_eq!((fields.optional_flag("yes"), fields.optional_flag("no")), (Some(Some(true)), Some(Some(false))));
        assert_eq!(fields.optional_flag("x"), None);
        let refused = refused(fields);
        assert_eq!(refused[0], ("big", "must be a whole number from 0 to 10".to_owned()));
        assert_eq!(refused.len(), 5);
    }

    #[test]
    fn sync_tokens_have_one_form() {
        assert!(sync_token("0190a5e4-7b1c-7def-8abc-0123456789ab").is_ok());
        assert!(sync_token("0190A5E4-7B1C-7DEF-8ABC-0123456789AB").is_ok());
        for bad in ["", "token", "0190a5e47b1c7def8abc0123456789ab", "{0190a5e4-7b1c-7def-8abc-0123456789ab}"] {
            assert!(sync_token(bad).is_err(), "{bad}");
        }
    }
}
