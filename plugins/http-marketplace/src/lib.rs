//! An adapter that asks a remote marketplace: `POST {base_url}/mock/{marketplace}/validate`.
//!
//! The host adds the credential `marketplace` at its border. What the marketplace says wrongly is told as unavailable,
//! so that it is never counted against the plugin.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wharf_plugin_sdk::{
    adapter::{Adapter, Fault, Manifest, Order, Request, Verdict},
    config, decimal, http, log,
};

struct HttpMarketplace;

impl Adapter for HttpMarketplace {
    fn manifest() -> Manifest {
        let name = config::get("serve_as").unwrap_or_else(|| "http-marketplace".into());
        let manifest = Manifest::new(&name, "Marketplace over HTTP", env!("CARGO_PKG_VERSION"))
            .reads_config("base_url")
            .reads_config("marketplace")
            .reads_config("serve_as")
            .uses_credential("marketplace");
        match config::get("base_url").as_deref().and_then(origin) {
            Some(origin) => manifest.wants_origin(origin),
            None => manifest,
        }
    }

    fn validate(request: Request) -> Result<Verdict, Fault> {
        let question = Question {
            receipt: &request.receipt,
            currency: &request.currency,
        };
        let body =
            serde_json::to_vec(&question).map_err(|error| Fault::Unavailable(error.to_string()))?;
        let response = http::Request::post_json(url()?, body)
            .header("accept", "application/json")
            .send()?
            .or_fault()?;
        log::debug(format_args!("the marketplace answered {}", response.status));
        let answer: Answer<'_> = serde_json::from_slice(&response.body)
            .map_err(|_| nonsense("it is not the JSON we know"))?;
        match answer.status {
            true => answer
                .order()
                .and_then(Order::checked)
                .map(Verdict::Accepted),
            false => Ok(Verdict::Rejected(
                "the marketplace knows no such receipt".into(),
            )),
        }
    }
}

#[derive(Serialize)]
struct Question<'a> {
    receipt: &'a str,
    currency: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    status: bool,
    order_id: Option<String>,
    /// A JSON number, kept as it is written: it never becomes a float.
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    currency: Option<String>,
    #[serde(rename = "importedAtUTC")]
    imported_at: Option<String>,
}

impl Answer<'_> {
    fn order(self) -> Result<Order, Fault> {
        let (Some(id), Some(amount), Some(currency), Some(imported_at)) =
            (self.order_id, self.amount, self.currency, self.imported_at)
        else {
            return Err(nonsense("a part of the order is missing"));
        };
        let amount = decimal::plain(amount.get()).ok_or_else(|| nonsense("the amount"))?;
        Ok(Order {
            id,
            amount,
            currency,
            imported_at,
        })
    }
}

fn nonsense(why: &str) -> Fault {
    Fault::Unavailable(format!("the marketplace's answer makes no sense: {why}"))
}

fn url() -> Result<String, Fault> {
    let base_url = config::require("base_url")?;
    let marketplace = config::require("marketplace")?;
    if origin(&base_url).is_none() || base_url.contains(['?', '#']) {
        return Err(Fault::Misconfigured(
            "`base_url` must be such as https://api.example.com".into(),
        ));
    }
    if marketplace.is_empty()
        || !marketplace
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Err(Fault::Misconfigured(
            "`marketplace` must be letters, digits, `-` and `_`".into(),
        ));
    }
    Ok(format!(
        "{}/mock/{marketplace}/validate",
        base_url.trim_end_matches('/')
    ))
}

/// The scheme, host and port of a URL.
fn origin(url: &str) -> Option<&str> {
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))?;
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let start = url.len() - url.split_once("://")?.1.len();
    (!host.is_empty() && !host.contains('@')).then(|| &url[..start + host.len()])
}

wharf_plugin_sdk::export_adapter!(HttpMarketplace);

#[cfg(test)]
mod tests;
