//! One file per benchmark.

mod callbacks;
mod imports;
mod mock_validate;
mod plugin_call;
mod revisions;
mod sync_runs;
mod sync_status;

use anyhow::Result;
use futures::{FutureExt, future::LocalBoxFuture};

use crate::{load::Load, report::Figure, rounds::Plan};

/// Clients of the HTTP benchmarks and of pgbench.
const CLIENTS: usize = 32;

/// Something that can be measured.
pub(crate) struct Benchmark {
    /// Its name, for filters.
    pub(crate) name: &'static str,
    /// The subject, for people.
    pub(crate) about: &'static str,
    /// Measures it.
    pub(crate) run: fn(&Plan) -> LocalBoxFuture<'_, Result<Vec<Figure>>>,
}

/// All benchmarks.
pub(crate) const ALL: &[Benchmark] = &[
    Benchmark {
        name: "plugin-call",
        about: "Plugin calls through the engine, and bare wasmtime calls of the same component",
        run: |plan| plugin_call::run(plan).boxed_local(),
    },
    Benchmark {
        name: "revisions",
        about: "Plugins dropped in, swapped and rolled back under load, started warm, and spinning",
        run: |plan| revisions::run(plan).boxed_local(),
    },
    Benchmark {
        name: "mock-validate",
        about: "POST /mock/etsy/validate, and a bare axum handler",
        run: |plan| mock_validate::run(plan).boxed_local(),
    },
    Benchmark {
        name: "imports",
        about: "First imports and repeated ones, and pgbench with the same statements",
        run: |plan| imports::run(plan).boxed_local(),
    },
    Benchmark {
        name: "sync-status",
        about: "The status of a store with 100,000 logs, and of one with 100",
        run: |plan| sync_status::run(plan).boxed_local(),
    },
    Benchmark {
        name: "sync-runs",
        about: "Due logs of 100 stores, asked about again by one worker process",
        run: |plan| sync_runs::run(plan).boxed_local(),
    },
    Benchmark {
        name: "callbacks",
        about: "Events in the outbox, sent to a receiver by one worker process",
        run: |plan| callbacks::run(plan).boxed_local(),
    },
];

/// Tells how the machine was shared while a load ran against a process that used `cpu` meanwhile.
fn shares(load: &Load, cpu: std::time::Duration) -> String {
    let per_request = cpu.as_secs_f64() * 1e6 / load.answers as f64;
    format!(
        "{per_request:.0} us of processor time each; the clients used {:.0} % of one",
        load.client_share * 100.0
    )
}
