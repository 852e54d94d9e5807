//! The author's tools: check, measure, ask once and pack a component.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use wharf_domain::{Answer, Event};
use wharf_pack::PackFacts;

use crate::contract::{
    convert::{self, GuestEvent, Message, ValidateRequest},
    digest::Digest,
    fault::Fault,
    inspect::{Inspection, Kind, inspect},
    limits::Limits,
    manifest::Manifest,
    refusal::{Refusal, Stage},
    settings::EngineSettings,
};
use crate::engine::Engine;
use crate::plugins::{
    conformance::{self, Conformance, Depth},
    load::Secrets,
    revision::Revision,
    store::Stored,
};
use crate::sandbox::{
    callable::Callable,
    outbound::Outbound,
    recording::{RecordedExchange, Recording},
    runtime::Metering,
};

/// Calls that are measured: each input some three times.
const CALLS: usize = 200;

/// The result of a component's way to serving, for its author.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// The revision's digest, its grants included.
    pub digest: Digest,
    /// The facts that its names tell.
    pub inspection: Option<Inspection>,
    /// Its own description.
    pub manifest: Option<Manifest>,
    /// The limits of a call.
    pub limits: Option<Limits>,
    /// The refusal that ended it before any contract check ran.
    pub refusal: Option<Refusal>,
    /// The contract checks.
    pub conformance: Conformance,
}

impl CheckReport {
    /// Tells if a host would let it serve.
    pub fn passed(&self) -> bool {
        self.refusal.is_none() && self.conformance.passed()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(manifest) = &self.manifest {
            let kind = if manifest.kind() == Kind::Adapter {
                "adapter"
            } else {
                "shaper"
            };
            writeln!(
                f,
                "{} {}, {kind} of {:?}",
                manifest.display_name(),
                manifest.version(),
                manifest.serves()
            )?;
        }
        writeln!(f, "digest {}", self.digest)?;
        if let Some(refusal) = &self.refusal {
            writeln!(f, "{refusal}")?;
        }
        write!(f, "{}", self.conformance)?;
        f.write_str(if self.passed() { "passed" } else { "FAILED" })
    }
}

/// The cost of a plugin's calls.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// The number of measured calls.
    pub calls: usize,
    /// Units of work of one call, the same on every machine.
    pub fuel: Spread,
    /// Microseconds of one call on this machine, a fresh instance included.
    pub micros: Spread,
    /// Peak memory of any call, in bytes.
    pub peak_memory_bytes: usize,
    /// The limits of a call.
    pub limits: Limits,
}

/// The minimum, median and maximum of many figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The minimum.
    pub least: u64,
    /// The median.
    pub median: u64,
    /// The maximum.
    pub most: u64,
}

impl Spread {
    fn of(mut figures: Vec<u64>) -> Self {
        figures.sort_unstable();
        let at = |index: usize| figures.get(index).copied().unwrap_or_default();
        Self {
            least: at(0),
            median: at(figures.len() / 2),
            most: at(figures.len().saturating_sub(1)),
        }
    }
}

impl Engine {
    /// Takes a component through every stage and every contract check without letting it serve.
    pub async fn check(&self, bytes: impl Into<Arc<[u8]>>, grants: Option<&str>) -> CheckReport {
        let stored = Stored::new(bytes, grants);
        self.on_registry(async move |registry| {
            let mut report = CheckReport {
                digest: stored.digest(),
                inspection: inspect(&stored.bytes).ok(),
                manifest: None,
                limits: None,
                refusal: None,
                conformance: Conformance::default(),
            };
            match registry
                .loader
                .load("check", &stored, Secrets::Unread)
                .await
            {
                Err(refusal) => report.refusal = Some(refusal),
                Ok(revision) => {
                    let run = conformance::run(&revision, &stored.bytes, Depth::Everything);
                    let limit = registry.loader.conformance_limit();
                    match conformance::within(limit, run).await {
                        Ok(conformance) => report.conformance = conformance,
                        Err(refusal) => report.refusal = Some(refusal),
                    }
                    report.limits = Some(revision.callable.limits);
                    report.manifest = Some(revision.manifest);
                }
            }
            report
        })
        .await
    }

    /// Measures the cost of a component's calls, on input that it answers.
    ///
    /// # Errors
    /// If it cannot be loaded, or answers none of the input.
    pub async fn bench(
        &self,
        bytes: impl Into<Arc<[u8]>>,
        grants: Option<&str>,
    ) -> Result<BenchReport, Refusal> {
        let stored = Stored::new(bytes, grants);
        // Two engines: counting fuel slows calls, so time is measured without it.
        let settings = EngineSettings {
            compiler: self.compiler.clone(),
            ..EngineSettings::in_memory()
        };
        let counting = Self::build(settings, Metering::Fuel)
            .map_err(|error| Refusal::new(Stage::Compile, error.to_string(), "free some memory"))?;
        let timed = self.measure(stored.clone()).await?;
        let counted = counting.measure(stored).await?;
        Ok(BenchReport {
            calls: timed.micros.len(),
            fuel: Spread::of(counted.fuel),
            micros: Spread::of(timed.micros),
            peak_memory_bytes: timed.peak_memory_bytes,
            limits: timed.limits,
        })
    }

    /// Asks an adapter once, without contract checks and without letting it serve, and keeps what it exchanges with its
    /// marketplace.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub async fn validate_once(
        &self,
        bytes: impl Into<Arc<[u8]>>,
        grants: Option<&str>,
        request: ValidateRequest,
    ) -> Result<AskedOnce, Refusal> {
        let stored = Stored::new(bytes, grants);
        self.on_registry(async move |registry| {
            let loaded = registry.loader.load("run", &stored, Secrets::Readable);
            Ok(ask_once(loaded.await?.callable, &request).await)
        })
        .await
    }

    /// Asks a shaper once, without contract checks and without letting it serve.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub async fn shape_once(
        &self,
        bytes: impl Into<Arc<[u8]>>,
        grants: Option<&str>,
        event: Event,
    ) -> Result<Result<Message, Fault>, Refusal> {
        let stored = Stored::new(bytes, grants);
        self.on_registry(async move |registry| {
            let revision = registry
                .loader
                .load("run", &stored, Secrets::Readable)
                .await?;
            Ok(revision.callable.shape(&GuestEvent::new(&event)).await)
        })
        .await
    }

    async fn measure(&self, stored: Stored) -> Result<Measured, Refusal> {
        self.on_registry(async move |registry| {
            let revision = registry
                .loader
                .load("bench", &stored, Secrets::Unread)
                .await?;
            measure(&revision).await
        })
        .await
    }
}

/// One question to an adapter, with its way to the answer.
#[derive(Clone, Debug)]
pub struct AskedOnce {
    /// The answer or the fault.
    pub answer: Result<Answer, Fault>,
    /// The exchanges with its marketplace, in their order and without credentials.
    pub exchanges: Vec<RecordedExchange>,
    /// A file of vectors with this call, or the reason why none can be written.
    pub vectors: Result<String, String>,
}

async fn ask_once(callable: Callable, request: &ValidateRequest) -> AskedOnce {
    let recording = match &callable.outbound {
        Outbound::Live(network) => Some(Arc::new(Recording::new(network.clone()))),
        _ => None,
    };
    let callable = Callable {
        outbound: recording
            .clone()
            .map_or(Outbound::Closed, Outbound::Recorded),
        ..callable
    };
    let judged = callable.judge(request).await;
    let exchanges = recording
        .as_ref()
        .map_or_else(Vec::new, |recording| recording.exchanges());
    let vectors = match &judged {
        Ok(judged) => {
            let (config, exchanges) = (&callable.config, exchanges.clone());
            conformance::recorded_case(request, config, exchanges, judged)
        }
        Err(fault) => Err(fault.to_string()),
    };
    // The answer may repeat a secret that its marketplace repeated.
    let hide = |vectors: String| match &recording {
        Some(recording) => recording.hide(&vectors, request.access_token.as_ref()),
        None => vectors,
    };
    AskedOnce {
        vectors: vectors.map(hide),
        answer: judged.and_then(convert::answer),
        exchanges,
    }
}

struct Measured {
    micros: Vec<u64>,
    fuel: Vec<u64>,
    peak_memory_bytes: usize,
    limits: Limits,
}

async fn measure(revision: &Revision) -> Result<Measured, Refusal> {
    // Its calls are measured, not its marketplace, and two hundred of them are nobody's wish there.
    let callable = Callable {
        outbound: Outbound::Closed,
        ..revision.callable.clone()
    };
    let mut measured = Measured {
        micros: vec![],
        fuel: vec![],
        peak_memory_bytes: 0,
        limits: callable.limits,
    };
    // The same input for every plugin, so that figures can be compared.
    for input in conformance::inputs().iter().cycle().take(CALLS) {
        let started = Instant::now();
        let (result, usage) = match callable.identity.kind {
            Kind::Adapter => {
                let (result, usage) = callable.judge_measured(&conformance::request(input)).await;
                (result.map(drop), usage)
            }
            Kind::Shaper => {
                let (result, usage) = callable
                    .shape_measured(&GuestEvent::new(&conformance::event(input)))
                    .await;
                (result.map(drop), usage)
            }
        };
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        // A fault ends early or late, and would spoil the figures of answered calls.
        if matches!(result, Ok(()) | Err(Fault::Refused(_))) {
            measured.micros.push(micros);
            measured.fuel.extend(usage.fuel);
            measured.peak_memory_bytes = measured.peak_memory_bytes.max(usage.memory_bytes);
        }
    }
    if measured.micros.is_empty() {
        return Err(Refusal::new(
            Stage::Conform,
            "it answered nothing",
            "run `wharf plugin check` first",
        ));
    }
    Ok(measured)
}

/// Adds facts and vectors to a component that is a plugin.
///
/// # Errors
/// If the component is no plugin, was packed before, or a vector cannot be read.
pub fn pack(component: &[u8], facts: &PackFacts) -> Result<Vec<u8>, Refusal> {
    inspect(component)?;
    // Packing twice would run the vectors twice, the old ones too.
    if !conformance::vector_sections(component).is_empty() {
        return Err(Refusal::new(
            Stage::Read,
            "it was packed before",
            "pack what the compiler built",
        ));
    }
    // Read back before it is handed out: a broken vector must fail here and not on a host.
    let packed = wharf_pack::pack(component, facts);
    let wrong = |cause| Refusal::new(Stage::Read, cause, "correct the file of vectors");
    conformance::read_vectors(&packed).map_err(wrong)?;
    Ok(packed)
}
