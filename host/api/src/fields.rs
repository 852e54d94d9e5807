use std::collections::HashMap;

use serde_json::{Map, Value};
use wharf_domain::{Invalid, SyncToken};

use crate::error::{ApiError, Detail};

/// The fields that a client sent, and what was found wrong with those that were asked for. All of a request's
/// mistakes are reported at once; fields that nobody asks for are ignored.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// Each field's text, or why it is none.
    given: HashMap<String, Result<String, &'static str>>,
    details: Vec<Detail>,
}

impl Fields {
    /// The fields of a JSON object. `null` counts as absent.
    pub(crate) fn from_object(object: Map<String, Value>) -> Self {
        let text = |value| match value {
            Value::Null => None,
            Value::String(text) => Some(Ok(text)),
            _ => Some(Err("must be a string")),
        };
        let given = object.into_iter().filter_map(|(name, value)| Some((name, text(value)?))).collect();
        Self { given, details: Vec::new() }
    }

    /// Adds a field; a second one of the same name makes it unusable, since which of the two was meant is unknown.
    pub(crate) fn add(&mut self, name: String, value: Result<String, &'static str>) {
        self.given.entry(name).and_modify(|first| *first = Err("must be given once")).or_insert(value);
    }

    /// The field's value; `None` if it is missing or wrong, which is noted for [`Self::refusal`].
    pub(crate) fn required<T>(
        &mut self,
        path: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        let value = match self.given.get(path) {
            None => Err(Invalid("is required".into())),
            Some(Err(why)) => Err(Invalid((*why).into())),
            Some(Ok(text)) => parse(text),
        };
        value.map_err(|Invalid(message)| self.details.push(Detail { path, message })).ok()
    }

    /// The field's value, `Some(None)` where it is absent; `None` if it is wrong, which is noted.
    pub(crate) fn optional<T>(
        &mut self,
        path: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<Option<T>> {
        if self.given.contains_key(path) { self.required(path, parse).map(Some) } else { Some(None) }
    }

    /// Whether a field has any text at all: present, a string and not empty.
    pub(crate) fn has_text(&self, path: &str) -> bool {
        matches!(self.given.get(path), Some(Ok(text)) if !text.is_empty())
    }

    /// Everything that was found wrong.
    pub(crate) fn refusal(self) -> ApiError {
        ApiError::Validation(self.details)
    }
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
    fn sync_tokens_have_one_form() {
        assert!(sync_token("0190a5e4-7b1c-7def-8abc-0123456789ab").is_ok());
        assert!(sync_token("0190A5E4-7B1C-7DEF-8ABC-0123456789AB").is_ok());
        for bad in ["", "token", "0190a5e47b1c7def8abc0123456789ab", "{0190a5e4-7b1c-7def-8abc-0123456789ab}"] {
            assert!(sync_token(bad).is_err(), "{bad}");
        }
    }
}
