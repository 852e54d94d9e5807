//! Webhook payloads as CloudEvents 1.0 in the structured JSON form.

use serde::Serialize;
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
    subject: &'a str,
    time: &'a str,
    datacontenttype: &'a str,
    data: &'a RawValue,
}

impl Shaper for CloudEvents {
    fn manifest() -> Manifest {
        Manifest::new("cloudevents", "CloudEvents 1.0", env!("CARGO_PKG_VERSION"))
    }

    fn shape(event: Event) -> Result<Message, String> {
        let body = CloudEvent {
            specversion: "1.0",
            id: &event.id,
            source: format!("/organizations/{}", percent_encoded(&event.organization_id)),
            kind: format!("wharf.{}", event.kind),
            subject: &event.store_id,
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
