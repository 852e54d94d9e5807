//! The state of one call, and the host functions that a guest sees.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tracing::field::display;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::p2::bindings::{cli, random};
use wasmtime_wasi::random::{Deterministic, WasiRandom};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};
use wharf_domain::{EventId, Receipt, RequestId, StoreId};

use super::callable::Callable;
use super::limiter::MemoryLimiter;
use super::log_rate::LogRate;
use super::outbound::Requests;
use super::stderr::Stderr;
use crate::contract::bindings::{config, log};
use crate::contract::{
    convert::{GuestEvent, ValidateRequest},
    digest::Digest,
    inspect::Kind,
    text::for_people,
};

/// Handles that a guest may hold at a time, to streams and the like.
const MAX_HANDLES: usize = 1_000;
/// Random bytes that a guest may ask for at once.
const MAX_RANDOM_BYTES: u64 = 64 * 1024;

/// The identity of a guest, for its log lines.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) plugin: Arc<str>,
    pub(crate) digest: Digest,
    pub(crate) kind: Kind,
    /// The contract check or vector that it is tried with; `None` where it serves.
    pub(crate) case: Option<Arc<str>>,
}

impl Identity {
    /// Returns the same guest on trial with a case.
    pub(crate) fn tried(&self, case: &str) -> Self {
        Self {
            // Its author may have written a name of any length.
            case: Some(for_people(case).into()),
            ..self.clone()
        }
    }
}

/// The question that a call is about, for the log lines of its guest.
#[derive(Clone, Debug, Default)]
struct Subject {
    store_id: Option<StoreId>,
    receipt: Option<Receipt>,
    request_id: Option<RequestId>,
    event_id: Option<EventId>,
}

/// What a guest has of WASI, and what it wrote to its standard error.
struct Wasi {
    ctx: WasiCtx,
    stderr: Stderr,
}

/// The state of one call.
pub(crate) struct GuestState {
    pub(crate) memory: MemoryLimiter,
    pub(crate) requests: Requests,
    identity: Arc<Identity>,
    subject: Subject,
    config: Arc<BTreeMap<String, String>>,
    log: Arc<LogRate>,
    log_left: usize,
    table: ResourceTable,
    /// Made when the guest first asks: most calls of most plugins never do.
    wasi: Option<Wasi>,
    max_stderr_bytes: usize,
    http: WasiHttpCtx,
}

impl GuestState {
    pub(crate) fn new(callable: &Callable) -> Self {
        let limits = &callable.limits;
        let mut table = ResourceTable::new();
        // A guest that leaks handles must not grow the host.
        table.set_max_capacity(MAX_HANDLES);
        Self {
            // Counts all memories of the call, the runtime's own limits count each alone.
            memory: MemoryLimiter::new(limits.memory_bytes, callable.memory.clone()),
            requests: Requests::new(
                callable.outbound.clone(),
                limits.http.map_or(0, |http| http.requests),
            ),
            identity: callable.identity.clone(),
            subject: Subject::default(),
            config: callable.config.clone(),
            log: callable.log.clone(),
            log_left: limits.log_bytes,
            table,
            wasi: None,
            max_stderr_bytes: limits.log_bytes,
            http: WasiHttpCtx::new(),
        }
    }

    /// Notes the receipt that the guest is asked about, and what its requests may carry.
    pub(super) fn is_asked(&mut self, request: &ValidateRequest) {
        self.requests.access_token.clone_from(&request.access_token);
        self.subject = Subject {
            store_id: request.store_id,
            receipt: Some(request.receipt.clone()),
            request_id: request.request_id.clone(),
            event_id: None,
        };
    }

    /// Notes the event that the guest is to shape.
    pub(super) fn is_shown(&mut self, event: &GuestEvent) {
        self.subject = Subject {
            store_id: Some(event.store_id),
            receipt: None,
            request_id: None,
            event_id: Some(event.id),
        };
    }

    /// Passes on what the guest wrote to standard error and counts what was dropped. Returns its last line that is no
    /// mere note, where a panic leaves its reason.
    pub(crate) fn finish_log(&mut self) -> Option<String> {
        let mut last_words = None;
        let (text, bytes) = self.wasi.as_ref()?.stderr.text();
        for line in text
            .lines()
            .map(for_people)
            .filter(|line| !line.trim().is_empty())
        {
            self.write_line(log::Level::Warn, &line);
            // Rust's panic handler adds a note about RUST_BACKTRACE after the reason.
            if !line.starts_with("note:") {
                last_words = Some(line);
            }
        }
        if bytes > 0 {
            self.log.dropped(0, bytes as u64);
        }
        last_words
    }

    fn write_line(&mut self, level: log::Level, line: &str) {
        // An empty line costs one byte, so that nobody writes endless ones.
        let bytes = line.len().max(1);
        let left = self.log_left.checked_sub(bytes);
        self.log_left = left.unwrap_or(self.log_left);
        if !is_logged(level) {
            return;
        }
        // The call's size first: a line that it may not write takes nothing from the plugin's rate.
        if left.is_none() || !self.log.admit(bytes, Instant::now()) {
            self.log.dropped(1, bytes as u64);
            return;
        }
        let Identity {
            plugin,
            digest,
            case,
            ..
        } = &*self.identity;
        let Subject {
            store_id,
            receipt,
            request_id,
            event_id,
        } = &self.subject;
        let (store_id, event_id) = (store_id.map(display), event_id.map(display));
        let receipt = receipt.as_ref().map(Receipt::as_str);
        let request_id = request_id.as_ref().map(RequestId::as_str);
        let case = case.as_deref();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: "plugin", %plugin, %digest, store_id, receipt, request_id, event_id, case, "{line}")
            };
        }
        match level {
            log::Level::Debug => line!(debug),
            log::Level::Info => line!(info),
            log::Level::Warn => line!(warn),
            log::Level::Error => line!(error),
        }
    }
}

/// Tells if anybody reads lines of this level: others take nothing from the plugin's rate.
fn is_logged(level: log::Level) -> bool {
    use tracing::Level;
    match level {
        log::Level::Debug => tracing::enabled!(target: "plugin", Level::DEBUG),
        log::Level::Info => tracing::enabled!(target: "plugin", Level::INFO),
        log::Level::Warn => tracing::enabled!(target: "plugin", Level::WARN),
        log::Level::Error => tracing::enabled!(target: "plugin", Level::ERROR),
    }
}

impl log::Host for GuestState {
    fn log(&mut self, level: log::Level, message: String) {
        // Cleaned, it has at least half of its bytes. If these are too many already, cleaning 8 MiB in vain would hold
        // the thread for longer than a tick.
        if message.len() / 2 > self.log_left {
            if is_logged(level) {
                self.log.dropped(1, message.len() as u64);
            }
            return;
        }
        // A line end would let a guest forge log lines.
        let line: String = message
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        self.write_line(level, &line);
    }
}

impl config::Host for GuestState {
    fn get(&mut self, key: String) -> Option<String> {
        self.config.get(&key).cloned()
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(|| {
            let stderr = Stderr::new(self.max_stderr_bytes);
            Wasi {
                ctx: empty_context(self.identity.kind, &stderr),
                stderr,
            }
        });
        WasiCtxView {
            ctx: &mut wasi.ctx,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.requests,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// No arguments, variables, files or sockets. A shaper's answer may depend on its input alone, so that a retry sends
/// the same bytes: its clocks stand still and its randomness is constant.
fn empty_context(kind: Kind, stderr: &Stderr) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    builder
        .stderr(stderr.clone())
        // The host allocates what is asked for before the guest's memory limit can tell.
        .max_random_size(MAX_RANDOM_BYTES);
    if kind == Kind::Shaper {
        builder
            .wall_clock(Still)
            .monotonic_clock(Still)
            .secure_random(Deterministic::new(vec![0]))
            .insecure_random(Deterministic::new(vec![0]))
            .insecure_random_seed(0);
    }
    builder.build()
}

/// A clock that stands still at its beginning.
struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> std::time::Duration {
        std::time::Duration::from_secs(1)
    }

    fn now(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}

/// Defines every host function. Inspection has decided before compiling which of them a plugin may import.
pub(crate) fn define(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    log::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
    config::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    // HTTP and the few below: files and sockets are not even defined.
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    random::insecure::add_to_linker::<GuestState, WasiRandom>(linker, |state| {
        state.ctx().ctx.random()
    })?;
    random::insecure_seed::add_to_linker::<GuestState, WasiRandom>(linker, |state| {
        state.ctx().ctx.random()
    })?;
    cli::environment::add_to_linker::<GuestState, WasiCli>(linker, GuestState::cli)?;
    cli::exit::add_to_linker::<GuestState, WasiCli>(linker, GuestState::cli)?;
    cli::terminal_input::add_to_linker::<GuestState, WasiCli>(linker, GuestState::cli)?;
    cli::terminal_output::add_to_linker::<GuestState, WasiCli>(linker, GuestState::cli)?;
    cli::terminal_stdin::add_to_linker::<GuestState, WasiCli>(linker, GuestState::cli)?;
    cli::terminal_stdout::add_to_linker::<GuestState, WasiCli>(linker, GuestState::cli)?;
    cli::terminal_stderr::add_to_linker::<GuestState, WasiCli>(linker, GuestState::cli)
}
