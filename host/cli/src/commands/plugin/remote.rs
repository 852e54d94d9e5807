//! The client of a running host's admin API.

use anyhow::{Context, bail};
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use wharf_egress::{Client, Method, RequestBuilder, operator_client};

use crate::{
    admin_token::AdminTokenArgs,
    remote::AdminUrlArgs,
    settings::{DataArgs, WrongSettings},
};

pub(super) const DEFAULT_URL: &str = "http://localhost:3000";

/// A host, and the token for its admin API.
#[derive(Args)]
pub(super) struct HostArgs {
    /// The host's URL [default: http://localhost:3000]
    #[arg(long, env = "BASE_URL", value_name = "BASE_URL")]
    url: Option<String>,
    #[command(flatten)]
    admin: AdminUrlArgs,
    #[command(flatten)]
    token: AdminTokenArgs,
    #[command(flatten)]
    pub(super) data: DataArgs,
}

impl HostArgs {
    /// The URL that was given.
    pub(super) fn given_url(&self) -> Option<&str> {
        self.admin.given().or(self.url.as_deref())
    }
}

/// The admin API of a host.
pub(super) struct Remote {
    client: Client,
    base_url: String,
    token: SecretString,
}

impl Remote {
    pub(super) fn new(args: &HostArgs) -> anyhow::Result<Self> {
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

    /// Returns every plugin of the host.
    pub(super) async fn list(&self) -> anyhow::Result<Value> {
        self.ask(self.request(Method::GET, "")).await
    }

    /// Returns one plugin with everything that is known about it.
    pub(super) async fn inspect(&self, plugin: &str) -> anyhow::Result<Value> {
        self.ask(self.request(Method::GET, &path(plugin))).await
    }

    /// Changes a plugin: `rollback`, `activate` and so on.
    pub(super) async fn change(
        &self,
        plugin: &str,
        what: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        self.ask(
            self.request(Method::POST, &format!("{}/{what}", path(plugin)))
                .json(body),
        )
        .await
    }

    /// Sends a component and perhaps its grants.
    pub(super) async fn push(
        &self,
        plugin: &str,
        component: Vec<u8>,
        grants: Option<String>,
    ) -> anyhow::Result<Value> {
        let form = Form::new(component, grants)?;
        let request = self
            .request(Method::POST, &path(plugin))
            .header("content-type", form.content_type());
        self.ask(request.body(form.body)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self
            .client
            .request(method, format!("{}/admin/plugins{path}", self.base_url));
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

    async fn ask(&self, request: RequestBuilder) -> anyhow::Result<Value> {
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
}

fn path(plugin: &str) -> String {
    // Whatever was typed stays a part of the path, slashes and question marks too.
    format!("/{}", utf8_percent_encode(plugin, NON_ALPHANUMERIC))
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
    let line = |detail: &Value| {
        format!(
            "\n  {}: {}",
            text(&detail["path"]),
            text(&detail["message"])
        )
    };
    format!("{error}{message}{}", details.map(line).collect::<String>())
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// A form of one file and perhaps one text (RFC 7578).
struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Form {
    fn new(component: Vec<u8>, grants: Option<String>) -> anyhow::Result<Self> {
        // 128 random bits: no component holds this line by chance.
        let boundary = format!("wharf-{:032x}", u128::from_be_bytes(wharf_app::random()));
        let mut body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"component\"; filename=\"component.wasm\"\r\n\
             Content-Type: application/wasm\r\n\r\n"
        )
        .into_bytes();
        body.extend(component);
        if let Some(grants) = grants {
            let head = format!(
                "\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"grants\"\r\n\r\n"
            );
            body.extend([head.as_bytes(), grants.as_bytes()].concat());
        }
        body.extend(format!("\r\n--{boundary}--\r\n").as_bytes());
        Ok(Self { boundary, body })
    }

    fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_the_path() {
        assert_eq!(path("../x?y"), "/%2E%2E%2Fx%3Fy");
    }

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
