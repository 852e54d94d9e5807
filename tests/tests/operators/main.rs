//! Webhooks in the hands of their owner and of the host's operator: change, disable, send again, recover.

mod owner;
mod recovery;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wharf_tests::{Answer, Backend, Host, Ledger, Receiver, Request, on_every_backend};

const ORG: &str = "organizationId=org-1";

/// A registered webhook: its id and its secret.
struct Hook {
    id: String,
    secret: String,
}

impl Hook {
    async fn register(host: &Host, event: &str, url: &str) -> Result<Self> {
        let answer = host
            .post(
                "/webhooks/register",
                &json!({"organizationId": "org-1", "event": event, "targetUrl": url}),
            )
            .await?;
        let text = |name| {
            answer
                .get(name)
                .as_str()
                .map(str::to_owned)
                .with_context(|| answer.text.clone())
        };
        Ok(Self {
            id: text("id")?,
            secret: text("secret")?,
        })
    }

    async fn get(&self, host: &Host) -> Result<Answer> {
        host.get(&format!("/webhooks/{}?{ORG}", self.id)).await
    }

    /// Asks for something, in the name of the organization.
    async fn post(&self, host: &Host, action: &str, mut body: Value) -> Result<Answer> {
        body["organizationId"] = json!("org-1");
        host.post(&format!("/webhooks/{}/{action}", self.id), &body)
            .await
    }

    async fn deliveries(&self, host: &Host, query: &str) -> Result<Value> {
        Ok(host
            .get(&format!("/webhooks/{}/deliveries?{ORG}{query}", self.id))
            .await?
            .json())
    }
}

async fn send(host: &Host, method: &str, path: &str, body: &Value) -> Result<Answer> {
    let method = method.parse()?;
    Answer::to(
        host.client()
            .request(method, format!("{}{path}", host.base_url()))
            .json(body),
    )
    .await
}

fn verifies(request: &Request, secret: &str) -> bool {
    let reader = standardwebhooks::Webhook::new(secret).expect("a secret");
    reader.verify(&request.body, &request.headers).is_ok()
}

/// Makes what waits for its next attempt due.
async fn hurry(ledger: &Ledger) -> Result<()> {
    let due = format!(
        "update callback_deliveries set due_at = {} where state = 'pending'",
        ledger.time(-60)
    );
    ledger.execute(&due).await.map(drop)
}

async fn a_rate_limit_is_kept(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let ledger = Ledger::open(host.site()).await?;
    let receiver = Receiver::start().await?;
    let hook = Hook::register(&host, "sync.completed", receiver.url()).await?;
    let limit = json!({"organizationId": "org-1", "ratePerMinute": 120});
    assert_eq!(
        send(&host, "PATCH", &format!("/webhooks/{}", hook.id), &limit)
            .await?
            .status,
        200
    );
    for _ in 0..10 {
        ledger.put_event("org-1", "sync.completed", "{}").await?;
    }
    let requests = receiver.wait_for(8).await?;
    let took = requests[7].at - requests[0].at;
    assert!(
        took.as_secs_f64() > 1.0,
        "a burst of five, then two a second: {took:?}"
    );
    Ok(())
}

on_every_backend!(a_rate_limit_is_kept);
