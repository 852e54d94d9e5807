//! The routes of the document, and requests made by it: about something that one organization has, or about nothing.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use wharf_tests::{Answer, Host};

use super::people::ask;

/// Names nothing.
pub(crate) const NOTHING: &str = "0190a5e4-7b1c-7def-8abc-0123456789ab";

/// One route and method.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The scopes one of which is enough; none where nobody is asked.
    pub(crate) scopes: Vec<String>,
    /// The members of its body, or the parameters of its query.
    fields: Map<String, Value>,
    has_body: bool,
}

/// What one organization has.
#[derive(Clone, Debug)]
pub(crate) struct Things {
    pub(crate) organization: String,
    pub(crate) sync_token: String,
    pub(crate) store: String,
    pub(crate) webhook: String,
    pub(crate) event: String,
    pub(crate) delivery: String,
}

impl Things {
    /// Names of nothing, in this organization.
    pub(crate) fn none(organization: &str) -> Self {
        let nothing = || NOTHING.to_owned();
        Self {
            organization: organization.to_owned(),
            sync_token: nothing(),
            store: nothing(),
            webhook: nothing(),
            event: nothing(),
            delivery: nothing(),
        }
    }

    /// What `{id}` of a path names. A new kind of thing is to be added here.
    fn id(&self, path: &str) -> Result<&str> {
        let things = [
            ("/webhooks/", &self.webhook),
            ("/admin/webhooks/", &self.webhook),
            ("/events/", &self.event),
            ("/deliveries/", &self.delivery),
            ("/stores/", &self.store),
            ("/admin/stores/", &self.store),
        ];
        if let Some((_, id)) = things.iter().find(|(begin, _)| path.starts_with(begin)) {
            return Ok(id);
        }
        // Operators' things that no organization has.
        if path.starts_with("/admin/") || path.starts_with("/receipts/") {
            return Ok(NOTHING);
        }
        bail!("{path}: say in `Things::id` whose id this is")
    }
}

/// Every route of the document that asks for a key, and those that do not.
pub(crate) async fn routes(host: &Host) -> Result<Vec<Route>> {
    let document = host.get("/openapi.json").await?.json();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, said) in item.as_object().context("methods")? {
            routes.push(route(&document, path, method, said)?);
        }
    }
    Ok(routes)
}

fn route(document: &Value, path: &str, method: &str, said: &Value) -> Result<Route> {
    let needs = said["security"]
        .as_array()
        .with_context(|| format!("{method} {path} declares nothing"))?;
    let scopes = needs
        .iter()
        .filter_map(|need| need["key"].as_array())
        .flatten();
    let scopes = scopes
        .filter_map(|scope| Some(scope.as_str()?.to_owned()))
        .collect();
    let resolved = |value: &Value| -> Value {
        let pointer = value["$ref"]
            .as_str()
            .map(|reference| reference[1..].to_owned());
        pointer
            .and_then(|at| document.pointer(&at).cloned())
            .unwrap_or_else(|| value.clone())
    };
    let body = resolved(&said["requestBody"]["content"]["application/json"]["schema"]);
    let has_body = said["requestBody"].is_object();
    let fields = if has_body {
        body["properties"].as_object().cloned().unwrap_or_default()
    } else {
        let parameters = said["parameters"].as_array().cloned().unwrap_or_default();
        let in_query = parameters.into_iter().filter(|one| one["in"] == "query");
        in_query
            .filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["schema"].clone())))
            .collect()
    };
    let method = method.to_uppercase();
    Ok(Route {
        method,
        path: path.to_owned(),
        scopes,
        fields,
        has_body,
    })
}

impl Route {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// True where a request may name an organization.
    pub(crate) fn names_organization(&self) -> bool {
        self.fields.contains_key("organizationId")
    }

    /// True where a request names something that an organization has, by its path or a token.
    pub(crate) fn names_thing(&self) -> bool {
        let by_path = self.path.contains("{id}") && !self.path.starts_with("/admin/");
        by_path || self.fields.contains_key("syncToken") || self.fields.contains_key("webhookId")
    }

    /// Sends a request about these things that names this organization, or none.
    pub(crate) async fn ask(
        &self,
        host: &Host,
        key: Option<&str>,
        things: &Things,
        organization: Option<&str>,
    ) -> Result<Answer> {
        let mut path = self
            .path
            .replace("{marketplace}", "etsy")
            .replace("{plugin}", "nothing")
            // No receipt was ever imported here: of a store that is there, it is nothing.
            .replace("{logId}", NOTHING);
        if path.contains("{id}") {
            path = path.replace("{id}", things.id(&path)?);
        }
        anyhow::ensure!(
            !path.contains('{'),
            "{path}: say in `Route::ask` what this names"
        );
        let mut members = Map::new();
        for (name, schema) in &self.fields {
            let value = match name.as_str() {
                "organizationId" => organization.map(|name| json!(name)),
                "syncToken" => Some(json!(things.sync_token)),
                "webhookId" => Some(json!(things.webhook)),
                // Pages and filters are left out, and so is what only counts.
                "cursor" | "after" | "limit" | "state" => None,
                _ => Some(right(schema)),
            };
            members.extend(value.map(|value| (name.clone(), value)));
        }
        if self.has_body {
            return ask(
                host,
                &self.method,
                &path,
                key,
                Some(&Value::Object(members)),
            )
            .await;
        }
        let pairs = members.iter().map(|(name, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            format!("{name}={value}")
        });
        let query = pairs.collect::<Vec<_>>().join("&");
        ask(host, &self.method, &format!("{path}?{query}"), key, None).await
    }
}

/// A value that the schema allows.
fn right(schema: &Value) -> Value {
    let first = |values: &Value| values.get(0).cloned();
    let kind = schema["type"]
        .as_str()
        .or_else(|| schema["type"][0].as_str());
    first(&schema["examples"])
        .or_else(|| first(&schema["enum"]))
        .unwrap_or_else(|| match (schema["format"].as_str(), kind) {
            (Some("uuid"), _) => json!(NOTHING),
            (Some("date-time"), _) => json!("2026-01-31T00:00:00Z"),
            (_, Some("boolean")) => json!(true),
            (_, Some("integer")) => schema["minimum"].clone(),
            _ if schema["minLength"] == 64 => json!("0".repeat(64)),
            _ => json!("x"),
        })
}
