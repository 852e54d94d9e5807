//! Those who call, and their keys.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wharf_tests::{ADMIN_TOKEN, Answer, Host, Site, client};

/// A host that asks for keys.
pub(crate) async fn start(site: &Arc<Site>) -> Result<Host> {
    let host = site.host().env("API_AUTH", "required");
    host.env("CLIENT_RATE", "off").start().await
}

/// Sends a request with this key and, if there is one, this JSON body.
pub(crate) async fn ask(
    host: &Host,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: Option<&Value>,
) -> Result<Answer> {
    // Not by the host's own client, which sends the admin token where a host asks for keys.
    let url = format!("{}{path}", host.base_url());
    let mut request = client().request(method.parse()?, url);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    Answer::to(request).await
}

/// Somebody with a key.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) key: String,
    /// `None` for an operator.
    pub(crate) organization: Option<String>,
    pub(crate) scopes: Vec<String>,
}

impl Person {
    /// The rule of docs/access.md, in the test's own words.
    pub(crate) fn may(&self, wanted: &[String]) -> bool {
        let has = |scope: &str| self.scopes.iter().any(|own| own == scope);
        wanted
            .iter()
            .any(|scope| has(scope) || (has("operator") && scope != "webhooks:secrets"))
    }
}

/// Makes a key by the admin API.
pub(crate) async fn create_key(
    host: &Host,
    organization: Option<&str>,
    scopes: &str,
) -> Result<Person> {
    let body = json!({"organizationId": organization, "name": "test", "scopes": scopes});
    let made = ask(host, "POST", "/admin/keys", Some(ADMIN_TOKEN), Some(&body)).await?;
    ensure!(
        made.status == 201,
        "{scopes}: {} {}",
        made.status,
        made.text
    );
    let text = |name: &str| -> Result<String> {
        let value = made.get(name);
        Ok(value.as_str().context("a text")?.to_owned())
    };
    Ok(Person {
        id: text("id")?,
        key: text("key")?,
        organization: organization.map(str::to_owned),
        scopes: scopes.split(' ').map(str::to_owned).collect(),
    })
}

/// A token of the organization, made by the admin.
pub(crate) async fn portal(host: &Host, organization: &str, rights: &str) -> Result<Person> {
    let body = json!({"organizationId": organization, "rights": rights});
    let made = ask(
        host,
        "POST",
        "/portal-tokens",
        Some(ADMIN_TOKEN),
        Some(&body),
    )
    .await?;
    let token = made.get("token");
    let reads = [
        "orders:read",
        "stores:read",
        "webhooks:read",
        "deliveries:read",
    ];
    let cares = ["portal:care"].into_iter().filter(|_| rights == "care");
    Ok(Person {
        id: String::new(),
        key: token.as_str().context(made.text)?.to_owned(),
        organization: Some(organization.to_owned()),
        scopes: reads.into_iter().chain(cares).map(str::to_owned).collect(),
    })
}

/// A key of the right form that nobody made.
pub(crate) fn made_up(kind: &str) -> String {
    let signed = format!("wharf_{kind}_{}_{}", "0a".repeat(16), "0b".repeat(32));
    let checksum: String = Sha256::digest(&signed)[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{signed}_{checksum}")
}
