//! A running host, asked over HTTP by the commands for webhooks and deliveries.

use anyhow::{Context, bail};
use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use wharf_egress::{Client, Method, operator_client};

use crate::{admin_token, secret::Secret, settings::WrongSettings};

/// The host and the organization.
#[derive(Args, Clone, Debug)]
pub(crate) struct RemoteArgs {
    /// The host's URL
    #[arg(
        long,
        env = "BASE_URL",
        value_name = "BASE_URL",
        default_value = "http://localhost:3000"
    )]
    url: String,
    /// The organization that owns the webhooks [default: org-1; with WHARF_API_KEY the key's own]
    #[arg(long, env = "ORG_ID", value_name = "ORG_ID")]
    org: Option<String>,
    #[arg(skip = admin_token::api_key())]
    key: Secret,
    #[command(flatten)]
    admin: AdminUrlArgs,
}

/// The address of the admin API, where it has one of its own.
#[derive(Args, Clone, Debug)]
pub(crate) struct AdminUrlArgs {
    /// The admin API's URL, where it has an address of its own (ADMIN_ADDR) [default: the host's URL]
    #[arg(long, env = "ADMIN_URL", value_name = "ADMIN_URL")]
    admin_url: Option<String>,
}

impl AdminUrlArgs {
    /// The URL that was given.
    pub(crate) fn given(&self) -> Option<&str> {
        self.admin_url.as_deref()
    }
}

/// Characters that are escaped in a query's value.
// All but the unreserved characters of RFC 3986.
pub(crate) const IN_A_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A host, asked over its public API.
pub(crate) struct Remote {
    client: Client,
    args: RemoteArgs,
}

impl Remote {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// `WHARF_API_KEY` is no key.
    pub(crate) fn new(args: RemoteArgs) -> anyhow::Result<Self> {
        admin_token::check_api_key(&args.key).map_err(WrongSettings::from)?;
        Ok(Self {
            client: operator_client()?,
            args,
        })
    }

    /// The organization to name. A key knows its own.
    fn organization(&self) -> Option<String> {
        let of_key = self.args.key.value().is_some();
        let named = self.args.org.clone();
        named.or_else(|| (!of_key).then(|| "org-1".into()))
    }

    /// Asks for something; further parameters are added where they have a value.
    pub(crate) async fn get(
        &self,
        path: &str,
        parameters: &[(&str, Option<String>)],
    ) -> anyhow::Result<Value> {
        let organization = [("organizationId", self.organization())];
        let given = organization.iter().chain(parameters);
        let pairs = given.filter_map(|(name, value)| {
            let value = value.as_deref()?;
            Some(format!("{name}={}", utf8_percent_encode(value, IN_A_QUERY)))
        });
        self.ask(
            Method::GET,
            &format!("{path}?{}", pairs.collect::<Vec<_>>().join("&")),
            None,
        )
        .await
    }

    /// Asks for something to be done. `null` members are left out by the host.
    pub(crate) async fn post(&self, path: &str, mut body: Value) -> anyhow::Result<Value> {
        // Every caller hands in an object: to index anything else would panic.
        body["organizationId"] = self.organization().into();
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Asks for something to be done that may take several requests, and adds up the numbers of their answers.
    pub(crate) async fn post_all(&self, path: &str, mut body: Value) -> anyhow::Result<Value> {
        // Each answer's page is committed. If a later request fails only the sum is lost, and a repeat does no harm.
        let mut sum = self.post(path, body.clone()).await?;
        while let Some(cursor) = sum["nextCursor"].as_str() {
            body["cursor"] = cursor.into();
            let more = self.post(path, body.clone()).await?;
            add(&mut sum, more);
        }
        Ok(sum)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        // `http://host/` and `http://host` are the same to people; paths begin with a slash.
        let admin = self
            .args
            .admin
            .given()
            .filter(|_| path.starts_with("/admin/"));
        let base = admin.unwrap_or(&self.args.url).trim_end_matches('/');
        let mut request = self.client.request(method, format!("{base}{path}"));
        if let Some(key) = self.args.key.expose() {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await;
        let response = response
            .with_context(|| format!("{base} does not answer; is `wharf serve` running there?"))?;
        let status = response.status();
        let text = response.text().await?;
        // A proxy's error page is no JSON: then the status has to say enough.
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if !status.is_success() {
            bail!(
                "{}",
                complaint(&answer).unwrap_or_else(|| format!("the host answered {status}"))
            );
        }
        Ok(answer)
    }
}

/// Adds the numbers of an answer, also those inside of its members, and takes its cursor or that it has none.
pub(crate) fn add(sum: &mut Value, more: Value) {
    add_numbers(sum, &more);
    match (sum.as_object_mut(), more["nextCursor"].as_str()) {
        (Some(sum), Some(next)) => drop(sum.insert("nextCursor".into(), next.into())),
        (Some(sum), None) => drop(sum.remove("nextCursor")),
        (None, _) => {}
    }
}

fn add_numbers(sum: &mut Value, more: &Value) {
    for (name, value) in sum.as_object_mut().into_iter().flatten() {
        let more = &more[name.as_str()];
        match (value.as_i64(), more.as_i64()) {
            (Some(a), Some(b)) => *value = (a + b).into(),
            _ => add_numbers(value, more),
        }
    }
}

/// A refusal in one line.
fn complaint(answer: &Value) -> Option<String> {
    let mut text = answer["error"].as_str()?.to_owned();
    if let Some(message) = answer["message"].as_str() {
        text = format!("{text}: {message}");
    }
    for detail in answer["details"].as_array().into_iter().flatten() {
        let member = |name: &str| detail[name].as_str().unwrap_or_default().to_owned();
        text = format!("{text}; {} {}", member("path"), member("message"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_become_one_line() {
        let details = json!([{"path": "since", "message": "is required"}]);
        let refused = json!({"error": "Validation error", "details": details});
        assert_eq!(
            complaint(&refused).as_deref(),
            Some("Validation error; since is required")
        );
        assert_eq!(
            complaint(&json!({"error": "a", "message": "b"})).as_deref(),
            Some("a: b")
        );
        assert_eq!(complaint(&Value::Null), None);
    }

    #[test]
    fn answers_of_several_requests_are_added_up() {
        let mut sum =
            json!({"failed": 2, "skipped": {"noBody": 1}, "dryRun": false, "nextCursor": "a"});
        add(
            &mut sum,
            json!({"failed": 3, "skipped": {"noBody": 2}, "dryRun": false, "nextCursor": "b"}),
        );
        assert_eq!(
            sum,
            json!({"failed": 5, "skipped": {"noBody": 3}, "dryRun": false, "nextCursor": "b"})
        );
        add(&mut sum, json!({"failed": 1, "dryRun": false}));
        assert_eq!(
            sum,
            json!({"failed": 6, "skipped": {"noBody": 3}, "dryRun": false})
        );
    }
}
