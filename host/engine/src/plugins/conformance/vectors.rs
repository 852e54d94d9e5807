//! The vectors of a component: cases that its author wrote.
//!
//! For an adapter: `{"name", "request": {"receipt", "currency", "external_store_id", "now"}, "expect"}`, where `expect`
//! is `{"accepted": {"id"?, "amount"?, "currency"?}}`, `{"rejected": true}`, `{"rate_limited": true}` or
//! `{"fault": NAME}` with `unauthorized`, `unavailable` or `misconfigured`. `config` is the case's configuration.
//! `exchanges` plays the marketplace, in this order and to the end: `{"request": {"method", "url", "headers"?: [[name,
//! value]], "json"? | "body"?}, "response": {"status", "headers"?, "json"? | "body"?}}`, or a response of
//! `{"error": "timed-out" | "refused" | "denied"}`. `"file": PATH` in a response becomes its `body` when it is packed.
//! The older `upstream` is one such response to all requests.
//!
//! For a shaper: `{"name", "event": {"id", "kind", "timestamp", "organization_id", "store_id", "data"}, "expect"}`,
//! where `expect` is `{"content_type"?, "body_json"?, "body_text"?}` or `{"refused": true}`.

use std::collections::BTreeMap;

use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;
use wasmparser::{Parser, Payload};
use wharf_domain::{
    Currency, Event, EventId, ExternalStoreId, OrganizationId, Receipt, StoreId, Time,
};
use wharf_pack::CONFORMANCE_SECTION;

use crate::contract::convert::ValidateRequest;
use crate::sandbox::script::{Exchange, Expected, Reply, Script};

/// Cases of one component.
const MAX_CASES: usize = 1_000;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

/// One vector.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) request: Option<CaseRequest>,
    pub(crate) event: Option<CaseEvent>,
    #[serde(default)]
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) upstream: Option<Upstream>,
    exchanges: Option<Vec<CaseExchange>>,
    pub(crate) expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseRequest {
    receipt: String,
    currency: String,
    external_store_id: String,
    now: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseEvent {
    id: String,
    kind: String,
    timestamp: String,
    organization_id: String,
    store_id: String,
    data: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Upstream {
    Failure {
        error: UpstreamError,
    },
    Response {
        status: u16,
        #[serde(default)]
        headers: Vec<(String, String)>,
        #[serde(default)]
        body: String,
    },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UpstreamError {
    TimedOut,
    Refused,
    Denied,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseExchange {
    request: CaseHttpRequest,
    response: CaseHttpResponse,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseHttpRequest {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    json: Option<serde_json::Value>,
    body: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseHttpResponse {
    status: Option<u16>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// Kept as it is written: an amount such as 10.10 must not become 10.1.
    json: Option<Box<RawValue>>,
    body: Option<String>,
    file: Option<String>,
    error: Option<UpstreamError>,
}

/// The expected answer of a case. Exactly the named parts are compared.
#[derive(Default, Deserialize)]
// A misspelt expectation would otherwise expect nothing, and its case would pass.
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    pub(crate) accepted: Option<ExpectedOrder>,
    pub(crate) rejected: bool,
    pub(crate) rate_limited: bool,
    pub(crate) fault: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) body_json: Option<serde_json::Value>,
    pub(crate) body_text: Option<String>,
    pub(crate) refused: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExpectedOrder {
    pub(crate) id: Option<String>,
    pub(crate) amount: Option<String>,
    pub(crate) currency: Option<String>,
}

/// Reads the vectors of a component. There may be none.
pub(crate) fn read(component: &[u8]) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for section in sections(component) {
        let vectors: Vectors = serde_json::from_slice(section)
            .map_err(|error| format!("the vectors cannot be read: {error}"))?;
        cases.extend(vectors.cases);
    }
    for case in &cases {
        let script = case.script();
        script.map_err(|why| format!("the vector {:?}: {why}", case.name))?;
    }
    // Every host runs them before a revision serves.
    if cases.len() > MAX_CASES {
        return Err(format!("there are more than {MAX_CASES} vectors"));
    }
    Ok(cases)
}

/// Returns the outermost component's sections of vectors.
pub(crate) fn sections(component: &[u8]) -> Vec<&[u8]> {
    let (mut found, mut depth) = (Vec::new(), 0_u32);
    // A component that cannot be parsed was refused by inspection before.
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section)
                if depth == 0 && section.name() == CONFORMANCE_SECTION =>
            {
                found.push(section.data());
            }
            _ => {}
        }
    }
    found
}

impl CaseRequest {
    pub(crate) fn parsed(&self) -> Result<ValidateRequest, String> {
        Ok(ValidateRequest {
            receipt: Receipt::parse(&self.receipt).map_err(|why| format!("the receipt {why}"))?,
            currency: Currency::parse(&self.currency)
                .map_err(|why| format!("the currency {why}"))?,
            external_store_id: ExternalStoreId::parse(&self.external_store_id)
                .map_err(|why| format!("external_store_id {why}"))?,
            now: Time::parse(&self.now).ok_or("now is not RFC 3339")?,
            access_token: None,
            store_id: None,
            request_id: None,
        })
    }
}

impl CaseEvent {
    pub(crate) fn parsed(&self) -> Result<Event, String> {
        Ok(Event {
            id: self
                .id
                .parse::<EventId>()
                .map_err(|_| "the id is no UUID")?,
            kind: self.kind.clone(),
            at: Time::parse(&self.timestamp).ok_or("the timestamp is not RFC 3339")?,
            // The operator's own events have an empty one.
            organization_id: match self.organization_id.as_str() {
                "" => OrganizationId::operator(),
                name => {
                    OrganizationId::parse(name).map_err(|why| format!("organization_id {why}"))?
                }
            },
            store_id: self
                .store_id
                .parse::<StoreId>()
                .map_err(|_| "store_id is no UUID")?,
            data: self.data.clone(),
        })
    }
}

impl Case {
    /// Tells if it plays a marketplace that is asked.
    pub(super) fn asks(&self) -> bool {
        let exchanges = self.exchanges.as_ref();
        self.upstream.is_some() || exchanges.is_some_and(|exchanges| !exchanges.is_empty())
    }

    /// Returns the marketplace that it plays; none if it plays none, and every request is denied.
    pub(super) fn script(&self) -> Result<Option<Script>, String> {
        match (&self.exchanges, &self.upstream) {
            (Some(_), Some(_)) => Err("a case has `exchanges` or `upstream`, not both".into()),
            (Some(_), None) => Ok(Some(Script::new(self.exchanges()?, None))),
            (None, Some(upstream)) => Ok(Some(Script::new(Vec::new(), Some(upstream.reply())))),
            (None, None) => Ok(None),
        }
    }

    /// Returns its exchanges.
    pub(super) fn exchanges(&self) -> Result<Vec<Exchange>, String> {
        let exchanges = self.exchanges.iter().flatten().enumerate();
        exchanges
            .map(|(number, exchange)| {
                let parsed = exchange.parsed();
                parsed.map_err(|why| format!("exchange {}: {why}", number + 1))
            })
            .collect()
    }
}

impl CaseExchange {
    fn parsed(&self) -> Result<Exchange, String> {
        let request = &self.request;
        let expected = Expected {
            method: Method::from_bytes(request.method.as_bytes())
                .map_err(|_| "its method is no method")?,
            url: Url::parse(&request.url).map_err(|error| format!("its url: {error}"))?,
            headers: request.headers.clone(),
            json: request.json.clone(),
            body: request.body.clone(),
        };
        Ok(Exchange {
            expected: Some(expected),
            reply: self.response.parsed()?,
        })
    }
}

impl CaseHttpResponse {
    fn parsed(&self) -> Result<Reply, String> {
        if self.file.is_some() {
            return Err("`file` is read by `wharf plugin pack`, which did not pack this".into());
        }
        let body = match (&self.json, &self.body) {
            (Some(_), Some(_)) => return Err("a response has `json` or `body`, not both".into()),
            (Some(json), None) => json.get().to_owned(),
            (None, body) => body.clone().unwrap_or_default(),
        };
        match (self.status, self.error) {
            (Some(status), None) => Ok(Reply::Response {
                status,
                headers: self.headers.clone(),
                body,
            }),
            (None, Some(error)) => Ok(error.reply()),
            _ => Err("a response has a `status` or an `error`".into()),
        }
    }
}

impl Upstream {
    pub(crate) fn reply(&self) -> Reply {
        match self {
            Self::Response {
                status,
                headers,
                body,
            } => Reply::Response {
                status: *status,
                headers: headers.clone(),
                body: body.clone(),
            },
            Self::Failure { error } => error.reply(),
        }
    }
}

impl UpstreamError {
    const fn reply(self) -> Reply {
        match self {
            Self::TimedOut => Reply::TimedOut,
            Self::Refused => Reply::Refused,
            Self::Denied => Reply::Denied,
        }
    }
}
