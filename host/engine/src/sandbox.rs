//! The wasmtime engine as this host tunes it, the threads that guests run on, and the ticker that interrupts them.

use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use wasmtime::component::Linker;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::guest::{self, GuestState};
use crate::{EngineError, EngineSettings};

/// How often running guests are interrupted: the grain of processor budgets.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Small enough that deep recursion ends as a stack overflow; at 512 KiB it ended as an access out of bounds.
const WASM_STACK: usize = 128 * 1024;
/// With `-zstack-size=65536` a guest's live pages fit in here, and clearing them costs no system call.
const MEMORY_KEPT_RESIDENT: usize = 256 * 1024;
/// Must not be zero either: tables would be unmapped and mapped again in every call.
const TABLE_KEPT_RESIDENT: usize = 64 * 1024;
const TICKS_AFTER_THE_END: u32 = 100;
/// The most that an operator can grant one memory.
pub(crate) const MAX_MEMORY: usize = 512 * 1024 * 1024;

// What one component may be made of. JavaScript and Python guests need the most.
const TABLE_ELEMENTS: usize = 10_000;
const CORE_INSTANCES: u32 = 64;
const MEMORIES: u32 = 3;
const TABLES: u32 = 8;

/// Instances beside the calls in flight: trials of new revisions and conformance runs.
const SPARE_INSTANCES: usize = 8;

/// How much a run costs is counted either in time or, for measurements that repeat exactly, in fuel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metering {
    /// In time alone: what serves.
    Time,
    /// In units of work besides, for measurements. Costs a fifth more.
    Fuel,
}

impl Metering {
    pub(crate) fn counts_fuel(self) -> bool {
        self == Self::Fuel
    }
}

pub(crate) fn engine(
    settings: &EngineSettings,
    metering: Metering,
) -> wasmtime::Result<wasmtime::Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(metering.counts_fuel())
        .max_wasm_stack(WASM_STACK)
        // The contract has no async functions, and their bookkeeping costs every call 3 us.
        .concurrency_support(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings)));
    wasmtime::Engine::new(&config)
}

fn pool(settings: &EngineSettings) -> PoolingAllocationConfig {
    let components = u32::try_from(settings.max_in_flight + SPARE_INSTANCES).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(MEMORY_KEPT_RESIDENT)
        .table_keep_resident(TABLE_KEPT_RESIDENT)
        .max_memory_size(MAX_MEMORY)
        .table_elements(TABLE_ELEMENTS)
        .max_memories_per_module(MEMORIES)
        .max_tables_per_module(TABLES)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .total_component_instances(components)
        .total_stacks(components)
        .total_core_instances(components.saturating_mul(CORE_INSTANCES))
        .total_memories(components.saturating_mul(MEMORIES))
        .total_tables(components.saturating_mul(TABLES));
    pool
}

pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    guest::define(&mut linker)?;
    Ok(linker)
}

/// The guests' runtime and the ticker. Dropping it ends both without waiting, wherever it is dropped.
pub(crate) struct Threads {
    // Declared, and so dropped, before the ticker is told to stop.
    runtime: Option<Runtime>,
    _stop_ticker: mpsc::Sender<()>,
}

impl Threads {
    pub(crate) fn start(
        engine: wasmtime::Engine,
        guest_threads: usize,
    ) -> Result<Self, EngineError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(guest_threads.max(1))
            .thread_name("wharf-guest")
            .enable_all()
            .build()
            .map_err(EngineError::Threads)?;
        let (stop_ticker, stopped) = mpsc::channel();
        std::thread::Builder::new()
            .name("wharf-ticker".into())
            .spawn(move || tick(&engine, &stopped))
            .map_err(EngineError::Threads)?;
        Ok(Self {
            runtime: Some(runtime),
            _stop_ticker: stop_ticker,
        })
    }

    pub(crate) fn handle(&self) -> Handle {
        self.runtime
            .as_ref()
            .expect("the runtime is there until it is dropped")
            .handle()
            .clone()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// On a thread of the operating system's: a runtime's timer would wait behind the very guests that it is to interrupt.
fn tick(engine: &wasmtime::Engine, stopped: &mpsc::Receiver<()>) {
    while stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
        engine.increment_epoch();
    }
    // A guest that spins at the end gives its thread back at its next interruption, so there must be some more.
    for _ in 0..TICKS_AFTER_THE_END {
        std::thread::sleep(TICK);
        engine.increment_epoch();
    }
}
