//! A collector of traces: OTLP over HTTP, in protobuf.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value::Value},
};
use prost::Message;
use tokio::{net::TcpListener, task::AbortHandle};

use crate::{PATIENCE, eventually};

/// One span that was collected. Ids are hexadecimal digits; no parent is an empty text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Of which service, as its resource says.
    pub service: String,
    /// The name of the operation.
    pub name: String,
    /// The trace.
    pub trace_id: String,
    /// The span's own id.
    pub span_id: String,
    /// The span that caused it.
    pub parent_id: String,
    /// 2 is a server's, 3 a client's, 1 neither.
    pub kind: i32,
    /// True if its status is an error.
    pub failed: bool,
    /// Everything else that is known of it.
    pub attributes: BTreeMap<String, String>,
}

#[derive(Default)]
struct Collected {
    spans: Vec<Span>,
    bytes: Vec<u8>,
    problems: Vec<String>,
}

/// A collector on loopback that keeps every span. It ends with its value.
pub struct Collector {
    url: String,
    collected: Arc<Mutex<Collected>>,
    server: AbortHandle,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Collector {
    /// Starts a collector on a free port.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let collected = Arc::<Mutex<Collected>>::default();
        let router = Router::new()
            .route("/v1/traces", post(collect))
            .with_state(collected.clone());
        let server =
            tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self {
            url,
            collected,
            server,
        })
    }

    /// The URL for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The spans so far.
    ///
    /// # Panics
    /// If something came that is no export of spans.
    pub fn spans(&self) -> Vec<Span> {
        let collected = self
            .collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assert_eq!(collected.problems, [""; 0]);
        collected.spans.clone()
    }

    /// Returns true if a text was in anything that came.
    pub fn has_seen(&self, text: &str) -> bool {
        let collected = self
            .collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        collected
            .bytes
            .windows(text.len())
            .any(|bytes| bytes == text.as_bytes())
    }

    /// Waits for the spans of a trace, sorted by name, until they have these names.
    ///
    /// # Errors
    /// If they do not come; the message tells which spans did.
    pub async fn trace(&self, trace_id: &str, names: &[&str]) -> Result<Vec<Span>> {
        let look = || async {
            let mut spans = self.spans();
            spans.retain(|span| span.trace_id == trace_id);
            spans.sort_by(|a, b| a.name.cmp(&b.name));
            spans
                .iter()
                .map(|span| &*span.name)
                .eq(names.iter().copied())
                .then_some(spans)
        };
        let found = eventually(&format!("{names:?} in trace {trace_id}"), PATIENCE, look).await;
        found.map_err(|error| error.context(format!("{:#?}", self.spans())))
    }
}

async fn collect(
    State(collected): State<Arc<Mutex<Collected>>>,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
    collected.bytes.extend_from_slice(&body);
    match ExportTraceServiceRequest::decode(body) {
        Ok(export) => {
            collected.spans.extend(spans(export));
            (
                StatusCode::OK,
                ExportTraceServiceResponse::default().encode_to_vec(),
            )
        }
        Err(error) => {
            collected.problems.push(error.to_string());
            (StatusCode::BAD_REQUEST, Vec::new())
        }
    }
}

fn spans(export: ExportTraceServiceRequest) -> Vec<Span> {
    let mut found = Vec::new();
    for resource in export.resource_spans {
        let about = attributes(resource.resource.unwrap_or_default().attributes);
        let service = about.get("service.name").cloned().unwrap_or_default();
        for span in resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            found.push(Span {
                service: service.clone(),
                name: span.name,
                trace_id: hex(&span.trace_id),
                span_id: hex(&span.span_id),
                parent_id: hex(&span.parent_span_id),
                kind: span.kind,
                failed: span.status.is_some_and(|status| status.code == 2),
                attributes: attributes(span.attributes),
            });
        }
    }
    found
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|pair| (pair.key, text(pair.value)))
        .collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
