//! The seed's webhook payload: `{eventId, event, timestamp, organizationId, storeId, data}`, in this order.

use serde::Serialize;
use serde_json::value::RawValue;
use wharf_plugin_sdk::shaper::{Event, Manifest, Message, Shaper};

struct StandardPayload;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    event_id: &'a str,
    event: &'a str,
    timestamp: &'a str,
    organization_id: &'a str,
    store_id: &'a str,
    /// Embedded as it came: exact numbers stay exact, the order of its fields stays.
    data: &'a RawValue,
}

impl Shaper for StandardPayload {
    fn manifest() -> Manifest {
        Manifest::new("standard", "Standard payload", env!("CARGO_PKG_VERSION"))
    }

    fn shape(event: Event) -> Result<Message, String> {
        let payload = Payload {
            event_id: &event.id,
            event: &event.kind,
            timestamp: &event.timestamp,
            organization_id: &event.organization_id,
            store_id: &event.store_id,
            data: serde_json::from_str(&event.data)
                .map_err(|error| format!("data is not JSON: {error}"))?,
        };
        let body = serde_json::to_vec(&payload).map_err(|error| error.to_string())?;
        Ok(Message::new("application/json", body))
    }
}

wharf_plugin_sdk::export_shaper!(StandardPayload);

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> Event {
        Event {
            id: "0190a1b2-0000-7000-8000-000000000001".into(),
            kind: "sync.completed".into(),
            timestamp: "2024-01-01T12:00:00.000Z".into(),
            organization_id: "org \"1\"\n\u{1}ü\u{2028}".into(),
            store_id: "s".into(),
            data: data.into(),
        }
    }

    #[test]
    fn keeps_order_and_bytes() {
        let message = StandardPayload::shape(event(r#"{"b":1.10,"a":[]}"#)).expect("shaped");
        let body = String::from_utf8(message.body).expect("text");
        assert_eq!(message.content_type, "application/json");
        assert_eq!(
            body,
            "{\"eventId\":\"0190a1b2-0000-7000-8000-000000000001\",\"event\":\"sync.completed\",\
             \"timestamp\":\"2024-01-01T12:00:00.000Z\",\"organizationId\":\"org \\\"1\\\"\\n\\u0001ü\u{2028}\",\
             \"storeId\":\"s\",\"data\":{\"b\":1.10,\"a\":[]}}"
        );
    }

    #[test]
    fn data_cannot_break_out() {
        for bad in ["", "{", "{}}", "1,\"x\":2", "{}\0"] {
            assert!(StandardPayload::shape(event(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn deep_data_does_not_overflow_the_stack() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(StandardPayload::shape(event(&deep)).is_ok());
    }
}
