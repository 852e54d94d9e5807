//! `wharf flow`: a walk through the API of a running host.

use anyhow::{Context, ensure};
use clap::Args;
use percent_encoding::utf8_percent_encode;
use serde::Serialize;
use serde_json::{Value, json};
use wharf_domain::EventKind;
use wharf_egress::{Client, Method, StatusCode, operator_client};

use crate::{
    admin_token,
    output::{self, Format},
    remote::IN_A_QUERY,
    secret::Secret,
    settings::SettingError,
};

/// `wharf flow`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf flow
  BASE_URL=http://localhost:3000 RECEIPTS=order-101,order-102 wharf flow
  wharf flow --json | jq '.steps[].status'

It stops with an error at the first unexpected answer.

  [env: ACCESS_TOKEN]
          The store's access token at the marketplace, or in the file that ACCESS_TOKEN_FILE names
          [default: token-v2]
  [env: WHARF_API_KEY]
          The key that is sent, where the host asks for one, or in the file that WHARF_API_KEY_FILE names")]
pub(crate) struct FlowArgs {
    /// The host's URL
    #[arg(
        long,
        env = "BASE_URL",
        value_name = "BASE_URL",
        default_value = "http://localhost:3000"
    )]
    base_url: String,
    /// The organization that owns the store
    #[arg(long, env = "ORG_ID", value_name = "ORG_ID", default_value = "org-1")]
    org_id: String,
    /// The marketplace, as a plugin serves it
    #[arg(
        long,
        env = "MARKETPLACE",
        value_name = "MARKETPLACE",
        default_value = "etsy"
    )]
    marketplace: String,
    /// The store's id at the marketplace
    #[arg(
        long,
        env = "EXTERNAL_STORE_ID",
        value_name = "EXTERNAL_STORE_ID",
        default_value = "ext-100"
    )]
    external_store_id: String,
    /// The store's name
    #[arg(
        long,
        env = "STORE_NAME",
        value_name = "STORE_NAME",
        default_value = "My Etsy Store"
    )]
    store_name: String,
    #[arg(skip = Secret::of_environment("ACCESS_TOKEN"))]
    access_token: Secret,
    #[arg(skip = admin_token::api_key())]
    key: Secret,
    /// The store's currency
    #[arg(long, env = "CURRENCY", value_name = "CURRENCY", default_value = "USD")]
    currency: String,
    /// The URL for webhooks
    #[arg(
        long,
        env = "WEBHOOK_URL",
        value_name = "WEBHOOK_URL",
        default_value = "http://127.0.0.1:4000/webhook"
    )]
    webhook_url: String,
    /// The receipts to import, one after the other
    #[arg(
        long,
        env = "RECEIPTS",
        value_name = "RECEIPTS",
        value_delimiter = ',',
        default_value = "order-101,order-102,order-115"
    )]
    receipts: Vec<String>,
}

/// One request and its answer.
#[derive(Serialize)]
struct Step {
    method: String,
    path: String,
    status: u16,
    answer: Value,
}

/// The state of the walk.
struct Flow {
    client: Client,
    base_url: String,
    key: Secret,
    format: Format,
    steps: Vec<Step>,
}

impl FlowArgs {
    /// Tells if the access token cannot be read.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        // Any is right: it is the marketplace's, not ours.
        self.access_token.check(|_| Ok::<_, String>(()))?;
        admin_token::check_api_key(&self.key)
    }
}

/// Walks through the API; each step uses the answers of earlier ones.
pub(crate) async fn run(args: FlowArgs, format: Format) -> anyhow::Result<()> {
    let client = operator_client()?;
    let base_url = args.base_url.trim_end_matches('/').to_owned();
    let mut flow = Flow {
        client,
        base_url,
        key: args.key.clone(),
        format,
        steps: Vec::new(),
    };
    let result = flow.walk(&args).await;
    // Also after an error: the steps up to it are what somebody wants to see.
    if format == Format::Json {
        let error = result.as_ref().err().map(ToString::to_string);
        output::json(&json!({"ok": result.is_ok(), "error": error, "steps": flow.steps}))?;
    }
    result
}

impl Flow {
    async fn walk(&mut self, args: &FlowArgs) -> anyhow::Result<()> {
        let token = self.register_store(args).await?;
        for receipt in args.receipts.iter().map(|receipt| receipt.trim()) {
            let answer = self
                .post(
                    "/orders/import",
                    &json!({"syncToken": token, "receipt": receipt}),
                )
                .await?;
            ensure!(
                // A refusal of the marketplace is an answer too; only a host that says neither is broken.
                answer["success"].is_boolean(),
                "the import of {receipt} says nothing of success"
            );
        }
        let status = self
            .get(&format!("/stores/sync-status?syncToken={token}"))
            .await?;
        ensure!(
            status["syncStatus"].is_string(),
            "the answer holds no syncStatus"
        );
        self.register_webhooks(args).await
    }

    async fn register_store(&mut self, args: &FlowArgs) -> anyhow::Result<String> {
        let store = json!({
            "organizationId": args.org_id,
            "marketplace": args.marketplace,
            "externalStoreId": args.external_store_id,
            "storeName": args.store_name,
            "accessToken": args.access_token.expose().unwrap_or("token-v2"),
            "currency": args.currency,
        });
        let answer = self.post("/stores/register", &store).await?;
        answer["syncToken"]
            .as_str()
            .map(Into::into)
            .context("the registration holds no syncToken")
    }

    async fn register_webhooks(&mut self, args: &FlowArgs) -> anyhow::Result<()> {
        const EVENTS: [EventKind; 3] = [
            EventKind::SyncStarted,
            EventKind::SyncCompleted,
            EventKind::SyncFailed,
        ];
        for event in EVENTS.map(EventKind::as_str) {
            let webhook = json!({"organizationId": args.org_id, "event": event, "targetUrl": args.webhook_url});
            self.post("/webhooks/register", &webhook).await?;
        }
        let organization = utf8_percent_encode(&args.org_id, IN_A_QUERY);
        let list = self
            .get(&format!("/webhooks?organizationId={organization}"))
            .await?;
        for event in EVENTS.map(EventKind::as_str) {
            let is_ours =
                |hook: &Value| hook["event"] == event && hook["targetUrl"] == args.webhook_url;
            ensure!(
                list.as_array()
                    .is_some_and(|hooks| hooks.iter().any(is_ours)),
                "the list holds no {event}"
            );
        }
        Ok(())
    }

    async fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let mut request = self
            .client
            .request(method.clone(), format!("{}{path}", self.base_url));
        if let Some(key) = self.key.expose() {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = || {
            format!(
                "{} does not answer; is `wharf serve` running there?",
                self.base_url
            )
        };
        let response = request.send().await.with_context(unreachable)?;
        let status = response.status();
        let text = response.text().await?;
        // What is no JSON is shown as it came, and fails at the next look into it.
        let answer = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let step = Step {
            method: method.to_string(),
            path: path.into(),
            status: status.as_u16(),
            answer,
        };
        if self.format == Format::Text {
            output::line(&format!(
                "{} {}\n{} {:#}\n",
                step.method, step.path, step.status, step.answer
            ));
        }
        let answer = step.answer.clone();
        // Before its status is judged, so that the step that failed is listed.
        self.steps.push(step);
        ensure!(
            status == StatusCode::OK,
            "{method} {path} answered {status}, not 200 OK"
        );
        Ok(answer)
    }
}
