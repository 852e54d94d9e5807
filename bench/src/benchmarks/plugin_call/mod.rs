//! Plugin calls through the engine, beside bare wasmtime calls of the same component.

mod bare;

use std::{
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{runtime, task::JoinSet};
use uuid::Uuid;
use wharf_domain::{
    AccessToken, AddressPolicy, Answer, Clock, Currency, Event, EventId, ExternalStoreId,
    OrganizationId, Receipt, StoreId, SystemClock,
};
use wharf_egress::{Guard, SystemResolver};
use wharf_engine::{Engine, EngineSettings, ValidateRequest};

use self::bare::{Bare, Upstream};
use crate::{
    report::{Direction, Figure},
    rounds::{Pairs, Plan},
    site::plugins_dir,
    usage,
    wharf::Process,
};

const BARE: &str = "bare wasmtime";

/// Calls at a time where they may overlap: a plugin's share of the host.
const AT_A_TIME: usize = 16;
/// Calls between two looks at the clock.
const BATCH: u32 = 64;

/// What shapers are asked to pass on.
const DATA: &str = r#"{"storeId":"0198c0de-0000-7000-8000-000000000002","imported":100}"#;

pub(crate) async fn run(plan: &Plan) -> Result<Vec<Figure>> {
    let mut figures = adapter(plan).await?;
    figures.push(shaper(plan).await?);
    figures.extend(over_http(plan).await?);
    Ok(figures)
}

fn component(name: &str) -> Result<Vec<u8>> {
    let file = plugins_dir().join(format!("{name}.wasm"));
    fs::read(&file).with_context(|| format!("{}: `cargo xtask plugins`", file.display()))
}

/// Its errors are of a type of their own.
fn of_wasmtime(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

async fn adapter(plan: &Plan) -> Result<Vec<Figure>> {
    let component = component("etsy")?;
    let bare = Bare::adapter(&component, None).map_err(of_wasmtime)?;
    let engine = Engine::start(EngineSettings::in_memory())?;
    engine.load("etsy", component).await?;
    let (mut alone, mut cpu, mut together) = (Pairs::default(), Pairs::default(), Pairs::default());
    let mut note = String::new();
    for _ in 0..plan.rounds {
        let (bare_us, bare_cpu_us) =
            one_at_a_time(plan.turn / 2, async || bare.call().await).await?;
        let (engine_us, _) = one_at_a_time(plan.turn / 2, async || ask(&engine).await).await?;
        alone.push(engine_us, bare_us);
        cpu.push(overlapping(plan.turn / 2, &engine).await?, bare_cpu_us);
        let (rate, us) = with_cpu(|| on_all_processors(plan.turn / 2, &engine))?;
        let (bare_rate, bare_us) = with_cpu(|| bare.on_all_processors(plan.turn / 2))?;
        together.push(rate, bare_rate);
        note = format!("all processors; {us:.1} us of processor time each, bare {bare_us:.1} us");
    }
    let most = Direction::RatioAtMost(1.5);
    Ok(vec![
        Figure::beside("plugin call, processor time", &cpu, "us", BARE, most)
            .with_note("calls overlap; gates, limits and checks included"),
        Figure::beside(
            "plugin call, one at a time",
            &alone,
            "us",
            BARE,
            Direction::Open,
        )
        .with_note("from call to answer"),
        Figure::beside(
            "plugin calls, 16 at a time",
            &together,
            "calls/s",
            BARE,
            Direction::RatioAtLeast(0.6),
        )
        .with_note(note),
    ])
}

async fn shaper(plan: &Plan) -> Result<Figure> {
    let component = component("standard-payload")?;
    let bare = Bare::shaper(&component).map_err(of_wasmtime)?;
    let engine = Engine::start(EngineSettings::in_memory())?;
    engine.load("standard-payload", component).await?;
    let event = event()?;
    let ours = async || {
        engine.shape("standard", &event).await.result?;
        Ok(())
    };
    let (cpu, _) = side_by_side(plan, ours, async || bare.call().await).await?;
    let most = Direction::RatioAtMost(1.5);
    Ok(
        Figure::beside("shaper call, processor time", &cpu, "us", BARE, most)
            .with_note("`standard-payload`, one after the other"),
    )
}

/// A plugin that asks a marketplace in a process of its own, whose time is not counted.
async fn over_http(plan: &Plan) -> Result<[Figure; 2]> {
    let marketplace = Process::bare().await?;
    let base_url = format!("http://{}", marketplace.address()?);
    let component = component("http-marketplace")?;
    let guard = Guard::for_plugins(AddressPolicy::with_loopback());
    let upstream = Upstream {
        base_url: base_url.clone(),
        client: wharf_egress::plugin_client(guard, Arc::new(SystemResolver))?,
    };
    let bare = Bare::adapter(&component, Some(upstream)).map_err(of_wasmtime)?;
    let engine = Engine::start(EngineSettings::in_memory())?;
    let grants = format!(
        "origins = ['{base_url}']\nprivate_networks = ['127.0.0.0/8']\n[config]\nbase_url = '{base_url}'\n\
         marketplace = 'etsy'\n[credentials.marketplace]\nscheme = 'bearer'\ntoken = {{ store = 'access-token' }}\n"
    );
    engine
        .upload("http-marketplace", component, Some(&grants), "bench")
        .await?;
    let ours = async || {
        let request = ValidateRequest {
            access_token: Some(AccessToken::parse("token")?),
            ..request("order-101")?
        };
        ask_with(&engine, "http-marketplace", request).await
    };
    let (cpu, alone) = side_by_side(plan, ours, async || bare.call().await).await?;
    Ok([
        Figure::beside(
            "http-marketplace call, processor time",
            &cpu,
            "us",
            BARE,
            Direction::Open,
        )
        .with_note("one request over loopback, by the same client"),
        Figure::beside(
            "http-marketplace call, one at a time",
            &alone,
            "us",
            BARE,
            Direction::Open,
        )
        .with_note("from call to answer"),
    ])
}

/// The processor time of ours and of bare calls, and their time from call to answer.
async fn side_by_side(
    plan: &Plan,
    ours: impl AsyncFn() -> Result<()>,
    bare: impl AsyncFn() -> Result<()>,
) -> Result<(Pairs, Pairs)> {
    let (mut cpu, mut alone) = (Pairs::default(), Pairs::default());
    for _ in 0..plan.rounds {
        let (bare_us, bare_cpu_us) = one_at_a_time(plan.turn / 2, &bare).await?;
        let (our_us, our_cpu_us) = one_at_a_time(plan.turn / 2, &ours).await?;
        cpu.push(our_cpu_us, bare_cpu_us);
        alone.push(our_us, bare_us);
    }
    Ok((cpu, alone))
}

/// Asks `etsy` about a receipt that it accepts.
pub(super) async fn ask(engine: &Engine) -> Result<()> {
    ask_with(engine, "etsy", request("order-101")?).await
}

async fn ask_with(engine: &Engine, marketplace: &str, request: ValidateRequest) -> Result<()> {
    let answer = engine
        .validate(marketplace, &organization()?, request)
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
        store_id: None,
        request_id: None,
        access_token: None,
    })
}

fn event() -> Result<Event> {
    Ok(Event {
        id: EventId(Uuid::from_u128(1)),
        kind: "sync.completed".to_owned(),
        at: SystemClock.now(),
        organization_id: organization()?,
        store_id: StoreId(Uuid::from_u128(2)),
        data: DATA.to_owned(),
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

/// The processor time of each of the calls that one thread has in flight, in microseconds.
async fn overlapping(span: Duration, engine: &Engine) -> Result<f64> {
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
    Ok(cpu * 1e6 / f64::from(calls))
}

/// Calls a second, and the processor time of each in microseconds.
fn with_cpu(run: impl FnOnce() -> Result<f64>) -> Result<(f64, f64)> {
    let (began, cpu) = (Instant::now(), usage::own_cpu()?);
    let rate = run()?;
    let calls = rate * began.elapsed().as_secs_f64();
    let cpu = usage::own_cpu()? - cpu;
    Ok((rate, cpu.as_secs_f64() * 1e6 / calls))
}

/// Calls a second of callers that take turns on a thread for each processor, as requests of a host do.
fn on_all_processors(span: Duration, engine: &Engine) -> Result<f64> {
    let engine = engine.clone();
    // A thread, because this one drives a runtime already.
    let callers = thread::spawn(move || {
        let runtime = runtime::Builder::new_multi_thread().build()?;
        runtime.block_on(take_turns(span, &engine))
    });
    callers.join().map_err(|_| anyhow!("a caller panicked"))?
}

async fn take_turns(span: Duration, engine: &Engine) -> Result<f64> {
    let (began, mut callers) = (Instant::now(), JoinSet::new());
    for _ in 0..AT_A_TIME {
        let engine = engine.clone();
        callers.spawn(async move {
            let mut calls = 0u32;
            while began.elapsed() < span {
                ask(&engine).await?;
                calls += 1;
                // A call may end without a wait, and the other callers want their turns.
                tokio::task::yield_now().await;
            }
            anyhow::Ok(calls)
        });
    }
    let mut calls = 0;
    while let Some(caller) = callers.join_next().await {
        calls += caller??;
    }
    Ok(f64::from(calls) / began.elapsed().as_secs_f64())
}
