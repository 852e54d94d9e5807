//! The fields of a request, from a body or a query, with every mistake collected.

use std::{collections::HashMap, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use wharf_domain::Invalid;

use crate::{
    error::{ApiError, Detail},
    request::FromFields,
};

/// The value of a field, as a client gave it.
#[derive(Debug)]
pub(crate) enum Given {
    /// In a body.
    Json(Value),
    /// In a query, where all is text.
    Text(String),
    /// Unusable; the reason, for people.
    Wrong(&'static str),
}

/// The fields that a client sent, and what was found wrong with those that were asked for. All of a request's
/// mistakes are reported at once; fields that nobody asks for are ignored.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    given: HashMap<String, Given>,
    details: Vec<Detail>,
}

impl Fields {
    #[cfg(test)]
    pub(crate) fn of(value: Value) -> Self {
        Self::deserialize(value).expect("an object")
    }

    /// Adds a field; a second one of the same name makes it unusable, since which of the two was meant is unknown.
    pub(crate) fn add(&mut self, name: String, value: Given) {
        self.given
            .entry(name)
            // A proxy and this host might else read different ones of the two.
            .and_modify(|first| *first = Given::Wrong("must be given once"))
            .or_insert(value);
    }

    /// The field's value; `None` if it is missing or wrong, which is noted for [`Self::refusal`].
    pub(crate) fn required<T>(
        &mut self,
        path: &'static str,
        read: impl FnOnce(&Given) -> Result<T, Invalid>,
    ) -> Option<T> {
        let value = match self.given.get(path) {
            None | Some(Given::Json(Value::Null)) => Err(Invalid("is required".into())),
            Some(Given::Wrong(why)) => Err(Invalid((*why).into())),
            Some(given) => read(given),
        };
        value
            // Noted and not returned: the caller goes on, and the client learns of all mistakes at once.
            .map_err(|Invalid(message)| self.details.push(Detail { path, message }))
            .ok()
    }

    /// The field as it was sent; `None` if it was left out.
    pub(crate) fn given(&self, path: &str) -> Option<&Given> {
        // `null` counts as left out.
        let given = self.given.get(path);
        given.filter(|given| !matches!(given, Given::Json(Value::Null)))
    }

    /// Puts a field in, or another value in its place.
    pub(crate) fn set(&mut self, path: &str, value: Given) {
        self.given.insert(path.to_owned(), value);
    }

    /// Returns true if the field was sent, right or wrong.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.given(path).is_some()
    }

    /// Returns true for a string that is not empty.
    pub(crate) fn has_text(&self, path: &str) -> bool {
        matches!(self.given.get(path), Some(Given::Json(Value::String(text))) if !text.is_empty())
    }

    /// Everything that was found wrong.
    pub(crate) fn refusal(self) -> ApiError {
        ApiError::Validation(self.details)
    }
}

/// The fields of a JSON object. Not by way of a map of serde_json's, which keeps the last of two members of one name.
impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some((name, value)) = members.next_entry()? {
                    fields.add(name, Given::Json(value));
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// For handlers that read the fields themselves.
impl FromFields for Fields {
    fn from_fields(fields: Self) -> Result<Self, ApiError> {
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wharf_domain::{Currency, Receipt};

    use super::*;
    use crate::{request::Field, values::Number};

    fn refused(fields: Fields) -> Vec<(&'static str, String)> {
        let ApiError::Validation(details) = fields.refusal() else {
            panic!("another refusal")
        };
        details
            .into_iter()
            .map(|detail| (detail.path, detail.message))
            .collect()
    }

    #[test]
    fn every_wrong_field_is_reported_once_and_in_the_order_of_asking() {
        let mut fields = Fields::of(
            json!({"a": "", "b": 5, "c": "x\u{0}", "d": "x".repeat(256), "e": null, "f": "fine"}),
        );
        for name in ["a", "b", "c", "d", "e"] {
            assert!(Receipt::take(&mut fields, name).is_none());
        }
        assert!(Receipt::take(&mut fields, "f").is_some());
        let expected = [
            ("a", "must not be empty"),
            ("b", "must be a string"),
            ("c", "must not contain NUL"),
            ("d", "must be at most 255 characters"),
            ("e", "is required"),
        ];
        assert_eq!(
            refused(fields),
            expected.map(|(path, message)| (path, message.to_owned()))
        );
    }

    #[test]
    fn a_member_is_given_once() {
        for body in [
            r#"{"a": "x", "a": "y"}"#,
            r#"{"a": "x", "b": 1, "a": "x", "a": "x"}"#,
            r#"{"a": null, "a": "x"}"#,
            r#"{"a": "x", "a": null}"#,
            r#"{"a": "x", "\u0061": "y"}"#,
        ] {
            let mut fields: Fields = serde_json::from_str(body).expect("an object");
            assert!(<Option<Receipt> as Field>::take(&mut fields, "a").is_none());
            let expected = [("a", "must be given once".to_owned())];
            assert_eq!(refused(fields), expected, "{body}");
        }
        // Of fields that nobody asks for none is meant.
        let body = r#"{"x": 1, "a": "fine", "x": {"a": 1, "a": 2}}"#;
        let mut fields: Fields = serde_json::from_str(body).expect("an object");
        assert!(Receipt::take(&mut fields, "a").is_some());
    }

    #[test]
    fn an_optional_field_may_be_absent_but_not_wrong() {
        let mut fields =
            Fields::of(json!({"good": "eur", "null": null, "bad": ["EUR"], "worse": "EURO"}));
        let mut take = |name| <Option<Currency> as Field>::take(&mut fields, name);
        assert_eq!(
            take("good").flatten().map(|c| c.to_string()).as_deref(),
            Some("EUR")
        );
        assert_eq!(take("null"), Some(None));
        assert_eq!(take("absent"), Some(None));
        assert_eq!(take("bad"), None);
        assert_eq!(take("worse"), None);
        assert_eq!(refused(fields).len(), 2);
    }

    #[test]
    fn numbers_and_flags_have_bounds_and_are_no_text_in_a_body() {
        let mut fields = Fields::of(
            json!({"n": 5, "whole": 7.0, "big": 11, "f": 1.5, "t": "7", "huge": 1e300, "yes": true,
            "no": "false"}),
        );
        let mut number = |name| Number::<0, 10>::take(&mut fields, name).map(|number| number.0);
        assert_eq!((number("n"), number("whole")), (Some(5), Some(7)));
        for wrong in ["big", "f", "t", "huge", "yes", "absent"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
        assert_eq!(
            (
                bool::take(&mut fields, "yes"),
                bool::take(&mut fields, "no")
            ),
            (Some(true), None)
        );
        let refused = refused(fields);
        assert_eq!(
            refused[0],
            ("big", "must be a whole number from 0 to 10".to_owned())
        );
        assert_eq!(refused.len(), 7);
    }

    #[test]
    fn in_a_query_all_is_text() {
        let mut fields = Fields::default();
        for (name, value) in [
            ("n", "5"),
            ("big", "11"),
            ("f", "5.0"),
            ("yes", "true"),
            ("x", "si"),
        ] {
            fields.add(name.to_owned(), Given::Text(value.to_owned()));
        }
        let mut number = |name| Number::<0, 10>::take(&mut fields, name).map(|number| number.0);
        assert_eq!(
            (number("n"), number("big"), number("f")),
            (Some(5), None, None)
        );
        assert_eq!(
            (bool::take(&mut fields, "yes"), bool::take(&mut fields, "x")),
            (Some(true), None)
        );
    }
}
