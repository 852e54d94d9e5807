//! Plugin calls through the engine, beside bare wasmtime calls of the same component.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream::FuturesUnordered};
use wharf_domain::{
    Answer, Clock, Currency, ExternalStoreId, OrganizationId, Receipt, SystemClock,
};
use wharf_engine::{Engine, EngineSettings, ValidateRequest};

use self::bare::Bare;
use crate::{
    report::{Direction, Figure},
    rounds::{Pairs, Plan},
    site::plugins_dir,
    usage,
};

/// Calls at a time where they may overlap: a plugin's share of the host.
const AT_A_TIME: usize = 16;
/// Calls between two looks at the clock.
const BATCH: u32 = 64;

pub(crate) async fn run(plan: &Plan) -> Result<Vec<Figure>> {
    let component = fs::read(plugins_dir().join("etsy.wasm"))
        .context("plugins/etsy.wasm: `cargo xtask plugins`")?;
    let bare = Bare::new(&component).map_err(of_wasmtime)?;
    let engine = Engine::start(EngineSettings::in_memory())?;
    engine.load("etsy", component).await?;
    let (mut alone, mut cpu, mut together) = (Pairs::default(), Pairs::default(), Pairs::default());
    for _ in 0..plan.rounds {
        let (bare_us, bare_cpu_us) = one_at_a_time(plan.turn / 2, async || {
            bare.validate().await.map_err(of_wasmtime)
        })
        .await?;
        let (engine_us, _) = one_at_a_time(plan.turn / 2, async || ask(&engine).await).await?;
        alone.push(engine_us, bare_us);
        cpu.push(overlapping(plan.turn / 2, &engine).await?.1, bare_cpu_us);
        together.push(
            overlapping(plan.turn / 2, &engine).await?.0,
            bare.on_all_processors(plan.turn / 2).map_err(of_wasmtime)?,
        );
    }
    Ok(vec![
        Figure::beside(
            "plugin call, processor time",
            &cpu,
            "us",
            "bare wasmtime",
            Direction::RatioAtMost(1.5),
        )
        .with_note("calls overlap; gates, limits, checks and tasks included"),
        Figure::beside(
            "plugin call, one at a time",
            &alone,
            "us",
            "bare wasmtime",
            Direction::Open,
        )
        .with_note("from thread to thread and back: guests have threads of their own"),
        Figure::beside(
            "plugin calls, 16 at a time",
            &together,
            "calls/s",
            "bare wasmtime",
            Direction::RatioAtLeast(0.6),
        )
        .with_note("all processors"),
    ])
}

/// Its errors are of a type of their own.
fn of_wasmtime(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

/// Asks `etsy` about a receipt that it accepts.
pub(super) async fn ask(engine: &Engine) -> Result<()> {
    let answer = engine
        .validate("etsy", &organization()?, request("order-101")?)
        .await
        .result?;
    ensure!(
        matches!(answer, Answer::Accepted(_)),
        "the adapter says {answer:?}"
    );
    Ok(())
}

pub(super) fn organization() -> Result<OrganizationId> {
    Ok(OrganizationId::parse("bench")?)
}

pub(super) fn request(receipt: &str) -> Result<ValidateRequest> {
    Ok(ValidateRequest {
        receipt: Receipt::parse(receipt)?,
        currency: Currency::parse("USD")?,
        external_store_id: ExternalStoreId::parse("store-1")?,
        now: SystemClock.now(),
        access_token: None,
        store_id: None,
    })
}

/// The time and the processor time of a call, in microseconds.
async fn one_at_a_time(span: Duration, call: impl AsyncFn() -> Result<()>) -> Result<(f64, f64)> {
    let (began, cpu) = (Instant::now(), usage::own_cpu()?);
    let mut calls = 0;
    while began.elapsed() < span {
        for _ in 0..BATCH {
            call().await?;
        }
        calls += BATCH;
    }
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(calls);
    Ok((micros(began.elapsed()), micros(usage::own_cpu()? - cpu)))
}

/// Calls a second, and the processor time of each in microseconds.
async fn overlapping(span: Duration, engine: &Engine) -> Result<(f64, f64)> {
    let (began, cpu) = (Instant::now(), usage::own_cpu()?);
    let mut running: FuturesUnordered<_> = (0..AT_A_TIME).map(|_| ask(engine)).collect();
    let mut calls = 0u32;
    while let Some(ended) = running.next().await {
        ended?;
        calls += 1;
        if began.elapsed() < span {
            running.push(ask(engine));
        }
    }
    let cpu = (usage::own_cpu()? - cpu).as_secs_f64();
    Ok((
        f64::from(calls) / began.elapsed().as_secs_f64(),
        cpu * 1e6 / f64::from(calls),
    ))
}

/// The same component without Wharf: an instance from a pool, a call, and nothing else.
mod bare {
    #![allow(missing_docs, unreachable_pub, reason = "generated code")]

    use std::{
        thread,
        time::{Duration, Instant},
    };

    use wasmtime::{
        Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store,
        component::{Component, HasSelf, Linker, ResourceTable},
        ensure,
    };
    use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

    wasmtime::component::bindgen!({
        path: "../wit/0.1.0",
        world: "marketplace-adapter",
        exports: { default: async },
    });
    use exports::wharf::plugin::adapter::{Request, Verdict};
    use wharf::plugin::{config, log};

    #[derive(Clone)]
    pub(super) struct Bare {
        engine: Engine,
        adapter: MarketplaceAdapterPre<State>,
    }

    /// A context would cost more than the call, and the adapter never asks for it.
    #[derive(Default)]
    struct State {
        wasi: Option<WasiCtx>,
        table: ResourceTable,
    }

    impl WasiView for State {
        fn ctx(&mut self) -> WasiCtxView<'_> {
            let ctx = self.wasi.get_or_insert_with(|| WasiCtx::builder().build());
            WasiCtxView {
                ctx,
                table: &mut self.table,
            }
        }
    }

    impl log::Host for State {
        fn log(&mut self, _level: log::Level, _message: String) {}
    }

    impl config::Host for State {
        fn get(&mut self, _key: String) -> Option<String> {
            None
        }
    }

    impl Bare {
        pub(super) fn new(component: &[u8]) -> Result<Self> {
            let mut pool = PoolingAllocationConfig::new();
            pool.linear_memory_keep_resident(256 * 1024)
                .table_keep_resident(64 * 1024);
            let mut config = Config::new();
            config
                .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
                .concurrency_support(false);
            let engine = Engine::new(&config)?;
            let mut linker = Linker::<State>::new(&engine);
            wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
            log::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
            config::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
            let component = Component::from_binary(&engine, component)?;
            let adapter = MarketplaceAdapterPre::new(linker.instantiate_pre(&component)?)?;
            Ok(Self { engine, adapter })
        }

        pub(super) async fn validate(&self) -> Result<()> {
            let mut store = Store::new(&self.engine, State::default());
            let adapter = self.adapter.instantiate_async(&mut store).await?;
            let request = Request {
                receipt: "order-101".to_owned(),
                currency: "USD".to_owned(),
                external_store_id: "store-1".to_owned(),
                now: "2026-01-01T12:00:00.000Z".to_owned(),
            };
            let verdict = adapter
                .wharf_plugin_adapter()
                .call_validate(&mut store, &request)
                .await?;
            ensure!(
                matches!(verdict, Ok(Verdict::Accepted(_))),
                "the adapter says {verdict:?}"
            );
            Ok(())
        }

        /// Calls a second, with a thread for each processor.
        pub(super) fn on_all_processors(&self, span: Duration) -> Result<f64> {
            let threads = thread::available_parallelism().map_or(2, Into::into);
            let running: Vec<_> = (0..threads)
                .map(|_| {
                    thread::spawn({
                        let bare = self.clone();
                        move || bare.repeatedly(span)
                    })
                })
                .collect();
            let mut rate = 0.0;
            for thread in running {
                rate += thread.join().expect("a call does not panic")?;
            }
            Ok(rate)
        }

        fn repeatedly(&self, span: Duration) -> Result<f64> {
            let began = Instant::now();
            let mut calls = 0u32;
            while began.elapsed() < span {
                for _ in 0..super::BATCH {
                    futures::executor::block_on(self.validate())?;
                }
                calls += super::BATCH;
            }
            Ok(f64::from(calls) / began.elapsed().as_secs_f64())
        }
    }
}
