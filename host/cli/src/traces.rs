//! Export of traces by OpenTelemetry (OTLP over HTTP), switched on by its standard variables.

use std::time::Duration;

use opentelemetry::{Key, global, trace::TracerProvider};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use crate::settings::SettingError;

/// Time that the last spans have to be sent when the program ends.
const FLUSH: Duration = Duration::from_secs(5);

/// The variables of the collector's URL, the more special one first.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];

/// Checks the variables that the exporter would read wrongly or in silence.
///
/// # Errors
/// If one asks for something that is not supported.
pub(crate) fn check() -> Result<(), SettingError> {
    let Some(endpoint) = endpoint() else {
        return Ok(());
    };
    if set(endpoint).is_none_or(|url| wharf_egress::Url::parse(&url).is_err()) {
        return Err(no_collector(endpoint));
    }
    // Refused rather than ignored: a collector for gRPC would get nothing, and nobody would know why.
    let other = |name: &&str| set(name).is_some_and(|value| value != "http/protobuf");
    match PROTOCOLS.into_iter().find(other) {
        Some(name) => Err(SettingError::new(
            name,
            "must be http/protobuf: traces leave in no other form",
        )),
        None => Ok(()),
    }
}

/// The variable with the collector's URL, if traces are collected.
fn endpoint() -> Option<&'static str> {
    let is_off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    let endpoint = ENDPOINTS.into_iter().find(|name| set(name).is_some())?;
    (!is_off).then_some(endpoint)
}

/// As for settings: an empty variable counts as unset.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

// Without the cause: it may repeat the URL, and with it a password.
fn no_collector(endpoint: &str) -> SettingError {
    SettingError::new(
        endpoint,
        "must be the collector's URL, such as http://collector:4318",
    )
}

/// The exporter of spans, if there is one.
pub(crate) struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Collects no spans.
    pub(crate) const fn off() -> Self {
        Self(None)
    }

    /// Reads `OTEL_EXPORTER_OTLP_ENDPOINT` and related variables, which [`check`] found right. The exporter itself reads the
    /// others: headers, timeout, sampler, resource. A TLS provider must be installed.
    ///
    /// # Errors
    /// If the exporter refuses the URL.
    pub(crate) fn from_environment() -> Result<Self, SettingError> {
        let Some(endpoint) = endpoint() else {
            return Ok(Self::off());
        };
        let exporter = SpanExporter::builder().with_http().build();
        // Without the cause: it may repeat the URL, and with it a password.
        let exporter = exporter.map_err(|_| no_collector(endpoint))?;
        global::set_text_map_propagator(TraceContextPropagator::new());
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource());
        Ok(Self(Some(provider.build())))
    }

    /// Collects the spans that are meant for traces, and no events: what is logged stays in the log.
    pub(crate) fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.0.as_ref()?.tracer("wharf");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        let layer = layer
            // Each would be further attributes on every span, and none helps to follow a request.
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false);
        Some(layer.with_filter(Targets::new().with_target(wharf_app::TRACES, LevelFilter::INFO)))
    }

    /// Sends what was not sent yet.
    pub(crate) fn flush(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown_with_timeout(FLUSH)
        {
            tracing::warn!(%error, "the last traces did not leave");
        }
    }
}

/// `service.name` is `wharf` unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise.
fn resource() -> Resource {
    let found = Resource::builder().build();
    let name = found
        .get(&Key::from_static_str("service.name"))
        .map(|name| name.to_string());
    let builder = Resource::builder().with_attribute(opentelemetry::KeyValue::new(
        "service.version",
        env!("CARGO_PKG_VERSION"),
    ));
    match name {
        // So the SDK calls a service that nobody named.
        Some(name) if !name.starts_with("unknown_service") => builder.build(),
        _ => builder.with_service_name("wharf").build(),
    }
}
