//! The wasmtime engine with its limits.

use wasmtime::component::Linker;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::guest::{self, GuestState};
use crate::contract::{limits::MAX_MEMORY_BYTES, settings::EngineSettings};

/// Small enough that deep recursion ends as a stack overflow. At 512 KiB it ended as an access out of bounds.
const MAX_WASM_STACK_BYTES: usize = 128 * 1024;
/// With `-zstack-size=65536` a guest's live pages fit in here, and clearing them costs no system call.
const MEMORY_KEPT_RESIDENT_BYTES: usize = 256 * 1024;
/// Must not be zero either: tables would be unmapped and mapped again in every call.
const TABLE_KEPT_RESIDENT_BYTES: usize = 64 * 1024;
// Parts of one component. JavaScript and Python guests need the most.
const MAX_TABLE_ELEMENTS: usize = 10_000;
const MAX_CORE_INSTANCES: u32 = 64;
const MAX_MEMORIES: u32 = 3;
const MAX_TABLES: u32 = 8;

/// Instances beside the calls in flight: trials of new revisions and conformance runs.
const SPARE_INSTANCES: usize = 8;

/// The unit in which the cost of a call is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metering {
    /// Time alone: for revisions that serve.
    Time,
    /// Units of work besides, for measurements that repeat exactly. Costs a fifth more.
    Fuel,
}

impl Metering {
    pub(crate) fn counts_fuel(self) -> bool {
        self == Self::Fuel
    }
}

/// Builds the wasmtime engine.
pub(crate) fn engine(
    settings: &EngineSettings,
    metering: Metering,
) -> wasmtime::Result<wasmtime::Engine> {
    let pool = InstanceAllocationStrategy::Pooling(pool(settings));
    wasmtime::Engine::new(config(metering).allocation_strategy(pool))
}

/// Builds an engine that only compiles: its code runs on [`engine`]. Without the pool, which reserves more addresses
/// than a compiler's limits allow.
pub(crate) fn compiler(metering: Metering) -> wasmtime::Result<wasmtime::Engine> {
    let on_demand = InstanceAllocationStrategy::OnDemand;
    wasmtime::Engine::new(config(metering).allocation_strategy(on_demand))
}

/// Returns all settings that decide about code. Wasmtime refuses code that was made with others.
fn config(metering: Metering) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // Epochs cost next to nothing, fuel a fifth.
        .consume_fuel(metering.counts_fuel())
        .max_wasm_stack(MAX_WASM_STACK_BYTES)
        // The contract has no async functions, and their bookkeeping costs every call 3 us.
        .concurrency_support(false);
    config
}

fn pool(settings: &EngineSettings) -> PoolingAllocationConfig {
    // Trials of new revisions must not take the places of calls.
    let components = u32::try_from(settings.max_in_flight + SPARE_INSTANCES).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(MEMORY_KEPT_RESIDENT_BYTES)
        .table_keep_resident(TABLE_KEPT_RESIDENT_BYTES)
        .max_memory_size(MAX_MEMORY_BYTES)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_memories_per_module(MAX_MEMORIES)
        .max_tables_per_module(MAX_TABLES)
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .total_component_instances(components)
        .total_stacks(components)
        // Every component could need its maximum at the same time.
        .total_core_instances(components.saturating_mul(MAX_CORE_INSTANCES))
        .total_memories(components.saturating_mul(MAX_MEMORIES))
        .total_tables(components.saturating_mul(MAX_TABLES));
    pool
}

/// Builds the linker with every host function.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    guest::define(&mut linker)?;
    Ok(linker)
}
