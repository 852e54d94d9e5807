//! Webhook payloads as CloudEvents 1.0 in the structured JSON form.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wharf_plugin_sdk::shaper::{Event, Manifest, Message, Shaper};

struct CloudEvents;

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'a str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
    time: &'a str,
    datacontenttype: &'a str,
    data: &'a RawValue,
}

impl Shaper for CloudEvents {
    fn manifest() -> Manifest {
        Manifest::new("cloudevents", "CloudEvents 1.0", env!("CARGO_PKG_VERSION"))
    }

    fn shape(event: Event) -> Result<Message, String> {
        let of_operator = event.organization_id.is_empty();
        let body = CloudEvent {
            specversion: "1.0",
            id: &event.id,
            source: if of_operator {
                "/operator".into()
            } else {
                format!("/organizations/{}", percent_encoded(&event.organization_id))
            },
            kind: format!("wharf.{}", event.kind),
            subject: if of_operator {
                Subject::of(&event.data).map(Cow::Owned)
            } else {
                Some(Cow::Borrowed(&event.store_id))
            },
            time: &event.timestamp,
            datacontenttype: "application/json",
            data: serde_json::from_str(&event.data)
                .map_err(|error| format!("data is not JSON: {error}"))?,
        };
        let body = serde_json::to_vec(&body).map_err(|error| error.to_string())?;
        Ok(Message::new(
            "application/cloudevents+json; charset=utf-8",
            body,
        ))
    }
}

/// What an event of the operator's is about. It is about no store.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    plugin: Option<String>,
    webhook_id: Option<String>,
}

impl Subject {
    fn of(data: &str) -> Option<String> {
        let Self { plugin, webhook_id } = serde_json::from_str(data).ok()?;
        // CloudEvents has no empty subject.
        plugin.or(webhook_id).filter(|subject| !subject.is_empty())
    }
}

/// `source` must be a URI reference: only the unreserved characters of RFC 3986 stay as they are.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

wharf_plugin_sdk::export_shaper!(CloudEvents);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_uri_references() {
        for (text, encoded) in [
            ("org-1", "org-1"),
            ("a b/ü", "a%20b%2F%C3%BC"),
            ("..", ".."),
        ] {
            assert_eq!(percent_encoded(text), encoded);
        }
    }
}
