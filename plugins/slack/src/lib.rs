//! Webhook payloads as Slack messages, for a Slack incoming webhook.

use serde::Deserialize;
use serde_json::{Value, json};
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

/// What the operator of a host is told of. Texts in it are of organizations, plugins and receivers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notice {
    organization_id: Option<String>,
    webhook_id: Option<String>,
    receiver: Option<String>,
    plugin: Option<String>,
    digest: Option<String>,
    reason: Option<String>,
    last_error: Option<String>,
}

impl Shaper for Slack {
    fn manifest() -> Manifest {
        Manifest::new("slack", "Slack message", env!("CARGO_PKG_VERSION"))
    }

    fn shape(event: Event) -> Result<Message, String> {
        let body = match headline(&event.kind) {
            Headline::OfOperator(headline) => of_operator(headline, &event),
            Headline::OfStore(headline) => of_store(headline, &event),
        };
        Ok(Message::new("application/json", body.to_string()))
    }
}

fn of_store(headline: &str, event: &Event) -> Value {
    // Words of ours alone: Slack reads them as markup, here and in notifications.
    let headline = format!(
        "{headline} for store {}",
        plain_name(&event.store_id).unwrap_or("(unnamed)")
    );
    let details = serde_json::from_str(&event.data)
        .map(Counts::sentence)
        .unwrap_or_default();
    json!({
        "text": headline,
        "blocks": [
            {"type": "section", "text":
                {"type": "mrkdwn", "verbatim": true, "text": format!("*{headline}*\n{details}").trim_end()}},
            context(event),
        ],
    })
}

fn of_operator(headline: &str, event: &Event) -> Value {
    let notice: Option<Notice> = serde_json::from_str(&event.data).ok();
    let details = notice.map(Notice::lines).unwrap_or_default();
    let mut blocks = vec![json!({"type": "section", "text":
        {"type": "mrkdwn", "verbatim": true, "text": format!("*{headline}*")}})];
    // A text without a character is refused.
    if !details.is_empty() {
        blocks.push(json!({"type": "section", "text": plain_text(&details)}));
    }
    blocks.push(context(event));
    json!({"text": headline, "blocks": blocks})
}

fn context(event: &Event) -> Value {
    // The operator has no name: events of his own belong to nobody else.
    let owner = if event.organization_id.is_empty() {
        "operator"
    } else {
        &event.organization_id
    };
    let context = format!("{owner} at {}", event.timestamp);
    json!({"type": "context", "elements": [plain_text(&context)]})
}

/// Not `mrkdwn`: names, links, emphasis and emoji of whoever named the organization would work there.
fn plain_text(text: &str) -> Value {
    json!({"type": "plain_text", "emoji": false, "text": escaped(text)})
}

impl Notice {
    /// One line for each thing that is known. A block of Slack takes 3,000 characters.
    fn lines(self) -> String {
        const MAX_LINE: usize = 300;
        let lines = [
            ("Plugin", self.plugin),
            ("Revision", self.digest),
            ("Organization", self.organization_id),
            ("Webhook", self.webhook_id),
            ("Receiver", self.receiver),
            ("Reason", self.reason),
            ("Last error", self.last_error),
        ];
        let told = lines.into_iter().filter_map(|(name, text)| {
            let text: String = text?.chars().take(MAX_LINE).collect();
            Some(format!("{name}: {text}"))
        });
        told.collect::<Vec<_>>().join("\n")
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

/// What an event is called, and whom it is about.
enum Headline<'a> {
    OfStore(&'a str),
    OfOperator(&'a str),
}

fn headline(kind: &str) -> Headline<'_> {
    match kind {
        "sync.started" => Headline::OfStore("Sync started"),
        "sync.completed" => Headline::OfStore("Sync completed"),
        "sync.failed" => Headline::OfStore("Sync failed"),
        "endpoint.disabled" => Headline::OfOperator("Webhook disabled"),
        "plugin.quarantined" => Headline::OfOperator("Plugin quarantined"),
        "plugin.rolled_back" => Headline::OfOperator("Plugin rolled back"),
        other => Headline::OfStore(plain_name(other).unwrap_or("Event")),
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

    #[test]
    fn an_operator_is_told_what_is_known_and_nobody_is_mentioned() {
        let event = |data: &str| Event {
            id: "e".into(),
            kind: "endpoint.disabled".into(),
            timestamp: "2024-01-01T12:00:00.000Z".into(),
            organization_id: String::new(),
            store_id: "00000000-0000-0000-0000-000000000000".into(),
            data: data.into(),
        };
        let shaped = |data: &str| {
            let body = Slack::shape(event(data)).expect("shaped").body;
            serde_json::from_slice::<Value>(&body).expect("JSON")
        };
        let long = "x".repeat(9_000);
        let body = shaped(&format!(
            r#"{{"organizationId": "<!channel>", "reason": "{long}", "other": 5}}"#
        ));
        assert_eq!(body["text"], "Webhook disabled");
        let details = &body["blocks"][1]["text"];
        assert_eq!(details["type"], "plain_text");
        let text = details["text"].as_str().expect("text");
        assert!(
            text.starts_with("Organization: &lt;!channel&gt;\nReason: xxx"),
            "{text}"
        );
        assert!(text.len() < 3_000);
        assert_eq!(
            body["blocks"][2]["elements"][0]["text"],
            "operator at 2024-01-01T12:00:00.000Z"
        );
        for data in ["{}", "nonsense", r#"{"plugin": 5}"#] {
            let body = shaped(data);
            assert_eq!(body["blocks"].as_array().map(Vec::len), Some(2), "{data}");
        }
    }
}
