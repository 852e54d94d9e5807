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
        // Words of ours alone: Slack reads them as markup, here and in notifications.
        let headline = format!(
            "{} for store {}",
            headline(&event.kind),
            plain_name(&event.store_id).unwrap_or("(unnamed)")
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
                {"type": "section", "text":
                    {"type": "mrkdwn", "verbatim": true, "text": format!("*{headline}*\n{details}").trim_end()}},
                // Not `mrkdwn`: names, links, emphasis and emoji of whoever named the organization would work there.
                {"type": "context", "elements": [{"type": "plain_text", "emoji": false, "text": context}]},
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

fn headline(kind: &str) -> &str {
    match kind {
        "sync.started" => "Sync started",
        "sync.completed" => "Sync completed",
        "sync.failed" => "Sync failed",
        other => plain_name(other).unwrap_or("Event"),
    }
}

/// A name in which nothing is markup: letters, digits, dots and hyphens.
fn plain_name(text: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    (!text.is_empty() && text.bytes().all(is_plain)).then_some(text)
}

/// Slack reads `&`, `<` and `>` as markup (links, mentions) in every text, so they are written as entities.
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
            kind: "*@here*".into(),
            timestamp: "2024-01-01T12:00:00.000Z".into(),
            organization_id: "<!channel> & \"co\" @here #general http://phish.test *b* :tada:"
                .into(),
            store_id: "<http://evil|click>".into(),
            data: "{}".into(),
        };
        let body = String::from_utf8(Slack::shape(event).expect("shaped").body).expect("text");
        assert!(
            body.contains("&lt;!channel&gt; &amp; \\\"co\\\"") && !body.contains(['<', '>']),
            "{body}"
        );
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let foreign = &body["blocks"][1]["elements"][0];
        assert_eq!(
            (foreign["type"].as_str(), foreign["emoji"].as_bool()),
            (Some("plain_text"), Some(false))
        );
        let ours = &body["blocks"][0]["text"];
        assert_eq!(ours["text"], "*Event for store (unnamed)*");
        assert_eq!(ours["verbatim"], true);
        assert_eq!(body["text"], "Event for store (unnamed)");
    }
}
