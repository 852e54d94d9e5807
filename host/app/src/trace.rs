//! Spans for traces (OpenTelemetry), apart from those of the log: they have a target of their own, so that they cost
//! nothing where no traces are collected, and the log reads the same with them and without.
//!
//! One trace goes from a sync run over its calls of the plugin to the deliveries of its events, whichever process makes
//! them and however late: the run's `traceparent` is stored with the event. Deliveries continue the trace, instead of
//! starting their own with a link, because an event has one cause and few attempts: one trace id finds all of it.
//!
//! Spans name requests, stores, events, endpoints and plugins. No span holds a URL, a receipt, a token, a secret or a body.

use std::collections::HashMap;

use opentelemetry::{Context, global};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use wharf_domain::{RequestId, StoreId};
use wharf_engine::Called;
use wharf_store::{
    deliveries::{self, Attempt},
    jobs, outbox,
};

/// The target of every span of a trace.
pub const TARGET: &str = "wharf::trace";

/// The header of W3C Trace Context. `tracestate` belongs to vendors and is not passed on.
pub const TRACEPARENT: &str = "traceparent";

/// The present span for somebody else to continue from; `None` where no traces are collected.
pub(crate) fn traceparent() -> Option<String> {
    let span = Span::current();
    // Saves the header's map for the many that collect no traces.
    if span.is_disabled() {
        return None;
    }
    let mut carrier = HashMap::new();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&span.context(), &mut carrier)
    });
    carrier.remove(TRACEPARENT)
}

/// Makes a span, which was not entered yet, the child of one elsewhere. Where `traceparent` is missing or cannot be
/// read, the span begins a trace.
pub fn continue_from(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent.filter(|_| !span.is_disabled()) else {
        return;
    };
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let parent = global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &carrier)
    });
    // Fails only without the layer that the span would be collected by.
    let _ = span.set_parent(parent);
}

/// An import that asks its marketplace.
pub(crate) fn import(store: StoreId, request: &RequestId) -> Span {
    info_span!(target: TARGET, "import", store.id = %store, request.id = %request)
}

/// Waiting for the transaction that stores an import with others.
pub(crate) fn commit() -> Span {
    info_span!(target: TARGET, "commit")
}

/// A claim of a sync job.
pub(crate) fn sync_job(job: &jobs::Claimed) -> Span {
    // No parent: a run is the cause of its events, so a trace begins with it, not with the worker.
    info_span!(target: TARGET, parent: None, "sync", store.id = %job.fence.store_id, request.id = Empty, outcome = Empty)
}

/// Records the request of the sync run that the present span is of.
pub(crate) fn sync_run(request: &RequestId) {
    Span::current().record("request.id", tracing::field::display(request));
}

/// A call of a plugin.
pub(crate) fn plugin_call(operation: &'static str) -> Span {
    info_span!(
        target: TARGET, "plugin call", otel.name = %format_args!("plugin {operation}"), plugin.name = Empty,
        plugin.digest = Empty, outcome = Empty, otel.status_code = Empty
    )
}

/// Records the end of a call.
pub(crate) fn plugin_called<T>(span: &Span, called: &Called<T>, outcome: &'static str) {
    if span.is_disabled() {
        return;
    }
    span.record("outcome", outcome);
    if let Some(plugin) = &called.plugin {
        span.record("plugin.name", &**plugin);
    }
    if let Some(digest) = &called.digest {
        span.record("plugin.digest", tracing::field::display(digest));
    }
    if called.result.is_err() {
        span.record("otel.status_code", "ERROR");
    }
}

/// Making an event's deliveries.
pub(crate) fn fan_out(claimed: &outbox::Claimed) -> Span {
    let event = &claimed.event;
    let span = info_span!(
        target: TARGET, parent: None, "fan out", event.id = %event.id, event.kind = event.kind, attempt = claimed.attempt,
        request.id = claimed.request_id
    );
    continue_from(&span, claimed.traceparent.as_deref());
    span
}

/// One attempt to send a webhook.
pub(crate) fn delivery(claimed: &deliveries::Claimed) -> Span {
    // No parent here: the stored one is set below, and the worker that happens to send is no cause.
    let span = info_span!(
        target: TARGET, parent: None, "deliver", otel.kind = "client", event.id = %claimed.event_id,
        event.kind = claimed.event, delivery.id = %claimed.fence.id, endpoint.id = %claimed.endpoint_id,
        attempt = claimed.attempts_before + 1, http.request.method = "POST", http.response.status_code = Empty,
        otel.status_code = Empty, request.id = claimed.request_id
    );
    continue_from(&span, claimed.traceparent.as_deref());
    span
}

/// Records the end of an attempt.
pub(crate) fn delivered(span: &Span, attempt: &Attempt) {
    if let Some(status) = attempt.http_status {
        span.record("http.response.status_code", status);
    }
    if attempt.error.is_some() {
        span.record("otel.status_code", "ERROR");
    }
}
