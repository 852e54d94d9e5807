//! The client of a running host's admin API, for the commands of operators.

use anyhow::{Context, bail};
use clap::Args;
use percent_encoding::utf8_percent_encode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use wharf_egress::{Client, Method, RequestBuilder, operator_client};

use crate::{
    admin_token::AdminTokenArgs,
    remote::{AdminUrlArgs, IN_A_QUERY, add},
    settings::{DataArgs, WrongSettings},
};

/// The host where none is named.
const DEFAULT_URL: &str = "http://localhost:3000";

/// A host, and the token for its admin API.
#[derive(Args)]
pub(crate) struct HostArgs {
    /// The host's URL [default: http://localhost:3000]
    #[arg(long, env = "BASE_URL", value_name = "BASE_URL")]
    url: Option<String>,
    #[command(flatten)]
    admin: AdminUrlArgs,
    #[command(flatten)]
    token: AdminTokenArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

impl HostArgs {
    /// The URL that was given.
    pub(crate) fn given_url(&self) -> Option<&str> {
        self.admin.given().or(self.url.as_deref())
    }
}

/// The admin API of a host. Paths begin behind `/admin`.
pub(crate) struct Operator {
    client: Client,
    base_url: String,
    token: SecretString,
}

impl Operator {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// There is no token.
    pub(crate) fn new(args: &HostArgs) -> anyhow::Result<Self> {
        args.token.check().map_err(WrongSettings::from)?;
        Ok(Self {
            client: operator_client()?,
            base_url: args
                .given_url()
                .unwrap_or(DEFAULT_URL)
                .trim_end_matches('/')
                .to_owned(),
            token: args.token.of_client(&args.data)?,
        })
    }

    /// A request, to be sent by [`Self::ask`].
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self
            .client
            .request(method, format!("{}/admin{path}", self.base_url));
        // Whoever runs the command may say anything here: the audit has it as a claim.
        let user = std::env::var("USER").unwrap_or_default();
        let request = request.bearer_auth(self.token.expose_secret());
        // A header takes nothing else; without it the audit says `admin`.
        if user.is_ascii() && !user.is_empty() {
            request.header("x-wharf-actor", user)
        } else {
            request
        }
    }

    /// Sends a request, and reads the answer.
    ///
    /// # Errors
    /// The host does not answer, or refuses.
    pub(crate) async fn ask(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let unreachable = || {
            format!(
                "{} does not answer; is `wharf serve` running there?",
                self.base_url
            )
        };
        let response = request.send().await.with_context(unreachable)?;
        let status = response.status();
        let text = response.text().await?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if !status.is_success() {
            bail!(
                "the host answered {}: {}",
                status.as_u16(),
                refusal(&answer)
            );
        }
        Ok(answer)
    }

    /// Asks for something; parameters are added where they have a value.
    pub(crate) async fn get(
        &self,
        path: &str,
        parameters: &[(&str, Option<String>)],
    ) -> anyhow::Result<Value> {
        let pairs = parameters.iter().filter_map(|(name, value)| {
            let value = value.as_deref()?;
            Some(format!("{name}={}", utf8_percent_encode(value, IN_A_QUERY)))
        });
        let query = pairs.collect::<Vec<_>>().join("&");
        self.ask(self.request(Method::GET, &format!("{path}?{query}")))
            .await
    }

    /// Asks for something to be done. `null` members are left out by the host.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(self.request(Method::POST, path).json(body)).await
    }

    /// Asks for something to be done that may take several requests, and adds up the numbers of their answers. Tells
    /// `progress` of each sum.
    pub(crate) async fn post_all(
        &self,
        path: &str,
        mut body: Value,
        mut progress: impl FnMut(&Value),
    ) -> anyhow::Result<Value> {
        // Each answer's page is committed. If a later request fails, the sum so far is told, and a repeat does no harm.
        let mut sum = self.post(path, &body).await?;
        while let Some(cursor) = sum["nextCursor"].as_str() {
            body["cursor"] = cursor.into();
            progress(&sum);
            let more = self.post(path, &body).await?;
            add(&mut sum, more);
        }
        Ok(sum)
    }
}

/// Returns a refusal as lines for people.
fn refusal(answer: &Value) -> String {
    let Some(error) = answer["error"].as_str() else {
        return answer.to_string();
    };
    let message = answer["message"]
        .as_str()
        .map(|message| format!(" ({message})"))
        .unwrap_or_default();
    let details = answer["details"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |detail: &Value| {
        format!(
            "\n  {}: {}",
            text(&detail["path"]),
            text(&detail["message"])
        )
    };
    format!("{error}{message}{}", details.map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_are_told_in_lines() {
        let answer = json!({"error": "Plugin refused", "message": "what served before goes on",
            "details": [{"path": "stage", "message": "verify"}]});
        assert_eq!(
            refusal(&answer),
            "Plugin refused (what served before goes on)\n  stage: verify"
        );
        assert_eq!(refusal(&json!("oops")), "\"oops\"");
    }
}
