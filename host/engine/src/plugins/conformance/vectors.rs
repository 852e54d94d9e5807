//! The vectors of a component: cases that its author wrote.
//!
//! For an adapter: `{"name", "request": {"receipt", "currency", "external_store_id", "now"}, "expect"}`, where `expect`
//! is `{"accepted": {"id"?, "amount"?, "currency"?}}`, `{"rejected": true}`, `{"rate_limited": true}` or
//! `{"fault": NAME}` with `unauthorized`, `unavailable` or `misconfigured`. `config` gives the case its configuration,
//! and `upstream` plays the marketplace: `{"status", "headers": [[name, value]], "body"}` or
//! `{"error": "timed-out" | "refused" | "denied"}`.
//!
//! For a shaper: `{"name", "event": {"id", "kind", "timestamp", "organization_id", "store_id", "data"}, "expect"}`,
//! where `expect` is `{"content_type"?, "body_json"?, "body_text"?}` or `{"refused": true}`.

use std::collections::BTreeMap;

use serde::Deserialize;
use wasmparser::{Parser, Payload};
use wharf_domain::{
    Currency, Event, EventId, ExternalStoreId, OrganizationId, Receipt, StoreId, Time,
};
use wharf_pack::CONFORMANCE_SECTION;

use crate::contract::convert::ValidateRequest;
use crate::sandbox::outbound::Reply;

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
    let mut cases = Vec::new();
    for section in sections(component) {
        let vectors: Vectors = serde_json::from_slice(section)
            .map_err(|error| format!("the vectors cannot be read: {error}"))?;
        cases.extend(vectors.cases);
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
            organization_id: OrganizationId::parse(&self.organization_id)
                .map_err(|why| format!("organization_id {why}"))?,
            store_id: self
                .store_id
                .parse::<StoreId>()
                .map_err(|_| "store_id is no UUID")?,
            data: self.data.clone(),
        })
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
            Self::Failure {
                error: UpstreamError::TimedOut,
            } => Reply::TimedOut,
            Self::Failure {
                error: UpstreamError::Refused,
            } => Reply::Refused,
            Self::Failure {
                error: UpstreamError::Denied,
            } => Reply::Denied,
        }
    }
}
