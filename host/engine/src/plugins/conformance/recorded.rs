//! Vectors that are written from real calls.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use crate::contract::{
    bindings::adapter_types::{Fault as Said, Verdict},
    convert::ValidateRequest,
};
use crate::sandbox::{
    Judged,
    recording::{RecordedAnswer, RecordedExchange},
};

/// Headers that are no part of a vector: credentials, and what HTTP itself adds.
const LEFT_OUT: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "keep-alive",
    "proxy-authorization",
    "set-cookie",
    "transfer-encoding",
];

#[derive(Serialize)]
struct File<'a> {
    cases: [Case<'a>; 1],
}

#[derive(Serialize)]
struct Case<'a> {
    name: String,
    config: &'a BTreeMap<String, String>,
    request: Value,
    exchanges: Vec<Exchange>,
    expect: Value,
}

#[derive(Serialize)]
struct Exchange {
    request: Request,
    response: Response,
}

#[derive(Serialize)]
struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    #[serde(flatten)]
    body: Body,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Response {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        #[serde(flatten)]
        body: Body,
    },
    Failure {
        error: &'static str,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Body {
    /// As it was written: numbers keep their digits.
    Json(Box<RawValue>),
    Body(String),
}

/// Returns a file of vectors with one call: a case that asks and answers the same.
///
/// # Errors
/// If a body is no text.
pub(crate) fn case(
    request: &ValidateRequest,
    config: &BTreeMap<String, String>,
    exchanges: Vec<RecordedExchange>,
    judged: &Judged,
) -> Result<String, String> {
    let asked = request.to_guest();
    let file = File {
        cases: [Case {
            name: format!("{} as recorded", asked.receipt),
            config,
            request: json!({"receipt": asked.receipt, "currency": asked.currency,
                "external_store_id": asked.external_store_id, "now": asked.now}),
            exchanges: exchanges
                .into_iter()
                .map(exchange)
                .collect::<Result<_, _>>()?,
            expect: expectation(judged),
        }],
    };
    serde_json::to_string_pretty(&file).map_err(|error| error.to_string())
}

fn expectation(judged: &Judged) -> Value {
    match judged {
        Ok(Verdict::Accepted(order)) => {
            json!({"accepted": {"id": order.id, "amount": order.amount, "currency": order.currency}})
        }
        Ok(Verdict::Rejected(_)) => json!({"rejected": true}),
        Err(Said::RateLimited(_)) => json!({"rate_limited": true}),
        Err(Said::Unauthorized(_)) => json!({"fault": "unauthorized"}),
        Err(Said::Unavailable(_)) => json!({"fault": "unavailable"}),
        Err(Said::Misconfigured(_)) => json!({"fault": "misconfigured"}),
    }
}

fn exchange(recorded: RecordedExchange) -> Result<Exchange, String> {
    let response = match recorded.answer {
        Ok(RecordedAnswer {
            status,
            headers,
            body: text,
        }) => Response::Answer {
            status,
            headers: kept(headers),
            body: body(text)?,
        },
        Err(error) => Response::Failure {
            error: failure(&error),
        },
    };
    Ok(Exchange {
        request: Request {
            method: recorded.method,
            url: recorded.url,
            headers: kept(recorded.headers),
            body: body(recorded.body)?,
        },
        response,
    })
}

fn kept(headers: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut headers = headers;
    headers.retain(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
    headers
}

fn body(text: String) -> Result<Body, String> {
    // What is no UTF-8 was replaced by this character, and would not be the same when it is played.
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return Err("a body is no text: a vector of it has to be written by hand".into());
    }
    Ok(RawValue::from_string(text.clone()).map_or(Body::Body(text), Body::Json))
}

/// Returns the failure of a vector that is nearest to an error of the network.
fn failure(error: &str) -> &'static str {
    if error.contains("Timeout") {
        "timed-out"
    } else if error.contains("Denied") || error.contains("Prohibited") {
        "denied"
    } else {
        "refused"
    }
}
