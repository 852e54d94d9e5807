//! Webhook payloads as Slack messages, for a Slack incoming webhook.

use serde::Deserialize;
use serde_json::json;
use wharf_plugin_sdk::shaper::{Event, Manifest, Message, Shaper};

struct Slack;

/// The counts of a sync run. An event without them is told in one line.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    processed_count: u64,
    success_count: u64,
    failed_count: u64,
    rate_limited_count: u64,
}

impl Shaper for Slack {
    fn manifest() -> Manifest {
        Manifest::new("slack", "Slack message", env!("CARGO_PKG_VERSION"))
    }

    fn shape(event: Event) -> Result<Message, String> {
        let headline = format!(
            "{} for store {}",
            headline(&event.kind),
            escaped(&event.store_id)
        );
        let details = serde_json::from_str(&event.data)
            .map(Counts::sentence)
            .unwrap_or_default();
        let context = format!(
            "{} at {}",
            escaped(&event.organization_id),
            escaped(&event.timestamp)
        );
        let body = json!({
            "text": headline,
            "blocks": [
                {"type": "section", "text": {"type": "mrkdwn", "text": format!("*{headline}*\n{details}").trim_end()}},
                {"type": "context", "elements": [{"type": "mrkdwn", "text": context}]},
            ],
        });
        Ok(Message::new("application/json", body.to_string()))
    }
}

impl Counts {
    fn sentence(self) -> String {
        format!(
            "{} processed: {} imported, {} failed, {} rate-limited",
            self.processed_count, self.success_count, self.failed_count, self.rate_limited_count
        )
    }
}

fn headline(kind: &str) -> String {
    match kind {
        "sync.started" => "Sync started".into(),
        "sync.completed" => "Sync completed".into(),
        "sync.failed" => "Sync failed".into(),
        other => escaped(other),
    }
}

/// Slack reads `&`, `<` and `>` as markup (links, mentions), so they are written as entities.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

wharf_plugin_sdk::export_shaper!(Slack);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_mentioned_from_outside() {
        let event = Event {
            id: "e".into(),
            kind: "sync.failed".into(),
            timestamp: "2024-01-01T12:00:00.000Z".into(),
            organization_id: "<!channel> & \"co\"".into(),
            store_id: "<http://evil|click>".into(),
            data: "{}".into(),
        };
        let body = String::from_utf8(Slack::shape(event).expect("shaped").body).expect("text");
        assert!(
            body.contains("&lt;!channel&gt; &amp; \\\"co\\\"") && !body.contains(['<', '>']),
            "{body}"
        );
    }
}
